"""What a scope has written and read, and what it must see; and what is known of the servers.

The core keeps both and decides. Here is what it cannot do: ask a server, and wait for one.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from django.db import connections

from replicant import _core
from replicant.engines import described, engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant._core import Position
    from replicant.engines import Sample
    from replicant.tracking import Tracker

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
    """The member last read from; None if it is not known here."""
    read: float | None
    """The age of the last read from it."""
    known: float = 0.0
    """Since when the position is known: a primary that lacks it later will never have it."""


def current() -> tuple[Causality, ...]:
    """What the scope in force has written and read and must see, cluster by cluster; empty if nothing.

    May ask a primary for its position, on this thread's connection to it, unless an event loop runs here. Never fails
    for that: what cannot be asked is judged by time.
    """
    if asyncio._get_running_loop() is None:
        for primary, asked_at in _core.unasked():
            _core.asked(primary, ask(primary), asked_at)
    unpublished = _unpublished()
    found = {item[0]: Causality(item[0], item[1], item[2], False, item[3], item[4]) for item in _core.causality()}
    for primary in unpublished:
        item = found.get(primary, Causality(primary, None, None, False, None, None))
        found[primary] = item._replace(written=0.0, unpublished=True)
    return tuple(found.values())


def _unpublished() -> dict[str, Tracker]:
    """The primaries on which this thread has written in a transaction that is still open."""
    trackers = {
        connection.alias: connection.__dict__.get("_replicant_tracker")
        for connection in connections.all(initialized_only=True)
    }
    return {alias: tracker for alias, tracker in trackers.items() if tracker and tracker.unpublished_writers}


def has_written() -> bool:
    """Whether the scope in force wrote, and does not merely bring a token."""
    # Not what the code around wrote in the same transaction: a test case, for one.
    return _core.has_written() or any(_core.record() in each.unpublished_writers for each in _unpublished().values())


def require(items: Sequence[Causality]) -> None:
    """Add to what the scope in force must see: of the request, or of this thread or task."""
    for item in items:
        # Nobody knows when a transaction that was open then commits: the time begins when its token arrives.
        written = 0.0 if item.unpublished else item.written
        _core.require(item.cluster, item.position, written, item.member, item.read, item.known)


def observe(samples: Sequence[Sample]) -> None:
    """Take in what the monitor found."""
    changed = _core.observe(
        [
            (sample.alias, sample.position, sample.asked_at, sample.latency, sample.server)
            for sample in samples
            # A primary that takes no writes is not where writes are counted.
            if sample.error is None and (sample.is_writable or _core.role(sample.alias) != "primary")
        ]
    )
    for alias in changed:
        logger.info("Another server answers to %r, or the same one has been restarted.", alias)


def connected(connection: BaseDatabaseWrapper) -> None:
    """A new session with a replica, in one round trip: which server is it, and how far?

    An alias may lead to several servers, and a server that was killed may come back older than what it had shown.
    """
    try:
        sample = engine_of(connection).probe(connection)
    except Exception as error:
        logger.debug(
            "%r could not be asked who it is: %s", connection.alias, described(error, connection.settings_dict)
        )
        return
    for alias in _core.observe([(sample.alias, sample.position, sample.asked_at, None, sample.server)]):
        _core.distrust(alias)


# Called by the core, on a thread that may wait.


def ask(primary: str) -> Position | None:
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
        return engine_of(connection).position(connection)
    except Exception as error:
        logger.debug("%r could not be asked for its position: %s", replica, described(error, connection.settings_dict))
        return None


def wait(replica: str, position: Position, seconds: float) -> Position | None:
    """Wait in one round trip until ``replica`` has ``position``, ``seconds`` at most; what it then has, or None."""
    connection = connections[replica]
    try:
        connection.ensure_connection()
        return engine_of(connection).wait(connection, position, seconds)
    except Exception as error:
        logger.debug("%r could not be waited for: %s", replica, described(error, connection.settings_dict))
        return None
