"""Opening a connection: how long it may take, whether it is under way, and what a failure reports of the server."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicant import _core, conf
from replicant.connections import observations, server_map, tracked
from replicant.engines import Failure, described, engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attributes of a connection that hold whether it is being opened, and how many seconds that may take.
_CONNECTING = "_replicant_connecting"
_PATIENCE = "_replicant_connect_seconds"


@contextlib.contextmanager
def connecting(connection: BaseDatabaseWrapper) -> Iterator[None]:
    """Around the opening of a connection: statements that Django sends meanwhile must run on this server only."""
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
    """How long connecting may take, in seconds; None if the driver's own limit applies."""
    cluster = conf.cluster_of(connection.alias)
    seconds: float | None = connection.__dict__.get(_PATIENCE)
    return seconds if cluster is None or seconds is not None else min(cluster.connect, cluster.budget)


@contextlib.contextmanager
def within(connection: BaseDatabaseWrapper, seconds: float) -> Iterator[None]:
    """Limit the opening of the connection to ``seconds``, if the code inside opens it."""
    connection.__dict__[_PATIENCE] = seconds
    try:
        yield
    finally:
        del connection.__dict__[_PATIENCE]


def not_connected(connection: BaseDatabaseWrapper, error: Exception) -> None:
    """Report that a connection could not be opened, if the replica caused the failure."""
    if conf.cluster_of(connection.alias) is not None:
        report_failure(connection, error, is_connecting=True)


def is_out(alias: str) -> bool:
    """Whether the replica is known to be out of service, so that a connection attempt would only fail once more."""
    state = _core.member_state(alias)
    cluster = conf.cluster_of(alias)
    # Without a probe, a replica that refused a connection is ejected until a read may try it.
    return state == "down" or (state == "ejected" and cluster is not None and cluster.probe is None)


def was_pooled(connection: BaseDatabaseWrapper, error: Exception) -> bool:
    """Whether an error ended a pooled connection, which may have been lost before the pool handed it out."""
    return getattr(connection, "pool", None) is not None and kind_of(connection, error) is Failure.ENDED


def kind_of(connection: BaseDatabaseWrapper, error: Exception) -> Failure:
    if isinstance(error, OSError):
        # PyMySQL lets errors of its sockets through.
        return Failure.ENDED
    return engine_of(connection).failure(error)


def report_failure(connection: BaseDatabaseWrapper, error: Exception, *, is_connecting: bool = False) -> None:
    kind = kind_of(connection, error)
    if kind is Failure.GONE or (is_connecting and kind is Failure.ENDED and not was_pooled(connection, error)):
        observations.report(connection.alias, "gone", error=described(error, connection.settings_dict))
    elif kind is Failure.FULL:
        observations.report(connection.alias, "failed", error=described(error, connection.settings_dict))


def close(connection: BaseDatabaseWrapper) -> None:
    # Closing a broken connection may fail.
    with contextlib.suppress(Exception):
        connection.close()
    if not connection.in_atomic_block:
        connection.connection = None
