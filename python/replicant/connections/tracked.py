"""What is known of the session behind a connection, for the modules below :mod:`replicant.connections.tracker`."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Protocol

from replicant.connections.session_changes import SessionChanges

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant import _core

#: Where a connection keeps its tracker. The core looks there, too (``src/python/transactions.rs``).
TRACKER = "_replicant_tracker"
#: Where a connection keeps that something unknown was done to its session.
_MARK = "_replicant_customised"


class Tracked(Protocol):
    """What other modules use of a :class:`replicant.connections.tracker.Tracker`."""

    in_text_transaction: bool
    session: SessionChanges | None

    @property
    def unpublished_writers(self) -> Set[_core.Record]: ...

    def is_with_present_server(self, connection: BaseDatabaseWrapper) -> bool: ...

    def send_what_was_put_off(self, connection: BaseDatabaseWrapper) -> None: ...


def tracker_of(connection: BaseDatabaseWrapper) -> Tracked | None:
    """The tracker of a connection, or of what stands for one (``django.db.connection``); None if it has none."""
    tracker: Tracked | None = getattr(connection, TRACKER, None)
    return tracker


def session_differs(connection: BaseDatabaseWrapper) -> bool:
    """Whether the session behind ``connection`` has settings, locks or temporary tables that a new one would lack.

    Such a session is never replaced silently: a lock would be gone, and statements would mean something else.
    """
    if getattr(connection, _MARK, False):
        return True
    tracker = tracker_of(connection)
    return tracker is not None and tracker.session is not None and tracker.session.differs


def mark(connection: BaseDatabaseWrapper) -> None:
    """Something was executed that may have left anything in the session: a procedure, or on a replica no plain read."""
    connection.__dict__[_MARK] = True


def begins(connection: BaseDatabaseWrapper) -> None:
    """A session was opened. What is done to every new session is done to the next one, too."""
    connection.__dict__.pop(_MARK, None)
