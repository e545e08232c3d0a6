"""The differences between a session and a new one: settings, temporary tables, locks, prepared statements.

Statements on the primary may change the meaning of later reads there: the schemas that are searched, the role, a
setting that row-level security reads, a user variable. A session with a replica lacks these changes. The reads of that
thread therefore stay on the primary until the session ends or is reset, unless ``SESSION_STATE`` copies the setting.

The text of a statement shows what it changes, see ``src/sql/session/``. A statement that runs others that its text does
not show (CALL, EXECUTE) may have changed anything. A change of a setting by a function or a trigger is not detected.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from replicant import _core

#: One change: the action, the setting or kind of object that it concerns, and whether reads may have another meaning
#: after it.
Change = tuple[str, str, bool]

#: A change of something unknown.
ANYTHING: Change = ("set", "?", True)

#: The attribute of a driver's connection that holds its changes.
_ATTRIBUTE = "_replicant_session_changes"
#: Settings that PostgreSQL's ``RESET ALL`` does not reset, and temporary tables, which are not a setting.
_NOT_RESET = frozenset({"role", "session_authorization", "<temporary>"})

#: Gives each state of each session a distinct number.
_numbers = itertools.count(1)


class SessionChanges:
    """The changes of one session. Kept with the driver's connection, because a pool hands the session to other threads
    with its changes."""

    def __init__(self, vendor: str) -> None:
        #: The number of the present state; every change sets a new one.
        self.number = next(_numbers)
        #: The number of a state, and the values that settings had at the server in that state, as far as queried.
        self.values: tuple[int, dict[str, Any]] = (0, {})
        self._is_undone_by_rollback = vendor == "postgresql"
        #: The settings that differ, and whether reads may have another meaning because of each.
        self._settings: dict[str, bool] = {}
        #: How many objects of a kind are held, and whether reads may have another meaning because of them.
        self._held: dict[str, tuple[int, bool]] = {}
        #: The settings that differed when the open transaction began, and all that have differed since then.
        self._before: dict[str, bool] | None = None
        self._since: dict[str, bool] = {}
        self._has_local = False

    @property
    def differs(self) -> bool:
        return bool(self._settings or self._held)

    def changes_reads(self, carried: Collection[str]) -> bool:
        """Whether reads may have another meaning here, apart from the settings that are carried to replicas."""
        return any(reads and name not in carried for name, reads in self._settings.items()) or any(
            reads for _, reads in self._held.values()
        )

    def changed(self, names: Iterable[str]) -> list[str]:
        """Those of the settings ``names`` that differ."""
        # A changed setting of unknown name may be any of them; a local setting differs until the transaction ends.
        if self._has_local or "?" in self._settings:
            return sorted(names)
        return sorted(name for name in names if name in self._settings)

    def apply(self, changes: Iterable[Change], *, in_transaction: bool) -> None:
        """Record the changes of a statement."""
        if in_transaction and self._is_undone_by_rollback and self._before is None:
            self._before = dict(self._settings)
            self._since = dict(self._settings)
        for action, name, reads in changes:
            if action == "set":
                self._settings[name] = reads
                self._since[name] = reads
            elif action == "local":
                self._has_local = self._has_local or in_transaction
            elif action == "reset":
                self._settings.pop(name, None)
            elif action == "hold":
                self._held[name] = (self._held.get(name, (0, reads))[0] + 1, reads)
            elif action == "release":
                self._release(name)
            elif action == "release_all":
                self._held.pop(name, None)
            elif action == "reset_all":
                self._settings = {name: self._settings[name] for name in _NOT_RESET & self._settings.keys()}
            elif action == "discard":
                self._settings, self._held = {}, {}
            elif action == "back" and self._before is not None:
                # The savepoint of a change is not recorded: any setting that differed before may differ again.
                self._settings = {**self._since, **self._settings}
        self.number = next(_numbers)

    def _release(self, name: str) -> None:
        count, reads = self._held.pop(name, (1, True))
        if count > 1:
            self._held[name] = (count - 1, reads)

    def end_transaction(self, *, committed: bool | None) -> None:
        """Record the end of the open transaction; ``committed`` is None if the outcome is not known."""
        if self._before is None and not self._has_local:
            return
        if self._before is not None and committed is None:
            self._settings = {**self._since, **self._settings}
        elif self._before is not None and not committed:
            self._settings = self._before
        self._before, self._since, self._has_local = None, {}, False
        self.number = next(_numbers)


def kept(driver: Any) -> SessionChanges | None:
    """The changes of a session from before a pool handed it out again; None for a new session."""
    session: SessionChanges | None = getattr(driver, _ATTRIBUTE, None)
    return session


def begin(driver: Any, vendor: str) -> SessionChanges:
    """New, empty changes of a session, kept with the driver's connection if that accepts attributes."""
    session = SessionChanges(vendor)
    # The connections of sqlite3 and psycopg2 accept no attributes, and have no pool.
    with contextlib.suppress(AttributeError):
        setattr(driver, _ATTRIBUTE, session)
    return session


def changes_of(text: str, vendor: str, allowed: Sequence[str] = ()) -> list[Change]:
    """The changes that a statement makes to its session, in order; procedures in ``allowed`` make none."""
    return _core.session_changes(text, vendor, list(allowed))
