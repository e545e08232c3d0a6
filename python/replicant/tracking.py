"""Which statements write, when what they wrote becomes visible, and whose writes they were.

A :class:`Tracker` hangs on each of Django's connection objects, whatever its engine. It sees every statement through
Django's own execute wrappers, and learns of commits and rollbacks by wrapping the methods that perform them.
``connection.on_commit`` would be simpler and is wrong: a callback registered before ours would run before the write
is known, and tests that count callbacks would find one too many.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Set
from typing import Any, Protocol

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, DataError, IntegrityError, NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import _core, causality, conf, guard, mirrors, session_changes
from replicant.cursors import tell_of_bypasses
from replicant.engines import NOTHING, UNKNOWN, Captured, dialect_of, engine_of
from replicant.engines.asking import found_as_wanted
from replicant.errors import UnfitSession
from replicant.tracing import recorded, recording

#: Where a connection keeps its tracker; the core looks there for transactions sent as text.
_ATTRIBUTE = "_replicant_tracker"
_CONTROLS = _core.BEGINS | _core.COMMITS | _core.ROLLS_BACK | _core.AUTOCOMMIT_OFF | _core.AUTOCOMMIT_ON
#: Errors that end no transaction on a server whose driver cannot say whether one is open.
_OF_THE_STATEMENT = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
_MATTERS = _CONTROLS | _core.WRITES | _core.AT_ONCE


class Observer(Protocol):
    """Watches commits for :mod:`replicant.testing`."""

    def published(self, connection: BaseDatabaseWrapper) -> None:
        """What was written on a connection has become visible to others; its writers do not know yet."""

    def is_tests_own(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the transaction that is open on a connection is a test case's, and counts as none."""


observer: Observer | None = None


def track(connection: BaseDatabaseWrapper) -> Tracker:
    """The connection's tracker, hung on it if it has none."""
    tracker = connection.__dict__.get(_ATTRIBUTE)
    if tracker is None:
        tracker = Tracker()
        tracker.attach(connection)
    return tracker


