"""What a session differs in from a new one: settings, temporary tables, locks, prepared statements.

Statements on the primary may change what a read means there: the schemas that are searched, the role, a setting that
row-level security reads, a user variable. A session with a replica knows nothing of that. So the reads of that thread
stay on the primary until the session ends or is reset, unless ``SESSION_STATE`` has the setting copied.

The text of a statement tells what it changes, see ``src/sql/session/``. A statement that runs others which its
text does not show (CALL, EXECUTE) may have changed anything. A function or a trigger that changes a setting is not
seen.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Collection, Iterable, Sequence
from typing import Any

from replicant import _core

#: One change: what happens, to which setting or kind of thing, and whether reads may have another meaning then.
Change = tuple[str, str, bool]

#: A change of something unknown.
ANYTHING: Change = ("set", "?", True)

#: Where a driver's connection keeps its changes.
_ATTRIBUTE = "_replicant_session_changes"
#: Settings that PostgreSQL's ``RESET ALL`` leaves as they are, and temporary tables, which are no setting.
_NOT_RESET = frozenset({"role", "session_authorization", "<temporary>"})

#: No two states of sessions have the same number.
_numbers = itertools.count(1)


class SessionChanges:
    """The changes of one session. Kept with the driver's connection: a pool hands that to another thread as it is."""

    def __init__(self, vendor: str) -> None:
        #: Another number, another state.
        self.number = next(_numbers)
        #: The values of settings on the server under a number, once they were asked for.
        self.values: tuple[int, dict[str, Any]] = (0, {})
        self._is_undone_by_rollback = vendor == "postgresql"
        #: The settings that differ, and whether reads may have another meaning by them.
        self._settings: dict[str, bool] = {}
        #: How many things of a kind are held, and whether reads may have another meaning by them.
        self._held: dict[str, tuple[int, bool]] = {}
        #: The settings as they were when the open transaction began, and all that differed since then.
        self._before: dict[str, bool] | None = None
        self._since: dict[str, bool] = {}
        self._has_local = False

    @property
    def differs(self) -> bool:
        return bool(self._settings or self._held)

    def changes_reads(self, carried: Collection[str]) -> bool:
        """Whether reads may have another meaning here, but for the settings that are carried to replicas."""
        return any(reads and name not in carried for name, reads in self._settings.items()) or any(
            reads for _, reads in self._held.values()
        )

    def changed(self, names: Iterable[str]) -> list[str]:
        """Which of these settings differ."""
        # One of unknown name may be any of them, and one that ends with the transaction differs until then.
        if self._has_local or "?" in self._settings:
            return sorted(names)
        return sorted(name for name in names if name in self._settings)

    def apply(self, changes: Iterable[Change], *, in_transaction: bool) -> None:
        """Take in what a statement has changed."""
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
                # Since which savepoint a setting differs is not remembered: any that did may do so again.
                self._settings = {**self._since, **self._settings}
        self.number = next(_numbers)

    def _release(self, name: str) -> None:
        count, reads = self._held.pop(name, (1, True))
        if count > 1:
            self._held[name] = (count - 1, reads)

    def end_transaction(self, *, committed: bool | None) -> None:
        """The open transaction has ended; None if it is not known how."""
        if self._before is None and not self._has_local:
            return
        if self._before is not None and committed is None:
            self._settings = {**self._since, **self._settings}
        elif self._before is not None and not committed:
            self._settings = self._before
        self._before, self._since, self._has_local = None, {}, False
        self.number = next(_numbers)


def kept(driver: Any) -> SessionChanges | None:
    """What was changed of a session before a pool handed it out again; None for a new one."""
    session: SessionChanges | None = getattr(driver, _ATTRIBUTE, None)
    return session


def begin(driver: Any, vendor: str) -> SessionChanges:
    """The changes of a session that had none, kept with the driver's connection where that takes attributes."""
    session = SessionChanges(vendor)
    # Those of sqlite3 and psycopg2 take none, and have no pool.
    with contextlib.suppress(AttributeError):
        setattr(driver, _ATTRIBUTE, session)
    return session


def changes_of(text: str, vendor: str, allowed: Sequence[str] = ()) -> list[Change]:
    """What a statement does to its session, in order; ``allowed`` are procedures that change no session."""
    return _core.session_changes(text, vendor, list(allowed))
