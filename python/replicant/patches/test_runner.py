"""A run of tests: what a test may use, and how clusters behave whose replicas are mirrors.

Django forbids a test every alias that its ``databases`` does not list, so a replica that is not listed must not be
chosen. A mirror that is listed shares the primary's connection (:mod:`replicant.connections.shared_connection`): it is
never behind, so nothing is pinned, probed or waited for, and when no replica is listed the primary serves.

All of this hangs on methods that only Django's test machinery calls. It puts other clusters in force than the settings
have, so that a decision costs in tests what it costs elsewhere, and nothing is asked in production.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.db.backends.base.creation import BaseDatabaseCreation
from django.db.utils import ConnectionHandler

from replicant import _core, conf, under_test
from replicant.connections import shared_connection
from replicant.connections.tracker import track
from replicant.under_test import stand_ins

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: What the test classes that are set up allow, the innermost last.
_allowed: list[frozenset[str]] = []
#: The primary of each replica that shares its connection.
_mirrored: dict[str, str] = {}


def adapted(cluster: conf.Cluster) -> conf.Cluster:
    """A cluster as it is to be in force: unchanged, unless tests run."""
    if not under_test.databases_are_tests and not _allowed:
        return cluster
    allowed = _allowed[-1] if _allowed else None
    members = (cluster.primary, *dict(cluster.replicas))
    forbidden = [alias for alias in members if allowed is not None and alias not in allowed]
    are_mirrors = all(alias in _mirrored or alias in forbidden for alias in dict(cluster.replicas))
    # Not those that replicant.testing has behind: they are to be judged as real ones are.
    if are_mirrors and cluster.primary not in stand_ins:
        return dataclasses.replace(
            cluster,
            consistent=False,
            has_positions=False,
            on_unavailable="primary",
            primary_spill=1.0,
            probe=None,
            forbidden=forbidden,
            are_mirrors=True,
        )
    # Tests that use real replicas get what those do.
    return dataclasses.replace(cluster, forbidden=forbidden)


def mirror_of(alias: str) -> str:
    """The alias at the end of a chain of mirrors."""
    seen = set()
    while alias not in seen and (mirror := connections.settings[alias]["TEST"]["MIRROR"]) in connections.settings:
        seen.add(alias)
        alias = mirror
    return alias


def _begin() -> None:
    """Test databases are about to take the place of the real ones."""
    under_test.databases_are_tests = True
    _wrap_test_cases()
    _mirror()
    monitor = sys.modules.get("replicant.monitor.cluster_monitor")
    if monitor is not None:
        # Whoever has a connection to a database keeps it from being dropped.
        monitor.stop()


def _mirror() -> None:
    """Find the replicas that are mirrors, have them share this thread's connections, and decide anew."""
    global _mirrored
    clusters, _ = conf.read()
    _mirrored = {
        alias: cluster.primary
        for cluster in clusters
        for alias, _ in cluster.replicas
        if mirror_of(alias) == cluster.primary
    }
    for alias, primary in _mirrored.items():
        connection = connections[alias]
        if not shared_connection.is_shared(connection):
            connection.close()
            connections[alias] = _shared(connection)
        # In the workers of --parallel Django does not do this for a mirror that no test lists.
        connection.creation.set_as_test_mirror(connections[primary].settings_dict)
    _core.invalidate()


def _shared(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    primary = connections[_mirrored[connection.alias]]
    mirror = shared_connection.mirrored(connection, primary)
    # No signal tells of its opening.
    track(mirror)
    # A test case ends its transaction through whichever of its aliases came first.
    track(primary).follow(mirror, primary)
    return mirror


# What of Django is wrapped.


def install() -> None:
    """Notice when tests begin. To be called once in a process."""
    _wrap(BaseDatabaseCreation, "create_test_db", _creating)
    _wrap(ConnectionHandler, "create_connection", _connecting)
    # pytest-django imports the test cases only when it sets up the first.
    if sys.modules.keys() & {"django.test.testcases", "pytest"}:
        _wrap_test_cases()


def _wrap(owner: Any, name: str, wrapper: Any) -> None:
    method = getattr(owner, name)

    @functools.wraps(method)
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        return wrapper(functools.partial(method, self), self, *args, **kwargs)

    setattr(owner, name, wrapped)


def _creating(create: Any, self: BaseDatabaseCreation, *args: Any, **kwargs: Any) -> Any:
    _begin()
    return create(*args, **kwargs)


def _connecting(create: Any, self: ConnectionHandler, alias: str) -> Any:
    """A thread's first look at an alias."""
    if not _wrapped and "django.test.testcases" in sys.modules:
        _wrap_test_cases()
    connection = create(alias)
    if self is connections and alias in _mirrored:
        return _shared(connection)
    return connection


_wrapped = False


def _wrap_test_cases() -> None:
    global _wrapped
    if _wrapped:
        return
    _wrapped = True
    from django.test.testcases import SimpleTestCase

    forbid = SimpleTestCase.__dict__["_add_databases_failures"].__func__
    permit = SimpleTestCase.__dict__["_remove_databases_failures"].__func__

    @functools.wraps(forbid)
    def forbidding(cls: type[Any]) -> None:
        # Before: what is put in the way of a connection object is to stay there.
        _mirror()
        forbid(cls)
        _allowed.append(frozenset(cls.databases))
        _core.invalidate()

    @functools.wraps(permit)
    def permitting(cls: type[Any]) -> None:
        permit(cls)
        if _allowed:
            _allowed.pop()
        _core.invalidate()

    SimpleTestCase._add_databases_failures = classmethod(forbidding)  # type: ignore[attr-defined]
    SimpleTestCase._remove_databases_failures = classmethod(permitting)  # type: ignore[attr-defined]