class Tracker:
    """Watches one connection object."""

    def __init__(self) -> None:
        #: A transaction was begun by a statement, behind Django's back.
        self.in_text_transaction = False
        self._autocommit_off = False
        #: The records of those who wrote in the open transaction.
        self._pending: set[_core.Record] = set()
        #: Somebody in it was told that rows are as wanted, which others had made so.
        self._found_as_wanted = False
        #: A statement may have ended the transaction without saying so: what is written next counts at once.
        self._is_uncertain = False
        #: On a replica, while a transaction is open there.
        self._snapshot: _core.OpenSnapshot | None = None
        #: The configuration this connection is prepared for.
        self._generation: int | None = None
        self._is_primary = False
        self._is_replica = False
        self._has_positions = False
        self._read_only = False
        self._is_guarded = False
        self._is_recorded = False
        self._is_remembered = False
        #: What the present session with a replica said when it was opened; None where that does not matter.
        self._session: causality.Session | None = None
        self._is_fit = True

    def attach(self, connection: BaseDatabaseWrapper) -> None:
        connection.__dict__[_ATTRIBUTE] = self
        # At the head: a connection may be opened inside of execute_wrapper(), which takes the last one away at its end.
        connection.execute_wrappers.insert(0, self)
        self._wrap_method(connection, "_commit", self._after_commit)
        self._wrap_method(connection, "_rollback", self._after_end)
        self._wrap_method(connection, "_close", self._after_close)
        self._wrap_method(connection, "set_autocommit", self._after_set_autocommit)
        tell_of_bypasses(connection, self._before_bypass, self._after_bypass)

    def follow(self, mirror: BaseDatabaseWrapper, primary: BaseDatabaseWrapper) -> None:
        """Hear of the transactions that end through ``mirror``, which uses the session of ``primary``."""
        self._wrap_method(mirror, "_commit", lambda _, failed: self._after_commit(primary, failed))
        self._wrap_method(mirror, "_rollback", lambda _, failed: self._after_end(primary, failed))

    @staticmethod
    def _wrap_method(
        connection: BaseDatabaseWrapper, name: str, after: Callable[[BaseDatabaseWrapper, bool], None]
    ) -> None:
        method = getattr(connection, name)

        @functools.wraps(method)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            failed = True
            try:
                result = method(*args, **kwargs)
                failed = False
                return result
            finally:
                # Also after an error: a COMMIT whose answer was lost may have been carried out.
                after(connection, failed)

        connection.__dict__[name] = wrapped

    # What happens to the connection.

    def opened(self, connection: BaseDatabaseWrapper) -> None:
        """A new session with the server: nothing is open, nothing is set."""
        self._autocommit_off = False
        self._after_end(connection)
        self._read_only = False
        self._has_positions = False
        self._generation = None
        self._session = None
        self._prepare(connection, is_new=True)
        self._count_snapshot(connection)
        if self._generation is not None and conf.is_judged_by_position(connection.alias):
            self._session, self._is_fit = causality.connected(connection), False
            # The first statement comes to `_prepare` again, in the scope that sends it.
            self._generation = None

    def _prepare(self, connection: BaseDatabaseWrapper, *, is_new: bool = False) -> None:
        """Bring the session in line with the configuration in force."""
        if connection.connection is None:
            # A replica that could not be reached.
            return
        generation = _core.session_generation()
        try:
            role = _core.role(connection.alias)
        except ImproperlyConfigured:
            # The router says so to whoever asks it, and ``manage.py check`` must be able to say it.
            return
        self._is_primary = role == "primary"
        # A mirror's session is the primary's.
        self._is_replica = role == "replica" and not mirrors.is_shared(connection)
        self._is_recorded = self._is_primary and conf.is_consistent(connection.alias)
        self._is_remembered = conf.remembers_reads(connection.alias)
        self._is_guarded = guard.guards(connection)
        if self._is_primary and conf.has_positions(connection.alias) and not self._has_positions:
            if self._transaction_is_open(connection) and not is_new:
                return
            engine_of(connection).prepare_capture(connection)
        self._has_positions = self._is_primary and conf.has_positions(connection.alias)
        # On a mirror the text alone tells.
        read_only = self._is_guarded and self._is_replica
        if read_only != self._read_only:
            if self._transaction_is_open(connection) and not is_new:
                # The setting would be lost with a rollback; the statement after the transaction comes here again.
                return
            guard.set_read_only(connection, read_only)
            self._read_only = read_only
        if not is_new and self._session is not None and not self._may_serve(connection, self._session):
            return
        # Taken before the configuration was read: if it has changed since, the next statement comes here again.
        self._generation = generation

    def _may_serve(self, connection: BaseDatabaseWrapper, session: causality.Session) -> bool:
        """Check a session with a replica before a statement is sent on it, if it is new or its alias leads elsewhere by
        now; returns whether that is so for all statements to come.

        Raises ``UnfitSession`` if its server lacks what the scope in force must see.
        """
        is_present = _core.is_behind(connection.alias, session.server)
        if self._is_fit and is_present:
            return True
        if not causality.serves(connection, session):
            if not is_present and not connection.in_atomic_block:
                # The next session is with the server that is behind the alias now. The caller still has a cursor of
                # this one, which some drivers cannot close once the connection is closed.
                connection.__dict__["ensure_connection"] = functools.partial(_connect_anew, connection)
            raise UnfitSession(connection.alias)
        self._is_fit = True
        if not is_present:
            # What is known of the alias is not known of this session: Django opens another one for the next request.
            connection.close_at = time.monotonic()
        return is_present

    # What is sent on it.

    def __call__(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        connection: BaseDatabaseWrapper = context["connection"]
        if self._generation != _core.session_generation():
            self._prepare(connection)
        queries = recording.get()
        if queries is not None:
            execute = functools.partial(recorded, queries, execute)
        if self._is_guarded:
            execute = functools.partial(guard.guarded, execute)
        effects = 0
        if self._is_primary:
            execute = functools.partial(_watched, execute)
            effects = self._effects(connection, sql)
        elif self._is_replica and not (isinstance(sql, str) and sql.startswith("SELECT ")):
            # A snapshot that is open there stays as old as it is. Nearly all that is sent there begins none: quickly.
            effects = self._effects(connection, sql) & _CONTROLS
        if not effects & _MATTERS:
            if not self._is_remembered or not _core.is_to_remember(connection.alias):
                return execute(sql, params, many, context)
            result = execute(sql, params, many, context)
            # Afterwards: the server may have shown what it had by then.
            _core.remember(connection.alias)
            return result
        try:
            result = execute(sql, params, many, context)
        except BaseException:
            # A statement that timed out may have been carried out.
            self._after_statement(connection, effects, UNKNOWN)
            raise
        self._after_statement(connection, effects, self._captured(connection, sql, many, context["cursor"], effects))
        return result

    def _captured(self, connection: BaseDatabaseWrapper, sql: Any, many: bool, cursor: Any, effects: int) -> Captured:
        """What the statement just executed has published, or will when the transaction commits."""
        engine = engine_of(connection)
        if self._has_positions:
            if self._transaction_is_open(connection):
                self._found_as_wanted = self._found_as_wanted or found_as_wanted(cursor, sql, dialect_of(connection))
            else:
                captured = engine.captured(connection, many=many)
                if captured is NOTHING and found_as_wanted(cursor, sql, dialect_of(connection)):
                    return UNKNOWN
                if captured is not UNKNOWN:
                    return captured
        if (
            isinstance(sql, str)
            and effects & _MATTERS == _core.WRITES
            and engine.changed_nothing(connection, cursor, sql)
        ):
            return NOTHING
        return UNKNOWN

    @staticmethod
    def _effects(connection: BaseDatabaseWrapper, sql: Any) -> int:
        if isinstance(sql, bytes):
            sql = sql.decode(errors="replace")
        if isinstance(sql, str):
            return _core.analyse(sql, dialect_of(connection))
        # psycopg's composed statements and whatever else a driver takes.
        return _core.WRITES | _core.AT_ONCE

    def _after_statement(self, connection: BaseDatabaseWrapper, effects: int, captured: Captured) -> None:
        if effects & (_CONTROLS | _core.AT_ONCE):
            self._after_control(connection, effects, captured)
        if effects & _core.WRITES and captured is not NOTHING:
            self._wrote(connection, captured)

    def statement_failed(self, connection: BaseDatabaseWrapper, error: DatabaseError) -> None:
        """A statement failed on a primary, and its server may have rolled back the transaction that a BEGIN opened.

        After a deadlock it has. What is written next commits by itself, though the code believes the transaction open.
        """
        if not self.in_text_transaction:
            return
        is_open = engine_of(connection).in_transaction(connection)
        if is_open is None:
            # The driver cannot say. Errors of the statement itself undo that statement alone.
            self._is_uncertain = self._is_uncertain or not isinstance(error, _OF_THE_STATEMENT)
        elif not is_open:
            self._after_end(connection)

    def _before_bypass(self, connection: BaseDatabaseWrapper, call: str, argument: Any) -> None:
        """Something is about to be sent that no wrapper sees."""
        if self._generation != _core.session_generation():
            self._prepare(connection)
        if self._is_guarded:
            guard.check_call(connection, call, argument)
        if call == "callproc":
            session_changes.mark(connection)

    def _after_bypass(self, connection: BaseDatabaseWrapper) -> None:
        """Something was sent that no wrapper saw: it may have done anything."""
        if self._is_primary:
            self._after_statement(connection, _core.WRITES | _core.AT_ONCE, UNKNOWN)

    def _wrote(self, connection: BaseDatabaseWrapper, captured: Captured) -> None:
        """A write was sent. It counts now, or when the open transaction commits, or if that is not sure, twice."""
        if not self._is_recorded:
            return
        record = _core.record()
        is_open = self._transaction_is_open(connection)
        if is_open:
            self._pending.add(record)
        if self._is_uncertain or not is_open:
            if observer is not None:
                observer.published(connection)
            record.wrote(connection.alias, _position(captured))

    def left_block(self, connection: BaseDatabaseWrapper, *, failed: bool) -> None:
        """The user's outermost ``atomic`` inside of a test case's own has ended, which is all the commit there is."""
        if not failed:
            self._publish(connection, UNKNOWN)
        self._after_end(connection)

    @property
    def unpublished_writers(self) -> Set[_core.Record]:
        """The records of those who wrote in a transaction that is still open."""
        return self._pending

    def _transaction_is_open(self, connection: BaseDatabaseWrapper) -> bool:
        is_open = self.in_text_transaction or connection.in_atomic_block or not connection.autocommit
        return is_open and (observer is None or not observer.is_tests_own(connection))

    def _after_control(self, connection: BaseDatabaseWrapper, effects: int, captured: Captured) -> None:
        """A statement began or ended a transaction, or may have done so."""
        # Turning the server's autocommit on commits.
        commits = effects & (_core.COMMITS | _core.AUTOCOMMIT_ON)
        rolls_back = effects & _core.ROLLS_BACK
        at_once = bool(effects & _core.AT_ONCE)
        begins = bool(effects & _core.BEGINS)
        is_open = engine_of(connection).in_transaction(connection)
        if is_open is None:
            # If it may have ended, reads had better stay where they are.
            is_open = begins or (self.in_text_transaction and not commits and not rolls_back)
        elif not is_open and not rolls_back:
            commits = True
        if at_once or (commits and (begins or not is_open)):
            self._publish(connection, UNKNOWN if self._found_as_wanted and captured is NOTHING else captured)
        if rolls_back:
            self._pending.clear()
        if not is_open:
            self._found_as_wanted = False
        if effects & (_core.AUTOCOMMIT_OFF | _core.AUTOCOMMIT_ON):
            self._autocommit_off = bool(effects & _core.AUTOCOMMIT_OFF)
        self._is_uncertain = at_once
        self._set_text_transaction(is_open or self._autocommit_off)
        self._count_snapshot(connection)

    def _count_snapshot(self, connection: BaseDatabaseWrapper) -> None:
        """Tell the scope in force that a transaction was begun on a replica, or that the one begun in it has ended."""
        if not self._is_replica or not (self.in_text_transaction or not connection.autocommit):
            self._snapshot = None
        elif self._snapshot is None:
            self._snapshot = _core.OpenSnapshot(connection.alias)

    def _set_text_transaction(self, is_open: bool) -> None:
        if is_open != self.in_text_transaction:
            self.in_text_transaction = is_open
            _core.text_transaction(is_open)

    def __del__(self) -> None:
        self._set_text_transaction(False)

    # What Django does with it.

    def _after_commit(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        captured: Captured = UNKNOWN
        if self._pending and self._has_positions and not failed:
            # At once: the next statement takes the server's report away.
            captured = engine_of(connection).captured(connection)
            if captured is NOTHING and self._found_as_wanted:
                captured = UNKNOWN
        self._publish(connection, captured)
        self._after_end(connection)

    def _after_end(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        """Whatever was open is rolled back."""
        self._pending.clear()
        self._found_as_wanted = False
        self._is_uncertain = False
        self._set_text_transaction(self._autocommit_off)
        self._snapshot = None
        self._count_snapshot(connection)

    def _after_close(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        """A server rolls back what is open when its connection ends."""
        # What Django sends while it opens the next session concerns no scope.
        self._session = None
        self._after_end(connection)
        self._snapshot = None

    def _after_set_autocommit(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        # Whatever a statement had set is overruled.
        self._autocommit_off = False
        if connection.autocommit:
            # Turning it on commits what was open.
            self._after_commit(connection, failed)
        self._count_snapshot(connection)

    def _publish(self, connection: BaseDatabaseWrapper, captured: Captured) -> None:
        """What was written is visible now: for those who wrote it, and for the one who commits."""
        if self._pending and captured is not NOTHING:
            if observer is not None:
                observer.published(connection)
            self._pending.add(_core.record())
            for record in self._pending:
                record.wrote(connection.alias, _position(captured))
        self._pending.clear()


def _connect_anew(connection: BaseDatabaseWrapper) -> None:
    """In place of ``ensure_connection``, once: close the session, and open another one."""
    del connection.__dict__["ensure_connection"]
    if not connection.in_atomic_block:
        with contextlib.suppress(Exception):
            connection.close()
    connection.ensure_connection()


def _watched(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a statement on a primary, and have the servers looked at if it fails because that may be it no longer."""
    connection = context["connection"]
    check = getattr(connection, "replicant_check", None)
    if check is not None:
        # A cursor may be older than what is known of the servers by now.
        check()
        session_changes.note(connection, sql)
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        track(connection).statement_failed(connection, error)
        failed = getattr(connection, "replicant_failed", None)
        if failed is not None:
            failed(error)
        raise


def _position(captured: Captured) -> _core.Position | None:
    return captured if isinstance(captured, _core.Position) else None
