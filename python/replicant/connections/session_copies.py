"""The settings of ``SESSION_STATE``: copied from this thread's session with the primary to its session with a replica.

A replica's session gets them before a read, once for each change, and gets its own values back when the primary's
session has them no more. They are read from the primary's session in one round trip, when a read needs them for the
first time. The driver's cursor sends them: the user's query log does not show it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections

from replicant.connections.tracked import tracker_of
from replicant.engines import engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a driver's connection (a pool hands it out again) keeps what was copied to it, or else Django's connection.
_ATTRIBUTE = "_replicant_carried"


class _Carried:
    """What was copied to one session with a replica."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        #: The number of the primary's state that it was copied from; 0 for a session that was not changed, None if a
        #: rollback may have taken it back.
        self.number: int | None = 0
        self.values: dict[str, Any] = {}
        #: What the session had before.
        self.own: dict[str, Any] = {}


def carry(connection: BaseDatabaseWrapper, primary: str, names: frozenset[str]) -> None:
    """Give the session behind ``connection``, to a replica, the settings ``names`` of this thread's session with
    ``primary``.

    Raises ``DatabaseError`` if those cannot be read: a read without them could show another tenant's rows.
    """
    carried = _carried(connection)
    number, wanted = _wanted(primary, names)
    if carried.number == number:
        return
    if carried.number is None:
        missing = wanted
    else:
        missing = {name: value for name, value in wanted.items() if carried.values.get(name, _Carried) != value}
    engine = engine_of(connection)
    back = {name: value for name, value in carried.own.items() if name not in wanted and name in carried.values}
    unknown = [name for name in missing if name not in carried.own]
    # If one of these fails, the next read begins with it again.
    carried.number = None
    if unknown:
        carried.own.update(engine.session_values(connection, unknown))
    carried.values = {**carried.values, **missing}
    if back or missing:
        engine.set_session_values(connection, {**back, **missing})
    carried.values, carried.number = wanted, number


def forget(connection: BaseDatabaseWrapper) -> None:
    """A rollback, or a statement of the user's, may have taken the settings from the replica's session."""
    _carried(connection).number = None


def _carried(connection: BaseDatabaseWrapper) -> _Carried:
    driver = connection.connection
    found: _Carried | None = getattr(driver, _ATTRIBUTE, None) or connection.__dict__.get(_ATTRIBUTE)
    if found is None or found.driver is not driver:
        found = _Carried(driver)
        try:
            setattr(driver, _ATTRIBUTE, found)
        except AttributeError:
            connection.__dict__[_ATTRIBUTE] = found
    return found


def _wanted(primary: str, names: frozenset[str]) -> tuple[int, dict[str, Any]]:
    """The number of the state of this thread's session with the primary, and the values that a new session lacks."""
    connection: BaseDatabaseWrapper | None = getattr(connections._connections, primary, None)  # type: ignore[attr-defined]
    tracker = None if connection is None else tracker_of(connection)
    if connection is None or tracker is None:
        return 0, {}
    try:
        tracker.send_what_was_put_off(connection)
        session = tracker.session
        changed = session.changed(names) if session is not None else []
        if session is None or not changed:
            return 0, {}
        if session.values[0] != session.number:
            session.values = (session.number, engine_of(connection).session_values(connection, changed))
    except Exception as error:
        # Without its cause: the fault is not the replica's, which is judged by what its statements raise.
        raise DatabaseError(f"The settings of the session with {primary!r} cannot be read: {error}") from None
    return session.number, session.values[1]
