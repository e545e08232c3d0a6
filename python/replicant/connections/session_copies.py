"""The settings of ``SESSION_STATE``: copied from this thread's session with the primary to its session with a replica.

A replica's session gets the settings before a read, once for each change. It gets its own values back when the
primary's session no longer has the settings. The values are read from the primary's session in one round trip, when a
read needs them for the first time. The driver's cursor sends them, so that the user's query log does not show them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.db import DatabaseError, connections

from replicant.connections.tracked import tracker_of
from replicant.engines import engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attribute of a driver's connection that holds the copied settings, because a pool hands that connection out
#: again; if the driver's connection accepts no attributes, of Django's connection.
_ATTRIBUTE = "_replicant_carried"


class _Carried:
    """The settings that were copied to one session with a replica."""

    def __init__(self, driver: Any) -> None:
        self.driver = driver
        #: The number of the state of the primary's session from which the settings were copied; 0 for a session that
        #: was not changed, None if a rollback may have undone the copy.
        self.number: int | None = 0
        self.values: dict[str, Any] = {}
        #: The replica's own values, from before the copy.
        self.own: dict[str, Any] = {}


def carry(connection: BaseDatabaseWrapper, primary: str, names: frozenset[str]) -> None:
    """Copy the settings ``names`` of this thread's session with ``primary`` to the session behind ``connection``, which
    is with a replica.

    Raises ``DatabaseError`` if the settings cannot be read: a read without them could show another tenant's rows.
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
    # If one of the following queries fails, the next read copies all settings again.
    carried.number = None
    if unknown:
        carried.own.update(engine.session_values(connection, unknown))
    carried.values = {**carried.values, **missing}
    if back or missing:
        engine.set_session_values(connection, {**back, **missing})
    carried.values, carried.number = wanted, number


def forget(connection: BaseDatabaseWrapper) -> None:
    """Record that a rollback, or a statement of the user, may have undone the settings of the replica's session."""
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
    """The number of the state of this thread's session with the primary, and its values that a new session lacks."""
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
        # The cause is suppressed: the replica is judged by the errors of its statements, and did not cause this one.
        raise DatabaseError(f"The settings of the session with {primary!r} cannot be read: {error}") from None
    return session.number, session.values[1]
