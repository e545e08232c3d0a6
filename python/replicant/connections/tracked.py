"""The recorded state of the session behind a connection, for modules below :mod:`replicant.connections.tracker`."""

from __future__ import annotations

from collections.abc import Set
from typing import TYPE_CHECKING, Protocol

from replicant.connections.session_changes import SessionChanges

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant import _core

#: The attribute of a connection that holds its tracker. The core reads it, too (``src/python/transactions.rs``).
TRACKER = "_replicant_tracker"
#: The attribute of a connection that records an unknown change of its session.
_MARK = "_replicant_customised"


class Tracked(Protocol):
    """The part of a :class:`replicant.connections.tracker.Tracker` that other modules use."""

    in_text_transaction: bool
    session: SessionChanges | None

    @property
    def unpublished_writers(self) -> Set[_core.Record]: ...

    def is_with_present_server(self, connection: BaseDatabaseWrapper) -> bool: ...

    def send_what_was_put_off(self, connection: BaseDatabaseWrapper) -> None: ...


def tracker_of(connection: BaseDatabaseWrapper) -> Tracked | None:
    """The tracker of a connection, or of a proxy for one (``django.db.connection``); None if it has none."""
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
    """Record a statement that may have left any state in the session: a procedure, or on a replica not a plain read."""
    connection.__dict__[_MARK] = True


def begins(connection: BaseDatabaseWrapper) -> None:
    """Clear the mark when a session was opened: statements that every new session gets do not count."""
    connection.__dict__.pop(_MARK, None)
