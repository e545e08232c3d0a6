"""Test runs: the aliases that a test may use, and the behaviour of clusters with mirrors as replicas.

Django forbids a test every alias that its ``databases`` does not list, so that a replica that is not listed must not be
chosen. A mirror that is listed shares the primary's connection (:mod:`replicant.connections.shared_connection`): it is
never behind, so that nothing is pinned, probed or waited for. If no replica is listed, the primary serves the reads.

All of this is attached to methods that only Django's test machinery calls. It brings clusters into force that differ
from the settings, so that a decision costs the same in tests as elsewhere, and production code needs no check.
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

#: The aliases that the active test classes allow, the innermost class last.
_allowed: list[frozenset[str]] = []
#: The primary of each mirror (a replica that shares the primary's connection).
_mirrored: dict[str, str] = {}


def adapted(cluster: conf.Cluster) -> conf.Cluster:
    """The cluster that comes into force: unchanged, unless tests run."""
    if not under_test.databases_are_tests and not _allowed:
        return cluster
    allowed = _allowed[-1] if _allowed else None
    members = (cluster.primary, *dict(cluster.replicas))
    forbidden = [alias for alias in members if allowed is not None and alias not in allowed]
    are_mirrors = all(alias in _mirrored or alias in forbidden for alias in dict(cluster.replicas))
    # Mirrors that lag virtually (replicant.testing) are excepted: they must be judged as real replicas are.
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
    # Tests that use real replicas keep the behaviour of the settings.
    return dataclasses.replace(cluster, forbidden=forbidden)


def mirror_of(alias: str) -> str:
    """The alias at the end of a chain of mirrors."""
    seen = set()
    while alias not in seen and (mirror := connections.settings[alias]["TEST"]["MIRROR"]) in connections.settings:
        seen.add(alias)
        alias = mirror
    return alias


def _begin() -> None:
    """Prepare for the moment at which test databases replace the real ones."""
    under_test.databases_are_tests = True
    _wrap_test_cases()
    _mirror()
    monitor = sys.modules.get("replicant.monitor.cluster_monitor")
    if monitor is not None:
        # An open connection of the monitor would prevent the drop of a database.
        monitor.stop()


def _mirror() -> None:
    """Find the replicas that are mirrors, let them share this thread's connections, and reload the configuration."""
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
        # In the workers of --parallel, Django omits this call for a mirror that no test lists.
        connection.creation.set_as_test_mirror(connections[primary].settings_dict)
    _core.invalidate()


def _shared(connection: BaseDatabaseWrapper) -> BaseDatabaseWrapper:
    primary = connections[_mirrored[connection.alias]]
    mirror = shared_connection.mirrored(connection, primary)
    # Tracked here, because no signal is sent when a mirror opens.
    track(mirror)
    # A test case may end its transaction through any of its aliases.
    track(primary).follow(mirror, primary)
    return mirror


# The wrappers of Django's methods.


def install() -> None:
    """Wrap the methods that show the beginning of a test run. Called once in a process."""
    _wrap(BaseDatabaseCreation, "create_test_db", _creating)
    _wrap(ConnectionHandler, "create_connection", _connecting)
    # pytest-django imports the test cases only when it sets up the first one.
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
    """Create the connection object at a thread's first access to an alias."""
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
        # Mirrors are set up first, because Django's failure methods must stay on the connection objects.
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
