"""Tracks which statements write, when their writes become visible, and to which scopes the writes belong.

Each of Django's connection objects has a :class:`Tracker`, whatever its engine. The tracker sees every statement
through Django's own execute wrappers, and notices commits and rollbacks by wrapping the methods that perform them.
``connection.on_commit`` would be simpler and is wrong: a callback registered before ours would run before the write
is recorded, and tests that count callbacks would find one too many.

The file is long, since a tracker is one state machine: what a statement means depends on the session, the transaction
and the configuration together.
"""

from __future__ import annotations

import contextlib
import functools
import time
import weakref
from collections.abc import Callable, Set
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, DataError, IntegrityError, NotSupportedError, ProgrammingError
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import _core, conf, under_test
from replicant.conf import exempt_tables
from replicant.connections import causality, guard, session_changes, session_copies, shared_connection, tracked
from replicant.connections.cursors import hook_unwrapped_calls
from replicant.connections.tracked import TRACKER
from replicant.engines import NOTHING, UNKNOWN, Captured, dialect_of, engine_of, tenants
from replicant.engines.encoding import is_ascii, may_be_misread
from replicant.engines.query import may_have_been_noop
from replicant.errors import UnfitSession
from replicant.tracing import recorded, recording

#: Marks a connection that is being opened: statements that Django and its receivers send then run in every session.
_OPENING = "_replicant_opening"
_CONTROLS = _core.BEGINS | _core.COMMITS | _core.ROLLS_BACK | _core.AUTOCOMMIT_OFF | _core.AUTOCOMMIT_ON
#: Errors after which a transaction stays open, for drivers that cannot report whether one is open.
_OF_THE_STATEMENT = (IntegrityError, ProgrammingError, DataError, NotSupportedError)
#: The setting that determines how MySQL and MariaDB read a statement.
_CHARACTER_SET = frozenset({"character_set_client"})
_MATTERS = _CONTROLS | _core.WRITES | _core.AT_ONCE | _core.LOCKS
#: The possible effects of a statement that the server may read differently from the lexer.
_ANYTHING = _core.WRITES | _core.LOCKS | _core.AT_ONCE | _core.SESSION
#: Verbs of statements that run code which no text shows.
_PROCEDURES = frozenset({("CALL", "mysql"), ("CALL", "postgresql"), ("DO", "postgresql")})
#: Verbs of statements that change the rows that they find, if any.
_CHANGES_ROWS = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "MERGE", "WITH"})


#: All trackers.
_trackers: weakref.WeakSet[Tracker] = weakref.WeakSet()


def opening(connection: BaseDatabaseWrapper, connect: Callable[[BaseDatabaseWrapper], None]) -> None:
    """Open a connection by Django's ``connect``: no statement that is sent meanwhile changes the session."""
    connection.__dict__[_OPENING] = True
    try:
        connect(connection)
    finally:
        connection.__dict__.pop(_OPENING, None)


def reconsider() -> None:
    """Update all trackers: another configuration may carry other settings to replicas, and so pin other reads."""
    for tracker in list(_trackers):
        tracker.consider_session()


def track(connection: BaseDatabaseWrapper) -> Tracker:
    """The connection's tracker; attaches a new one if the connection has none."""
    tracker = connection.__dict__.get(TRACKER)
    if tracker is None:
        tracker = Tracker()
        tracker.attach(connection)
    return tracker


