"""What a scope has written and read, and what it must see; and what is known of the servers.

The core keeps both and decides. Here is what it cannot do: ask a server, and wait for one.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from django.db import connections

from replicant import _core
from replicant.connections.tracked import Tracked, tracker_of
from replicant.engines import described, engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant._core import Position

logger = logging.getLogger("replicant")


class Causality(NamedTuple):
    """What one scope must see of one cluster. Ages are in seconds."""

    cluster: str
    """The alias of the primary."""
    position: Position | None
    """What was written, or is required by a token."""
    written: float | None
    """The age of the last write that can only be judged by time."""
    unpublished: bool
    """A write in a transaction that is still open."""
    member: str | None
    """The member last read from; without ``read``, the member to read from first. None if it is not known here."""
    read: float | None
    """The age of the last read from it."""
    known: float = 0.0
    """Since when the position is known: a primary that lacks it later will never have it."""
    received: float = 0.0
    """The age of the receipt of what came from elsewhere: a time pin for what cannot be compared begins there."""
    server: int | None = None
    """The server behind ``member``, as the core numbers it; None if that is not known."""
    left: bool = False
    """The client no longer reads from ``member`` alone: another member may have shown something until ``read``, an age
    that is negative while other requests of the client may still be reading there."""
    doubt: Literal["", "other", "unknown"] = ""
    """The server behind ``member`` is not the one that was read from, or this process does not know it."""
    missed: bool = False
    """A read has waited for the position in vain."""


def current() -> tuple[Causality, ...]:
    """What the scope in force has written and read and must see, cluster by cluster; empty if nothing.

    May ask a primary for its position, on this thread's connection to it, unless an event loop runs here. Never fails
    for that: what cannot be asked is judged by time.
    """
    if asyncio._get_running_loop() is None:
        for primary, asked_at in _core.pending_primaries():
            _core.position_received(primary, query_position(primary), asked_at)
    unpublished = _unpublished()
    found = {
        cluster: Causality(cluster, position, written, False, member, read, server=server, missed=missed)
        for cluster, position, written, member, read, server, missed in _core.causality()
    }
    for primary in unpublished:
        item = found.get(primary, Causality(primary, None, None, False, None, None))
        found[primary] = item._replace(written=0.0, unpublished=True)
    return tuple(found.values())


def _unpublished() -> dict[str, Tracked]:
    """The primaries on which this thread has written in a transaction that is still open."""
    trackers = {connection.alias: tracker_of(connection) for connection in connections.all(initialized_only=True)}
    return {alias: tracker for alias, tracker in trackers.items() if tracker and tracker.unpublished_writers}


def has_written() -> bool:
    """Whether the scope in force wrote, and does not merely bring a token."""
    return _core.has_written() or _has_unpublished()


def _has_unpublished() -> bool:
    # What the code around the scope wrote in the same transaction (a test case, for one) is not the scope's.
    return any(_core.record() in each.unpublished_writers for each in _unpublished().values())


def owes_token() -> bool:
    """Whether the client of the scope in force must be told what the scope must see: the scope wrote, or presented a
    token of its own."""
    return _core.owes_token() or _has_unpublished()


def require(items: Sequence[Causality], *, presented: bool = False) -> None:
    """Add to what the scope in force must see: of the request, or of this thread or task.

    ``presented``: the items come from a token that the scope itself presents, not its client.
    """
    for item in items:
        # A transaction that was open when its token was made may commit at any time: the pin begins with the receipt.
        written = 0.0 if item.unpublished else item.written
        member, read = item.member, item.read
        if read is not None and (item.left or item.doubt):
            member, read = None, 0.0 if item.doubt else max(0.0, read)
        _core.require(
            item.cluster,
            item.position,
            written,
            member,
            read,
            item.known,
            item.received,
            is_same=item.server is not None,
            missed=item.missed,
            presented=presented,
        )
        if member is None and item.member is not None:
            _core.require(item.cluster, member=item.member)


class Session(NamedTuple):
    """What a session with a replica said when it was opened."""

    server: str
    """:attr:`replicant.engines.Sample.run`; empty if it did not say."""
    position: Position | None
    is_other: bool
    """Whether the session was the first to show that another server, or an older one, is behind the alias."""


def connected(connection: BaseDatabaseWrapper) -> Session:
    """Ask a new session with a replica, in one round trip, which server it reached and how far that is.

    An alias may lead to several servers, and a server that was killed may come back older than what it had shown.
    """
    try:
        sample = engine_of(connection).probe(connection)
    except Exception as error:
        logger.debug(
            "%r could not be asked which server it is: %s", connection.alias, described(error, connection.settings_dict)
        )
        return Session("", None, is_other=False)
    changed = _core.observe([(sample.alias, sample.position, sample.asked_at, sample.run)])
    return Session(sample.run, sample.position, is_other=bool(changed))


def serves(connection: BaseDatabaseWrapper, session: Session) -> bool:
    """Whether a statement may be sent on a session: its server has what the scope in force must see.

    Asks the session once more, in one round trip, where what it said when it was opened is not enough.
    """
    if _core.session_serves(connection.alias, *session):
        return True
    try:
        position = engine_of(connection).position(connection)
    except Exception as error:
        logger.debug(
            "%r could not be asked for its position: %s", connection.alias, described(error, connection.settings_dict)
        )
        return False
    return position is not None and _core.session_serves(connection.alias, *session._replace(position=position))


# Called by the core, on a thread that may wait.


def query_position(primary: str) -> Position | None:
    """What the primary has published by now, in one round trip; None if it cannot say."""
    connection = connections[primary]
    try:
        connection.ensure_connection()
        return engine_of(connection).ask_position(connection)
    except Exception as error:  # an InterfaceError is no DatabaseError, and drivers raise errors of their own
        logger.debug("%r could not be asked for its position: %s", primary, described(error, connection.settings_dict))
        return None


def position(replica: str) -> Position | None:
    """What ``replica`` has by now, in one round trip; None if it cannot say."""
    connection = connections[replica]
    try:
        connection.ensure_connection()
        found = engine_of(connection).position(connection)
        return found if _is_present(connection) else None
    except Exception as error:
        logger.debug("%r could not be asked for its position: %s", replica, described(error, connection.settings_dict))
        return None


def wait(replica: str, position: Position, seconds: float) -> Position | None:
    """Wait in one round trip until ``replica`` has ``position``, ``seconds`` at most; what it then has, or None."""
    connection = connections[replica]
    try:
        connection.ensure_connection()
        if not _is_present(connection):
            return None
        found = engine_of(connection).wait(connection, position, seconds)
        # The alias may have moved meanwhile.
        return found if _is_present(connection) else None
    except Exception as error:
        logger.debug("%r could not be waited for: %s", replica, described(error, connection.settings_dict))
        return None


def _is_present(connection: BaseDatabaseWrapper) -> bool:
    """Whether this thread's session is with the server that is behind its alias: a former one speaks for itself alone.

    Django then opens another session for the next request.
    """
    tracker = tracker_of(connection)
    is_present = tracker is None or tracker.is_with_present_server(connection)
    if not is_present:
        connection.close_at = time.monotonic()
    return is_present
