"""Opening a connection: how long it may take, whether it is under way, and what its failure says of the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicant import _core, conf
from replicant.connections import observations, server_map, tracked
from replicant.engines import Failure, described, engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a connection keeps that it is being opened, and for how many seconds that may take.
_CONNECTING = "_replicant_connecting"
_PATIENCE = "_replicant_connect_seconds"


@contextlib.contextmanager
def connecting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Around the opening of a connection, whose own statements concern that server and no other."""
    own = connection.__dict__
    own[_CONNECTING] = True
    server_map.note_outage(connection)
    try:
        yield
    finally:
        del own[_CONNECTING]
        tracked.begins(connection)


def is_connecting(connection: BaseDatabaseWrapper) -> bool:
    """Whether the connection is being opened for Django, not for the monitor."""
    return _CONNECTING in connection.__dict__


def connect_seconds(connection: BaseDatabaseWrapper) -> float | None:
    """How long connecting may take; None if the driver's own limit applies."""
    cluster = conf.cluster_of(connection.alias)
    seconds: float | None = connection.__dict__.get(_PATIENCE)
    return seconds if cluster is None or seconds is not None else min(cluster.connect, cluster.budget)


@contextlib.contextmanager
def within(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Have the connection, if it is opened inside, opened within so many seconds."""
    connection.__dict__[_PATIENCE] = seconds
    try:
        yield
    finally:
        del connection.__dict__[_PATIENCE]


def not_connected(connection: BaseDatabaseWrapper, error: Exception) -> None:
    """A connection could not be opened: if it is the replica's fault, that is told."""
    if conf.cluster_of(connection.alias) is not None:
        report_failure(connection, error, is_connecting=True)


def is_out(alias: str) -> bool:
    """Whether the replica is known to be out of service, so that a connection attempt would only fail once more."""
    state = _core.member_state(alias)
    cluster = conf.cluster_of(alias)
    # With no probe, one that refused rests as an ejected one does, until a read may try it.
    return state == "down" or (state == "ejected" and cluster is not None and cluster.probe is None)


def was_pooled(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether an error ended a connection that may have been lost before it was asked for."""
    return getattr(connection, "pool", None) is not None and kind_of(connection, error) is Failure.ENDED


def kind_of(connection: BaseDatabaseWrapper, error: Exception) -> Failure:
    if isinstance(error, OSError):
        # PyMySQL's sockets, now and then.
        return Failure.ENDED
    return engine_of(connection).failure(error)


def report_failure(connection: BaseDatabaseWrapper, error: Exception, *, is_connecting: bool = False) -> None:
    kind = kind_of(connection, error)
    if kind is Failure.GONE or (is_connecting and kind is Failure.ENDED and not was_pooled(connection, error)):
        observations.report(connection.alias, "gone", error=described(error, connection.settings_dict))
    elif kind is Failure.FULL:
        observations.report(connection.alias, "failed", error=described(error, connection.settings_dict))


def close(connection: BaseDatabaseWrapper) -> None:
    # One that is broken may not be closed in an orderly way.
    with contextlib.suppress(Exception):
        connection.close()
    if not connection.in_atomic_block:
        connection.connection = None