class Tracker:
    """Watches one connection object."""

    def __init__(self) -> None:
        #: The text of a statement began a transaction, which Django does not know of.
        self.in_text_transaction = False
        #: A read has another meaning in this session than in a new one, so it must not go to a replica.
        self.changes_reads = False
        #: The changes of the session; None if there are none.
        self.session: session_changes.SessionChanges | None = None
        #: The connection chooses the schema of a tenant by itself.
        self._chooses_schema = False
        #: On a replica: the settings that its session gets from the primary's session, and the primary's alias.
        self._carried: frozenset[str] = frozenset()
        self._primary = ""
        self._alias = ""
        self._autocommit_off = False
        #: The records of the scopes that wrote in the open transaction.
        self._pending: set[_core.Record] = set()
        #: A statement in the open transaction found rows that already were as it wanted them, through other clients.
        self._may_have_been_noop = False
        #: A statement may have ended the transaction without a sign of it: the next write counts at once.
        self._is_uncertain = False
        #: The snapshot of the open transaction, on a replica; None if no transaction is open.
        self._snapshot: _core.OpenSnapshot | None = None
        #: The configuration this connection is prepared for.
        self._generation: int | None = None
        self._is_primary = False
        self._is_replica = False
        self._has_positions = False
        self._read_only = False
        self._is_guarded = False
        self._is_recorded = False
        #: The exempt tables: writes to them do not concern any read from a replica.
        self._exempt: frozenset[exempt_tables.Table] = frozenset()
        self._is_remembered = False
        #: The probe of the present session with a replica at its opening; None where that does not matter.
        self._session: causality.Session | None = None
        self._is_fit = True
        #: The session is with another server than the one that is now behind the alias.
        self._is_with_former_server = False

    def attach(self, connection: BaseDatabaseWrapper) -> None:
        connection.__dict__[TRACKER] = self
        self._alias = connection.alias
        self._chooses_schema = tenants.chooses_schema(type(connection))
        _trackers.add(self)
        self.consider_session()
        # At the head: a connection may be opened inside execute_wrapper(), which removes the last wrapper at its end.
        connection.execute_wrappers.insert(0, self)
        self._wrap_method(connection, "_commit", self._after_commit)
        self._wrap_method(connection, "_rollback", self._after_rollback)
        self._wrap_method(connection, "_close", self._after_close)
        self._wrap_method(connection, "set_autocommit", self._after_set_autocommit)
        hook_unwrapped_calls(connection, self._before_bypass, self._after_bypass)

    def follow(self, mirror: BaseDatabaseWrapper, primary: BaseDatabaseWrapper) -> None:
        """Follow the transactions that end through ``mirror``, which uses the session of ``primary``."""
        self._wrap_method(mirror, "_commit", lambda _, failed: self._after_commit(primary, failed))
        self._wrap_method(mirror, "_rollback", lambda _, failed: self._after_rollback(primary, failed))

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
                # An error counts, too: if the answer to a COMMIT was lost, the COMMIT may have been executed.
                after(connection, failed)

        connection.__dict__[name] = wrapped

    # The opening of the connection.

    def opened(self, connection: BaseDatabaseWrapper) -> None:
        """Start tracking a new session with the server: no transaction is open, and no setting was changed."""
        self._autocommit_off = False
        self._after_end(connection)
        self._read_only = False
        self._has_positions = False
        self._generation = None
        self._session = None
        self._is_with_former_server = False
        # A pool may have handed out the session of another thread.
        self.session = session_changes.kept(connection.connection)
        self.consider_session()
        self._prepare(connection, is_new=True)
        self._count_snapshot(connection)
        if self._generation is not None and conf.is_judged_by_position(connection.alias):
            self._session, self._is_fit = causality.connected(connection), False
            # The first statement calls `_prepare` again, in the scope that sends the statement.
            self._generation = None

    def _prepare(self, connection: BaseDatabaseWrapper, *, is_new: bool = False) -> None:
        """Bring the session in line with the configuration in force."""
        if connection.connection is None:
            # The replica could not be reached.
            return
        generation = _core.session_generation()
        try:
            role = _core.role(connection.alias)
        except ImproperlyConfigured:
            # The router raises this error to its callers, and ``manage.py check`` must be able to report it.
            return
        self._is_primary = role == "primary"
        # A mirror's session is the primary's.
        self._is_replica = role == "replica" and not shared_connection.is_shared(connection)
        self._is_recorded = self._is_primary and conf.is_consistent(connection.alias)
        self._exempt = exempt_tables.of(connection.alias, conf.in_force()) if self._is_recorded else frozenset()
        self._is_remembered = conf.remembers_reads(connection.alias)
        self._is_guarded = guard.guards(connection)
        self._primary, self._carried = conf.carried_to(connection.alias) if self._is_replica else ("", frozenset())
        if self._is_primary and conf.has_positions(connection.alias) and not self._has_positions:
            if self._transaction_is_open(connection) and not is_new:
                return
            engine_of(connection).prepare_capture(connection)
        self._has_positions = self._is_primary and conf.has_positions(connection.alias)
        # On a mirror, the guard judges by the text alone.
        read_only = self._is_guarded and self._is_replica
        if read_only != self._read_only:
            if self._transaction_is_open(connection) and not is_new:
                # The setting would be lost with a rollback; the statement after the transaction calls this again.
                return
            guard.set_read_only(connection, read_only)
            self._read_only = read_only
        if not is_new and self._session is not None and not self._may_serve(connection, self._session):
            return
        # Read before the configuration was: if the configuration has changed since, the next statement calls this
        # again.
        self._generation = generation

    def _may_serve(self, connection: BaseDatabaseWrapper, session: causality.Session) -> bool:
        """Check a session with a replica before a statement is sent on it, if the session is new or another server is
        behind its alias by now; return whether the result holds for all later statements.

        Raises ``UnfitSession`` if the session's server lacks the position that the scope in force requires.
        """
        is_present = self.is_with_present_server(connection)
        self._is_with_former_server = not is_present
        if self._is_fit and is_present:
            return True
        if not causality.serves(connection, session):
            if not is_present and not connection.in_atomic_block:
                # The next session is with the server that is behind the alias now. The caller still has a cursor of
                # this session, which some drivers cannot close once the connection is closed.
                connection.__dict__["ensure_connection"] = functools.partial(_connect_anew, connection)
            raise UnfitSession(connection.alias)
        self._is_fit = True
        if not is_present:
            # Knowledge about the alias does not apply to this session: Django opens another one for the next request.
            connection.close_at = time.monotonic()
        return is_present

    def is_with_present_server(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the session is with the server that is known to be behind the alias; True where that is not known."""
        return self._session is None or _core.is_behind(connection.alias, self._session.server)

    # The statements on the connection.

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
            if self._may_be_misread(connection, sql, params):
                effects |= _ANYTHING
            if effects & _core.SESSION:
                execute = functools.partial(self._changing, execute)
            if effects & _core.AT_ONCE and _runs_a_procedure(connection, sql):
                tracked.mark(connection)
            if (
                self._exempt
                and effects & _core.WRITES
                and effects & _ANYTHING != _ANYTHING
                and exempt_tables.is_spared(sql, connection.vendor, self._exempt)
            ):
                effects &= ~_core.WRITES
                execute = functools.partial(self._spared, execute)
        elif self._is_replica and not (isinstance(sql, str) and sql.startswith("SELECT ")):
            # Finds snapshots on the replica, because an open snapshot stays stale. Nearly all statements on a replica
            # begin with "SELECT " and open no snapshot; the condition above lets them pass quickly.
            effects = self._effects(connection, sql)
            if self._carried and effects & (_core.SESSION | _core.ROLLS_BACK) and connection.connection is not None:
                session_copies.forget(connection)
            effects &= _CONTROLS
        if self._carried and connection.connection is not None:
            session_copies.carry(connection, self._primary, self._carried)
        if not effects & _MATTERS:
            if not self._is_remembered or not _core.is_to_remember(connection.alias):
                return execute(sql, params, many, context)
            result = execute(sql, params, many, context)
            # After the execution, because the server may have shown all that it had by then. The primary has everything
            # that a former server showed.
            _core.remember(self._primary if self._is_with_former_server else connection.alias)
            return result
        try:
            result = execute(sql, params, many, context)
        except BaseException as error:
            if isinstance(error, DatabaseError) and effects & (_core.WRITES | _core.LOCKS):
                self.reveal(connection)
            # A statement that timed out may have been executed.
            self._after_statement(connection, effects, UNKNOWN)
            raise
        captured = self._captured(connection, sql, many, context["cursor"], effects)
        if self._reveals(connection, sql, context["cursor"], effects):
            self.reveal(connection)
        self._after_statement(connection, effects, captured)
        return result

    def _spared(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a write to a table of exempt models."""
        try:
            return execute(sql, params, many, context)
        except IntegrityError:
            # The error reveals a row of another table: the row that a foreign key refers to.
            self.reveal(context["connection"])
            raise

    @staticmethod
    def _reveals(connection: BaseDatabaseWrapper, sql: Any, cursor: Any, effects: int) -> bool:
        """Whether a statement that was just executed has revealed rows of other clients: locked rows, or rows that it
        would have changed if they had been as its sender believed."""
        if effects & _core.LOCKS:
            return True
        # sqlite3 counts the rows of a statement with RETURNING only when the last row was read.
        return bool(
            effects & _core.WRITES
            and cursor.rowcount == 0
            and not (connection.vendor == "sqlite" and cursor.description is not None)
            and isinstance(sql, str)
            and _core.verb(sql, connection.vendor) in _CHANGES_ROWS
        )

    def reveal(self, connection: BaseDatabaseWrapper) -> None:
        """Bind the scope in force, because the primary has shown writes of other clients to it.

        Binds the scope as a write does, at once, and even if the open transaction is rolled back: the rows that were
        shown were published before. Where there are positions, the next read that would use a replica queries the
        primary's.
        """
        if self._is_primary and self._is_recorded:
            _core.record().wrote(connection.alias, None)

    def found(self, connection: BaseDatabaseWrapper, table: str) -> None:
        """Record that ``get_or_create``, or a call like it, found the row of ``table`` on the primary."""
        if (table,) not in self._exempt:
            self.reveal(connection)

    def _captured(self, connection: BaseDatabaseWrapper, sql: Any, many: bool, cursor: Any, effects: int) -> Captured:
        """The position that the statement just executed has published; UNKNOWN if that is not known yet, as in an open
        transaction; NOTHING if the statement wrote nothing."""
        engine = engine_of(connection)
        if self._has_positions:
            if self._transaction_is_open(connection):
                self._may_have_been_noop = self._may_have_been_noop or may_have_been_noop(
                    cursor, sql, dialect_of(connection)
                )
            else:
                captured = engine.captured(connection, many=many)
                if captured is NOTHING and may_have_been_noop(cursor, sql, dialect_of(connection)):
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
        # The statement is composed by psycopg, or of another type that a driver accepts.
        return _core.WRITES | _core.AT_ONCE | _core.SESSION

    def _may_be_misread(self, connection: BaseDatabaseWrapper, sql: Any, params: Any = None) -> bool:
        """Whether the server may split the text at other places than the lexer: its character set hides characters."""
        if not isinstance(sql, (str, bytes)) or not sql.isascii():
            return may_be_misread(connection, 0 if self.session is None else self.session.number)
        if self.session is None or params is None or connection.vendor != "mysql":
            return False
        # The driver quotes parameters by the character set that it chose itself, and ignores SET NAMES.
        return (
            bool(self.session.changed(_CHARACTER_SET))
            and not is_ascii(params)
            and may_be_misread(connection, self.session.number)
        )

    # The changes of the session.

    def _changing(self, execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
        """Execute a statement that may change the session."""
        connection: BaseDatabaseWrapper = context["connection"]
        changes = self._changes_of(connection, sql, params)
        try:
            result = execute(sql, params, many, context)
        except BaseException as error:
            if isinstance(error, IntegrityError):
                # PostgreSQL's SET CONSTRAINTS ALL IMMEDIATE checks foreign keys, and so reveals rows.
                self.reveal(connection)
            # A statement that timed out may have been executed. Of several statements in one text, some surely were.
            self._change_session(connection, [change for change in changes if change[0] in ("set", "hold")])
            raise
        self._change_session(connection, changes)
        return result

    def _changes_of(
        self, connection: BaseDatabaseWrapper, sql: Any, params: Any = None
    ) -> list[session_changes.Change]:
        text = sql if isinstance(sql, str) else guard.text_of(connection, sql)
        # A statement without a text, or with a text that the server reads differently, may change anything.
        if text is None or self._may_be_misread(connection, text, params):
            return [session_changes.ANYTHING]
        return session_changes.changes_of(text, connection.vendor, guard.allowed_names())

    def _change_session(self, connection: BaseDatabaseWrapper, changes: list[session_changes.Change]) -> None:
        if not changes or _OPENING in connection.__dict__ or connection.connection is None:
            return
        if self.session is None:
            self.session = session_changes.begin(connection.connection, connection.vendor)
        is_open = self.in_text_transaction or connection.in_atomic_block or not connection.autocommit
        self.session.apply(changes, in_transaction=is_open)
        self.consider_session()

    def _end_session_transaction(self, *, committed: bool | None) -> None:
        if self.session is not None:
            self.session.end_transaction(committed=committed)
            self.consider_session()

    def consider_session(self) -> None:
        """Find out whether reads of this thread have another meaning on a replica."""
        carried = conf.carried_from(self._alias)
        changes = self.session is not None and self.session.changes_reads(carried)
        changes = changes or (self._chooses_schema and tenants.SETTING not in carried)
        if changes != self.changes_reads:
            self.changes_reads = changes
            _core.session_changed(changes)

    def send_what_was_put_off(self, connection: BaseDatabaseWrapper) -> None:
        """Make a connection that chooses a schema by itself send its choice, as it does when a cursor is opened."""
        if self._chooses_schema and (self.session is None or tenants.put_something_off(connection)):
            connection.cursor().close()

    def _after_statement(self, connection: BaseDatabaseWrapper, effects: int, captured: Captured) -> None:
        if effects & (_CONTROLS | _core.AT_ONCE):
            self._after_control(connection, effects, captured)
        if effects & _core.WRITES and captured is not NOTHING:
            self._wrote(connection, captured)

    def statement_failed(self, connection: BaseDatabaseWrapper, error: DatabaseError) -> None:
        """Handle a failed statement on a primary: the server may have rolled back the transaction that a BEGIN opened.

        After a deadlock it has done so. The next write then commits by itself, although the user's code believes that
        the transaction is open.
        """
        if not self.in_text_transaction:
            return
        is_open = engine_of(connection).in_transaction(connection)
        if is_open is None:
            # The driver cannot report it. Errors of the statement itself undo only that statement.
            self._is_uncertain = self._is_uncertain or not isinstance(error, _OF_THE_STATEMENT)
        elif not is_open:
            self._after_end(connection)

    def _before_bypass(self, connection: BaseDatabaseWrapper, call: str, argument: Any) -> None:
        """Handle a call that bypasses the execute wrappers, before it is sent."""
        if self._generation != _core.session_generation():
            self._prepare(connection)
        if self._is_guarded:
            guard.check_call(connection, call, argument)
        if self._is_primary and call == "callproc":
            if str(argument).lower() not in guard.allowed_names():
                self._change_session(connection, [session_changes.ANYTHING])
        elif self._is_primary and call != "copy_from":
            self._change_session(connection, self._changes_of(connection, argument))
        if self._carried and connection.connection is not None:
            session_copies.carry(connection, self._primary, self._carried)
        if call == "callproc":
            tracked.mark(connection)

    def _after_bypass(self, connection: BaseDatabaseWrapper) -> None:
        """Handle a call that bypassed the execute wrappers, after it was sent: it may have done anything."""
        if self._is_primary:
            self._after_statement(connection, _core.WRITES | _core.AT_ONCE, UNKNOWN)

    def _wrote(self, connection: BaseDatabaseWrapper, captured: Captured) -> None:
        """Record a write. It counts now, or when the open transaction commits; both if neither is sure."""
        if not self._is_recorded:
            return
        record = _core.record()
        is_open = self._transaction_is_open(connection)
        if is_open:
            self._pending.add(record)
        if self._is_uncertain or not is_open:
            if under_test.observer is not None:
                under_test.observer.published(connection)
            record.wrote(connection.alias, _position(captured))

    def left_block(self, connection: BaseDatabaseWrapper, *, failed: bool) -> None:
        """Handle the end of the user's outermost ``atomic`` inside a test case's own: no other commit follows."""
        if not failed:
            self._publish(connection, UNKNOWN)
        self._after_end(connection)

    @property
    def unpublished_writers(self) -> Set[_core.Record]:
        """The records of the scopes that wrote in a transaction that is still open."""
        return self._pending

    def _transaction_is_open(self, connection: BaseDatabaseWrapper) -> bool:
        is_open = self.in_text_transaction or connection.in_atomic_block or not connection.autocommit
        return is_open and (under_test.observer is None or not under_test.observer.is_tests_own(connection))

    def _after_control(self, connection: BaseDatabaseWrapper, effects: int, captured: Captured) -> None:
        """Handle a statement that began or ended a transaction, or may have done so."""
        # Turning the server's autocommit on commits.
        commits = effects & (_core.COMMITS | _core.AUTOCOMMIT_ON)
        rolls_back = effects & _core.ROLLS_BACK
        at_once = bool(effects & _core.AT_ONCE)
        begins = bool(effects & _core.BEGINS)
        is_open = engine_of(connection).in_transaction(connection)
        if is_open is None:
            # The transaction counts as open unless it has surely ended, so that reads stay on the primary.
            is_open = begins or (self.in_text_transaction and not commits and not rolls_back)
        elif not is_open and not rolls_back:
            commits = True
        if at_once or (commits and (begins or not is_open)):
            self._publish(connection, UNKNOWN if self._may_have_been_noop and captured is NOTHING else captured)
        if rolls_back:
            self._pending.clear()
        if not is_open:
            self._may_have_been_noop = False
            self._end_session_transaction(committed=not rolls_back)
        if effects & (_core.AUTOCOMMIT_OFF | _core.AUTOCOMMIT_ON):
            self._autocommit_off = bool(effects & _core.AUTOCOMMIT_OFF)
        self._is_uncertain = at_once
        self._set_text_transaction(is_open or self._autocommit_off)
        self._count_snapshot(connection)

    def _count_snapshot(self, connection: BaseDatabaseWrapper) -> None:
        """Tell the scope in force that a transaction on a replica has begun, or that its transaction has ended."""
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
        if self.changes_reads:
            _core.session_changed(False)

    # Django's calls of the connection's methods.

    def _after_commit(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        captured: Captured = UNKNOWN
        if self._pending and self._has_positions and not failed:
            # Immediately, because the next statement replaces the server's report.
            captured = engine_of(connection).captured(connection)
            if captured is NOTHING and self._may_have_been_noop:
                captured = UNKNOWN
        self._publish(connection, captured)
        if failed:
            # A failed commit reveals rows, for example if a foreign key of an exempt table is checked now.
            self.reveal(connection)
        self._end_session_transaction(committed=None if failed else True)
        self._after_end(connection)

    def _after_rollback(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        self._end_session_transaction(committed=False)
        if self._carried and connection.connection is not None:
            session_copies.forget(connection)
        self._after_end(connection)

    def _after_end(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        """Drop the records of a transaction that has ended: writes that were not published were rolled back."""
        self._pending.clear()
        self._may_have_been_noop = False
        self._is_uncertain = False
        self._set_text_transaction(self._autocommit_off)
        self._snapshot = None
        self._count_snapshot(connection)

    def _after_close(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        """Handle a closed connection: the server rolls back the transaction and drops the session, except in a pool."""
        # Statements that Django sends while it opens the next session do not concern any scope.
        self._session = None
        self._after_end(connection)
        self._end_session_transaction(committed=False)
        self.session = None
        self.consider_session()
        self._snapshot = None

    def _after_set_autocommit(self, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        # This overrides a statement that has set autocommit.
        self._autocommit_off = False
        if connection.autocommit:
            # Turning autocommit on commits the open transaction.
            self._after_commit(connection, failed)
        self._count_snapshot(connection)

    def _publish(self, connection: BaseDatabaseWrapper, captured: Captured) -> None:
        """Record that the pending writes are visible now, for the scopes that wrote and for the one that commits."""
        if self._pending and captured is not NOTHING:
            if under_test.observer is not None:
                under_test.observer.published(connection)
            self._pending.add(_core.record())
            for record in self._pending:
                record.wrote(connection.alias, _position(captured))
        self._pending.clear()


def _connect_anew(connection: BaseDatabaseWrapper) -> None:
    """Replaces ``ensure_connection`` for one call: closes the session, and opens another one."""
    del connection.__dict__["ensure_connection"]
    if not connection.in_atomic_block:
        with contextlib.suppress(Exception):
            connection.close()
    connection.ensure_connection()


def _watched(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Execute a statement on a primary, and trigger a probe if its error means that the server may not be the primary
    any more."""
    connection = context["connection"]
    check = getattr(connection, "replicant_check", None)
    if check is not None:
        # The cursor may have been made before the present placement came into force.
        check()
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        track(connection).statement_failed(connection, error)
        failed = getattr(connection, "replicant_failed", None)
        if failed is not None:
            failed(error)
        raise


def _runs_a_procedure(connection: BaseDatabaseWrapper, sql: Any) -> bool:
    """Whether a statement runs code that its text does not show and that may leave any state in the session."""
    return not isinstance(sql, str) or (_core.verb(sql.lstrip(), connection.vendor), connection.vendor) in _PROCEDURES


def _position(captured: Captured) -> _core.Position | None:
    return captured if isinstance(captured, _core.Position) else None
