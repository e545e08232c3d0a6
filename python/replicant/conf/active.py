"""The settings that are in force. Only this module reads ``settings.REPLICANT``.

Settings are read late and checked once: :func:`read` turns them into clusters and problems, which
:mod:`replicant.checks` reports and :func:`load` raises. Everything that was built from the settings is dropped when a
setting changes, so that ``override_settings`` takes effect at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections

from replicant import _core
from replicant.conf.cluster import Cluster
from replicant.conf.reader import check
from replicant.conf.validators import Problem


def read() -> tuple[list[Cluster], list[Problem]]:
    """Read the settings: the clusters, as far as they are understandable, and all problems."""
    return check(merged(_reloaded), connections.settings)


#: The argument of the latest :func:`replicant.reload`: it overrides the settings, key by key.
_reloaded: Mapping[str, Any] = {}


def merged(clusters: Mapping[str, Any]) -> Any:
    """The clusters of the settings, with the keys in ``clusters`` overriding theirs."""
    value = getattr(settings, "REPLICANT", {})
    if not clusters or not isinstance(value, Mapping):
        return value
    result = dict(value)
    for primary, cluster in clusters.items():
        before = result.get(primary)
        if isinstance(before, Mapping) and isinstance(cluster, Mapping):
            cluster = {**before, **cluster}
        result[primary] = cluster
    return result


def lay_over(clusters: Mapping[str, Any]) -> None:
    """Let these clusters override those of the settings, until the next call or a change of the settings."""
    global _reloaded
    _reloaded = clusters


#: The primary of each guarded replica (its sessions are read-only).
_guarded: dict[str, str] = {}
_clusters: tuple[Cluster, ...] = ()
#: The cluster of each replica.
_cluster_of: dict[str, Cluster] = {}
_by_primary: dict[str, Cluster] = {}
#: The generation of the configuration that the clusters above were read for.
_read_under = -1


@dataclass(frozen=True)
class Rooms:
    """The actions of the higher subpackages when settings come into force. :mod:`replicant.wiring` defines them."""

    prepare: Callable[[], None] = lambda: None
    """Called each time before settings come into force, after they were found to be valid."""
    adapt: Callable[[list[Cluster]], list[Cluster]] = lambda clusters: clusters
    """Returns the clusters that come into force instead of those of the settings."""
    apply: Callable[[Sequence[Cluster]], None] = lambda clusters: None
    """Called with the clusters that are in force now."""
    forget: Callable[[], None] = lambda: None
    """Called when settings have changed: members that were found at run time belonged to the former clusters."""


_rooms = Rooms()


def wire(rooms: Rooms) -> None:
    """Register the functions to call when settings come into force. Called once, when the package is imported."""
    global _rooms
    _rooms = rooms


def in_force() -> tuple[Cluster, ...]:
    """The clusters from the latest reading of the settings."""
    return _clusters


def load() -> None:
    """Put the settings in force. Raises ``ImproperlyConfigured`` with the text of ``manage.py check``."""
    # Two threads may load at the same time. The settings in this module and in the core must be the same.
    while not _load():
        pass


def _load() -> bool:
    """Returns False if another configuration came into force in the meantime."""
    global _guarded, _clusters, _cluster_of, _by_primary, _read_under
    generation = _core.generation()
    clusters, problems = read()
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        raise ImproperlyConfigured("\n".join(str(problem) for problem in errors))
    _rooms.prepare()
    if generation < _read_under:
        # Another thread has read the settings since, after a change: the configuration in force is newer.
        return True
    _read_under = generation
    clusters = _rooms.adapt(clusters)
    _guarded = {alias: cluster.primary for cluster in clusters if cluster.guard for alias, _ in cluster.replicas}
    _clusters = tuple(clusters)
    _cluster_of = {alias: cluster for cluster in clusters for alias, _ in cluster.replicas}
    _by_primary = {cluster.primary: cluster for cluster in clusters}
    _rooms.apply(clusters)
    # If settings have changed in the meantime, the next decision reads them again.
    return _core.configure(clusters, generation)


def cluster_of(replica: str) -> Cluster | None:
    """The cluster of ``replica``, from the latest reading of the settings."""
    return _cluster_of.get(replica)


def serving_late(primary: str) -> Cluster | None:
    """The cluster of ``primary``, from the latest reading of the settings, if its replicas serve stale data while the
    primary is down."""
    cluster = _by_primary.get(primary)
    return cluster if cluster is not None and cluster.on_unavailable == "replica" else None


def carried_from(primary: str) -> frozenset[str]:
    """The session settings that are copied from sessions with ``primary`` to sessions with its replicas."""
    cluster = _by_primary.get(primary)
    return frozenset() if cluster is None else cluster.session_state


def carried_to(replica: str) -> tuple[str, frozenset[str]]:
    """The primary of ``replica``, and the session settings that are copied from the primary's sessions."""
    cluster = _cluster_of.get(replica)
    return ("", frozenset()) if cluster is None else (cluster.primary, cluster.session_state)


def has_positions(primary: str) -> bool:
    """Whether writes on ``primary`` are judged by position."""
    cluster = _by_primary.get(primary)
    return cluster is not None and cluster.has_positions


def pin_seconds(primary: str) -> float:
    """``PIN_SECONDS`` of the cluster of ``primary``."""
    cluster = _by_primary.get(primary)
    return 0.0 if cluster is None else cluster.pin


def is_consistent(primary: str) -> bool:
    """Whether later reads depend on the writes on ``primary``."""
    cluster = _by_primary.get(primary)
    return cluster is not None and cluster.consistent


def remembers_reads(alias: str) -> bool:
    """Whether a thread or task without an open scope must remember that it has read from ``alias``."""
    cluster = _cluster_of.get(alias) or _by_primary.get(alias)
    if cluster is None or not (cluster.consistent and cluster.sticky):
        return False
    return alias != cluster.primary or cluster.primary_weight > 0


def is_judged_by_position(replica: str) -> bool:
    """Whether ``replica`` serves a scope only when it is known to have the position that the scope requires."""
    cluster = _cluster_of.get(replica)
    return cluster is not None and cluster.has_positions


def is_replica_of(alias: str, primary: str) -> bool:
    """Whether ``alias`` and ``primary`` are members of one cluster, in these roles."""
    # This call makes the core load the settings if they are not loaded yet.
    if _core.role(alias) != "replica":
        return False
    cluster = _cluster_of.get(alias)
    return cluster is not None and cluster.primary == primary


def is_guarded(alias: str) -> bool:
    """Whether ``alias`` is a guarded replica (its sessions must be read-only)."""
    return _core.role(alias) == "replica" and alias in _guarded


def primary_of(guarded: str) -> str | None:
    """The alias of the primary of a guarded replica; None if ``guarded`` is no longer such a replica."""
    return _guarded.get(guarded)


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting in {"REPLICANT", "DATABASES"}:
        lay_over({})
        _rooms.forget()
    # CACHES matters because the tables of the database cache are exempt.
    if setting in {"REPLICANT", "DATABASES", "INSTALLED_APPS", "CACHES"}:
        _core.invalidate()


setting_changed.connect(_changed, dispatch_uid="replicant.conf")
