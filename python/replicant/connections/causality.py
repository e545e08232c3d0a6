"""The writes, reads and required positions of a scope, and the positions of the servers.

The core stores both and decides. This module does what the core cannot: it queries servers and waits for them.
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
    """The state of one cluster that reads of one scope must see. Ages are in seconds."""

    cluster: str
    """The alias of the primary."""
    position: Position | None
    """The position of the scope's writes, or the position that a token requires."""
    written: float | None
    """The age of the last write that can only be judged by time."""
    unpublished: bool
    """Whether the scope has a write in a transaction that is still open."""
    member: str | None
    """The member last read from; without ``read``, the member to read from first. None if this process does not know
    the member."""
    read: float | None
    """The age of the last read from ``member``."""
    known: float = 0.0
    """How long ago the position was known already: a primary that has lacked it since then will never have it."""
    received: float = 0.0
    """How long ago this process received the item: a time pin for a position that cannot be compared begins then."""
    server: int | None = None
    """The core's number of the server behind ``member``; None if that server is not known."""
    left: bool = False
    """Whether the client no longer reads from ``member`` alone: another member may have shown rows to it until
    ``read``. That age is negative while other requests of the client may still be reading there."""
    doubt: Literal["", "other", "unknown"] = ""
    """Whether the server behind ``member`` is not the one that was read from ("other"), or this process does not know
    it ("unknown")."""
    missed: bool = False
    """Whether a read has waited for the position in vain."""


def current() -> tuple[Causality, ...]:
    """The state that the scope in force must see, for each cluster that it wrote to, read from, or has a token for.

    May query a primary for its position, on this thread's connection to it, unless an event loop runs in this thread.
    An error of that query is not raised: writes without a position are judged by time.
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
    """Whether the scope in force wrote. A token alone does not count."""
    return _core.has_written() or _has_unpublished()


def _has_unpublished() -> bool:
    # Writes that the code around the scope (a test case, for example) made in the same transaction do not count.
    return any(_core.record() in each.unpublished_writers for each in _unpublished().values())


def owes_token() -> bool:
    """Whether the response of the scope in force must carry a token: the scope wrote, or presented its own token."""
    return _core.owes_token() or _has_unpublished()


def require(items: Sequence[Causality], *, presented: bool = False) -> None:
    """Add requirements to the scope in force: to the request's scope, or to this thread or task.

    ``presented``: the items come from a token that the scope itself presents, not from its client's token.
    """
    for item in items:
        # A transaction that was open when the token was made may commit at any time: the pin begins with the receipt.
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
    """The results of the probe that ran when a session with a replica was opened."""

    server: str
    """:attr:`replicant.engines.Sample.run`; empty if the probe did not show it."""
    position: Position | None
    is_other: bool
    """Whether this session was the first to show that another server, or an older state, is behind the alias."""


def connected(connection: BaseDatabaseWrapper) -> Session:
    """Query on a new session with a replica, in one round trip, which server it reached and which position that has.

    An alias may lead to several servers, and a server that was killed may come back older than the rows that it showed
    before.
    """
    try:
        sample = engine_of(connection).probe(connection)
    except Exception as error:
        logger.debug(
            "Cannot query which server %r reached: %s", connection.alias, described(error, connection.settings_dict)
        )
        return Session("", None, is_other=False)
    changed = _core.observe([(sample.alias, sample.position, sample.asked_at, sample.run)])
    return Session(sample.run, sample.position, is_other=bool(changed))


def serves(connection: BaseDatabaseWrapper, session: Session) -> bool:
    """Whether a statement may be sent on a session: its server has the position that the scope in force requires.

    If the position from the session's start is not enough, queries the position again, in one round trip.
    """
    if _core.session_serves(connection.alias, *session):
        return True
    try:
        position = engine_of(connection).position(connection)
    except Exception as error:
        logger.debug(
            "Cannot query the position of %r: %s", connection.alias, described(error, connection.settings_dict)
        )
        return False
    return position is not None and _core.session_serves(connection.alias, *session._replace(position=position))


# The core calls these functions, on a thread that may wait.


def query_position(primary: str) -> Position | None:
    """The position that the primary has published by now, in one round trip; None if the query fails."""
    connection = connections[primary]
    try:
        connection.ensure_connection()
        return engine_of(connection).ask_position(connection)
    except Exception as error:  # an InterfaceError is no DatabaseError, and drivers raise errors of their own
        logger.debug("Cannot query the position of %r: %s", primary, described(error, connection.settings_dict))
        return None


def position(replica: str) -> Position | None:
    """The position that ``replica`` has by now, in one round trip; None if the query fails."""
    connection = connections[replica]
    try:
        connection.ensure_connection()
        found = engine_of(connection).position(connection)
        return found if _is_present(connection) else None
    except Exception as error:
        logger.debug("Cannot query the position of %r: %s", replica, described(error, connection.settings_dict))
        return None


def wait(replica: str, position: Position, seconds: float) -> Position | None:
    """Wait in one round trip, at most ``seconds``, until ``replica`` has ``position``.

    Returns the position that the replica has then; None if the query fails.
    """
    connection = connections[replica]
    try:
        connection.ensure_connection()
        if not _is_present(connection):
            return None
        found = engine_of(connection).wait(connection, position, seconds)
        # Another server may be behind the alias by now.
        return found if _is_present(connection) else None
    except Exception as error:
        logger.debug("Cannot wait for %r: %s", replica, described(error, connection.settings_dict))
        return None


def _is_present(connection: BaseDatabaseWrapper) -> bool:
    """Whether this thread's session is with the server that is now behind its alias.

    The position of a former server says nothing about the alias. If the session is with a former one, Django opens
    another session for the next request.
    """
    tracker = tracker_of(connection)
    is_present = tracker is None or tracker.is_with_present_server(connection)
    if not is_present:
        connection.close_at = time.monotonic()
    return is_present
