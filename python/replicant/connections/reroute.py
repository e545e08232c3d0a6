"""Reads that outlive the replica they were sent to.

The file is long, since its three kinds of cursors call one another: one whose reads survive, one that was not reached,
and one of a primary whose replicas may serve late data.

By the time a read fails, Django has chosen a connection and its caller holds a cursor. So the statement is executed
again on another member's connection, and the caller's cursor goes on with that one's. Only what is surely a read, in
autocommit, and before its first row was handed out; everything else fails as it does in Django.

Connecting comes first, and then the statement is not known yet: where a replica cannot be reached, the caller gets a
cursor that fails when it executes.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from types import FrameType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from django.db import OperationalError, connections
from django.db.backends.utils import CursorWrapper
from django.db.models.sql import RawQuery
from django.db.models.sql.compiler import SQLCompiler

from replicant import _core, conf
from replicant.connections import observations, server_map, sockets, tracked
from replicant.connections.connecting import (
    close,
    connect_seconds,
    is_connecting,
    is_out,
    kind_of,
    report_failure,
    was_pooled,
    within,
)
from replicant.engines import Failure, described, dialect_of
from replicant.engines.failure import drop_frames
from replicant.errors import NoReplicaAvailable, UnfitSession

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

logger = logging.getLogger("replicant")

T = TypeVar("T")

_SERVER_SIDE = server_map.SERVER_SIDE

_READS = frozenset({"SELECT", "WITH", "VALUES", "TABLE"})
#: They only tell something, but perhaps of what was executed before, or of that server.
_TELLS = frozenset({"SHOW", "EXPLAIN", "DESCRIBE", "DESC"})
#: To MySQL these are reads: a variable that later statements find, and what the one before has found.
_SETS_A_VARIABLE = ":="
_OF_THE_ONE_BEFORE = re.compile(r"\b(?:FOUND_ROWS|ROW_COUNT)\s*\(", re.IGNORECASE)
#: What became of a server that a read may go elsewhere from.
_LOST = (Failure.GONE, Failure.ENDED)
#: Whatever a statement may be but a read that leaves nothing behind.
_NO_READ = (
    _core.WRITES
    | _core.LOCKS
    | _core.AT_ONCE
    | _core.BEGINS
    | _core.COMMITS
    | _core.ROLLS_BACK
    | _core.AUTOCOMMIT_OFF
    | _core.AUTOCOMMIT_ON
)


def _may_move(connection: BaseDatabaseWrapper) -> bool:
    """Whether a read on this connection may be executed on another: it is in no transaction."""
    autocommit = connection.settings_dict["AUTOCOMMIT"] if connection.connection is None else connection.autocommit
    if not autocommit or connection.in_atomic_block or tracked.session_differs(connection):
        return False
    tracker = tracked.tracker_of(connection)
    return tracker is None or not tracker.in_text_transaction


# Cursors.


def cursor(connection: BaseDatabaseWrapper, make: Callable[..., CursorWrapper], name: str | None) -> CursorWrapper:
    """What ``make``, Django's ``_cursor``, returns; but one whose reads survive, on a replica."""
    if conf.cluster_of(connection.alias) is None or is_connecting(connection):
        if conf.serving_late(connection.alias) is None or is_connecting(connection):
            return make(name)
        answer = _core.pinned_answer(connection.alias)
        if answer is None or not _is_sent_for(answer, sys._getframe(1)):
            return make(name)
        return _pinned(connection, make, name)
    begun, may_move = time.monotonic(), _may_move(connection)
    if may_move and connection.connection is not None and server_map.is_outdated(connection):
        close(connection)
    is_new = connection.connection is None
    try:
        made = make(name) if not (is_new and may_move and is_out(connection.alias)) else None
    except Exception as error:
        if not may_move or kind_of(connection, error) is Failure.NOTHING:
            raise
        made, is_new = _reached_anew(connection, error, begun, make, name, was_new=is_new), True
    if made is None:
        # Who asks for it by name, or has it from before.
        silent = OperationalError(f"The replica {connection.alias!r} does not answer.")
        made = _unreached(connection, silent, begun)
    made.__class__ = _derived(_SurvivingCursor, type(made))
    made.__dict__.update(_name=name, _is_new=is_new, _statement=None, _survival=None, _is_exhausted=False)
    if name is not None:
        _server_side(connection).add(made)
    return made


def _pinned(connection: BaseDatabaseWrapper, make: Callable[..., CursorWrapper], name: str | None) -> CursorWrapper:
    """The primary's cursor for a read that only the primary may serve, unless it turns out to be down."""
    begun, was_open = time.monotonic(), connection.connection is not None
    try:
        made = _with_primary(connection, lambda: make(name)) if _may_move(connection) else make(name)
    except Exception as error:
        # Of a connection that was open it says that this one is lost (psycopg knows), and nothing of the server.
        if not _may_move(connection) or not _is_lost(connection, error, was_open=was_open):
            raise
        made = _unreached(connection, error, begun)
    made.__dict__.update(_own=type(made), _name=name)
    made.__class__ = _derived(_PinnedCursor, type(made))
    return made


def _is_sent_for(answer: str, frame: FrameType | None) -> bool:
    """Whether the cursor that is made below ``frame`` is for the read that the router has answered with ``answer``.

    That answer may never have been used (``filter(pk__in=[])`` sends nothing), and what is sent next may have named the
    primary: ``.using("default")``, or a cursor of its connection. Django's compiler, a frame or two above, keeps the
    very string that it was given.
    """
    while frame is not None:
        sender = frame.f_locals.get("self")
        if isinstance(sender, (SQLCompiler, RawQuery)):
            return sender.using is answer
        if isinstance(sender, CursorWrapper):
            # Sent while another statement is executed: by one of its wrappers.
            return False
        frame = frame.f_back
    return False


def _with_primary(connection: BaseDatabaseWrapper, attempt: Callable[[], T]) -> T:
    """Call ``attempt``, which may connect with the primary, where replicas may serve late data if that one is down.

    A primary that hangs accepts connections and never answers. An attempt that takes too long is made again while the
    primary is not known to be down: it may be slow. After ``BUDGET_SECONDS`` the driver's own limit applies.
    """
    cluster = conf.serving_late(connection.alias)
    if cluster is None or connection.connection is not None:
        return attempt()
    until = time.monotonic() + cluster.budget
    while (begun := time.monotonic()) < until:
        seconds = min(cluster.connect, until - begun)
        try:
            with within(connection, seconds):
                return attempt()
        except Exception as error:
            took_too_long = time.monotonic() - begun >= seconds
            if not took_too_long or is_out(connection.alias) or kind_of(connection, error) not in _LOST:
                raise
            close(connection)
    return attempt()


def _is_lost(connection: BaseDatabaseWrapper, error: Exception, *, was_open: bool) -> bool:
    """Whether ``error`` means that no connection to the server can be opened; if one ``was_open``, by trying to."""
    if kind_of(connection, error) not in _LOST:
        return False
    close(connection)
    if was_open and not is_out(connection.alias):
        try:
            _with_primary(connection, connection.ensure_connection)
        except Exception as refusal:
            if kind_of(connection, refusal) not in _LOST:
                return False
            close(connection)
        else:
            return False
    return True


def _server_side(connection: BaseDatabaseWrapper) -> weakref.WeakSet[CursorWrapper]:
    """The cursors of a connection whose rows are still at the server."""
    cursors: weakref.WeakSet[CursorWrapper] = connection.__dict__.setdefault(_SERVER_SIDE, weakref.WeakSet())
    return cursors


def _reached_anew(
    connection: BaseDatabaseWrapper,
    error: Exception,
    begun: float,
    make: Callable[..., CursorWrapper],
    name: str | None,
    *,
    was_new: bool,
) -> CursorWrapper:
    """The cursor where ``make`` has failed with ``error``: of a new connection, or one that was not reached."""
    # What Django asks and sets in a new session is part of connecting.
    close(connection)
    until = begun + (connect_seconds(connection) or 0.0)
    # Of a connection that psycopg knows to be lost, or that has lain in a pool, like others. The next one may not be.
    while (not was_new or was_pooled(connection, error)) and not is_out(connection.alias):
        try:
            return make(name)
        except Exception as another:
            close(connection)
            if kind_of(connection, another) is Failure.NOTHING:
                raise
            error, was_new = another, True
        if time.monotonic() >= until:
            break
    return _unreached(connection, error, begun)


class _Unreached:
    """Stands where a driver's cursor would, had the server been reached."""

    def __init__(self, error: Exception, begun: float) -> None:
        self.error = error
        #: When it was tried.
        self.begun = begun

    def close(self) -> None:
        pass

    def _fail(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise self.error

    execute = executemany = callproc = _fail

    def __getattr__(self, name: str) -> NoReturn:
        raise self.error


def _unreached(connection: BaseDatabaseWrapper, error: Exception, begun: float) -> CursorWrapper:
    made: CursorWrapper = connection._prepare_cursor(_Unreached(error, begun))  # type: ignore[attr-defined]
    return made


_classes: dict[tuple[type[CursorWrapper], type[CursorWrapper]], type[CursorWrapper]] = {}


def _derived(ours: type[CursorWrapper], cursor_class: type[CursorWrapper]) -> type[CursorWrapper]:
    """The class of a cursor of ``cursor_class`` that is one of ``ours``, too."""
    if (ours, cursor_class) not in _classes:
        _classes[ours, cursor_class] = type(cursor_class.__name__, (ours, cursor_class), {})
    return _classes[ours, cursor_class]


class _PinnedCursor(CursorWrapper):
    """Django's cursor on the primary, for one read that only the primary may serve.

    Where the primary turns out to be down, the read goes where ``ON_UNAVAILABLE`` says, as it would once the monitor
    knows. While the primary can be connected to, the error is the caller's, as in Django.
    """

    _name: str | None
    #: The class without this one.
    _own: type[CursorWrapper]

    def execute(self, sql: Any, params: Any = None) -> Any:
        begun = time.monotonic()
        cursor: Any = self
        # What is executed on it after that was not decided.
        cursor.__class__ = self._own
        line = sockets.line_of(cursor.db)
        try:
            with contextlib.nullcontext() if line is None else line.waiting(_may_be_ended(cursor, sql)):
                result = cursor.execute(sql, params)
        except Exception as error:
            if not isinstance(cursor.cursor, _Unreached):
                if not _may_move(cursor.db) or not _is_read(cursor.db, sql) or kind_of(cursor.db, error) not in _LOST:
                    raise
                # Before its connection: MySQLdb cannot do so afterwards.
                with contextlib.suppress(Exception):
                    cursor.close()
                if not _is_lost(cursor.db, error, was_open=True):
                    raise
                cursor.cursor = _Unreached(error, begun)
            cursor.__class__ = _derived(_SurvivingCursor, self._own)
            cursor.__dict__.update(_is_new=True, _statement=(sql, params), _survival=None, _is_exhausted=False)
            return cursor._survive(error, begun)
        _core.spend_decision()
        return result


def _may_be_ended(cursor: CursorWrapper, sql: Any) -> bool:
    """Whether the wait for the answer to a statement on the primary may be ended once that is known to be down."""
    is_open = not isinstance(cursor.cursor, _Unreached)
    return is_open and _may_move(cursor.db) and _is_read(cursor.db, sql)


class _SurvivingCursor(CursorWrapper):
    """Django's cursor, or somebody's that derives from it, on a replica."""

    _name: str | None
    #: Whether the connection was opened for the statement.
    _is_new: bool
    #: What was executed, until its first row is handed out.
    _statement: tuple[Any, Any] | None
    #: What that statement has been through.
    _survival: _Survival | None
    #: Whether the last row was handed out, though a caller of ``fetchmany`` asks once more.
    _is_exhausted: bool

    def execute(self, sql: Any, params: Any = None) -> Any:
        if self._statement is not None:
            self._is_new = False
        self._statement, self._survival, self._is_exhausted = (sql, params), None, False
        begun = time.monotonic()
        line = sockets.line_of(self.db)
        if line is not None:
            line.waiting_since = begun
        try:
            result = super().execute(sql, params)
        except Exception as error:
            if line is not None:
                line.waiting_since = None
            return self._survive(error, begun)
        if line is not None:
            line.waiting_since = None
        if not _leaves_the_session_alone(self.db, sql):
            tracked.mark(self.db)
        observations.report(self.db.alias, "ok")
        return result

    def executemany(self, sql: Any, param_list: Any) -> Any:
        self._statement = None
        tracked.mark(self.db)
        return super().executemany(sql, param_list)

    def fetchone(self) -> Any:
        return self._fetch("fetchone")

    def fetchmany(self, *args: Any) -> Any:
        rows = self._fetch("fetchmany", *args)
        self._is_exhausted = bool(args) and len(rows) < args[0]
        return rows

    def fetchall(self) -> Any:
        return self._fetch("fetchall")

    def __iter__(self) -> Iterator[Any]:
        while (row := self.fetchone()) is not None:
            yield row

    def close(self) -> None:
        if self._name is not None:
            _server_side(self.db).discard(self)
        try:
            self.cursor.close()
        except Exception as error:
            # What was to be read was read; the connection ended after that.
            if not _may_move(self.db) or kind_of(self.db, error) is Failure.NOTHING:
                raise
            # Now that psycopg knows it, too, there is nothing to be told to the server.
            with contextlib.suppress(Exception):
                self.cursor.close()

    def _fetch(self, name: str, *args: Any) -> Any:
        """Rows. Those of a server-side cursor are still at the server, and may be lost with it."""
        begun = time.monotonic()
        while True:
            # Rows of a server-side cursor are waited for like an answer.
            line = sockets.line_of(self.db) if self._name is not None else None
            if line is not None:
                line.waiting_since = time.monotonic()
            try:
                try:
                    result = self.db.wrap_database_errors(getattr(self.cursor, name))(*args)
                finally:
                    if line is not None:
                        line.waiting_since = None
            except Exception as error:
                if self._is_exhausted and kind_of(self.db, error) is not Failure.NOTHING:
                    return None if name == "fetchone" else []
                self._survive(error, begun)
            else:
                self._is_new, self._statement = False, None
                return result

    def _survive(self, error: Exception, begun: float) -> Any:
        """Execute the statement elsewhere, and go on with that cursor; or raise ``error``."""
        if self._statement is None or not _may_move(self.db) or not _is_read(self.db, self._statement[0]):
            raise error
        if self._survival is None:
            self._survival = _Survival(self, begun)
        result, survivor = self._survival.execute(self, error, *self._statement)
        if self._name is not None:
            _server_side(self.db).discard(self)
            _server_side(survivor.db).add(self)
        self.cursor, self.db = survivor.cursor, survivor.db
        self._is_new = getattr(survivor, "_is_new", False)
        observations.report(self.db.alias, "ok")
        drop_frames(error)
        return result


def _is_read(connection: BaseDatabaseWrapper, sql: Any) -> bool:
    """Whether a statement surely reads, and neither changes the session nor depends on what others did to it."""
    return _leaves_the_session_alone(connection, sql, _READS) and not _OF_THE_ONE_BEFORE.search(sql)


def _leaves_the_session_alone(
    connection: BaseDatabaseWrapper, sql: Any, verbs: frozenset[str] = _READS | _TELLS
) -> bool:
    """Whether a statement surely changes nothing, not even for those that follow it in its session."""
    if not isinstance(sql, str) or _core.verb(sql.lstrip("( \t\n"), connection.vendor) not in verbs:
        return False
    return _SETS_A_VARIABLE not in sql and not _core.analyse(sql, dialect_of(connection)) & _NO_READ


class _Survival:
    """One read, looking for a member that answers it."""

    def __init__(self, cursor: _SurvivingCursor, begun: float) -> None:
        self._alias = cursor.db.alias
        self._name = cursor._name
        cluster = conf.cluster_of(self._alias) or conf.serving_late(self._alias)
        assert cluster is not None
        self._connect_seconds = cluster.connect
        self._until = (cursor.cursor.begun if isinstance(cursor.cursor, _Unreached) else begun) + cluster.budget
        #: The members that have failed it.
        self._failed: list[str] = []
        #: Whether it has been executed on another member than the one it was sent to.
        self._has_moved = False

    def execute(self, cursor: CursorWrapper, error: Exception, sql: Any, params: Any) -> tuple[Any, CursorWrapper]:
        """Execute elsewhere what failed on ``cursor`` with ``error``; the result, and the cursor it was executed on."""
        while True:
            cursor = self._next(cursor, error)
            try:
                if isinstance(cursor, _SurvivingCursor):
                    # Not its own execute(), which would look for another member in its turn.
                    return super(_SurvivingCursor, cursor).execute(sql, params), cursor
                return cursor.execute(sql, params), cursor
            except Exception as next_error:
                if not isinstance(cursor, _SurvivingCursor):
                    raise
                error = next_error

    def _next(self, cursor: Any, error: Exception) -> CursorWrapper:
        """The cursor to try next; raises what the read failed with if there is none."""
        connection, was_reached = cursor.db, not isinstance(cursor.cursor, _Unreached)
        kind = Failure.GONE
        if isinstance(error, UnfitSession):
            # Nothing was sent, and nothing is wrong with the server.
            was_reached = False
            with contextlib.suppress(Exception):
                cursor.close()
        # A server that was not reached was reported then.
        if was_reached:
            kind = kind_of(connection, error)
            if kind in (Failure.NOTHING, Failure.DEMOTED):
                raise error
            report_failure(connection, error)
            if kind in (Failure.GONE, Failure.ENDED):
                close(connection)
            with contextlib.suppress(Exception):
                cursor.close()
            if self._has_moved:
                raise error
        if time.monotonic() >= self._until:
            raise error
        if kind is Failure.ENDED and not cursor._is_new and not is_out(connection.alias):
            # It may have been idle for long, and ended by whoever cleans up.
            return self._open(connection)
        self._has_moved |= was_reached
        self._failed.append(connection.alias)
        return self._elsewhere(error)

    def _elsewhere(self, error: Exception) -> CursorWrapper:
        failed_with = error
        while time.monotonic() < self._until:
            try:
                alias = _core.elsewhere(self._alias, self._failed)
            except NoReplicaAvailable as none:
                raise none from error
            if alias is None or alias in self._failed:
                raise failed_with
            connection: BaseDatabaseWrapper = connections[alias]
            may_move = _may_move(connection)
            if may_move and connection.connection is not None and not connection.is_usable():
                close(connection)
            if conf.cluster_of(alias) is None:
                # The primary: its transaction, if there is one, shows what this thread has written.
                try:
                    return _with_primary(
                        connection, connection.cursor if self._name is None else connection.chunked_cursor
                    )
                except Exception as refusal:
                    if not may_move or kind_of(connection, refusal) not in _LOST:
                        raise
                    # It is down, too: the policy says who serves then.
                    self._failed.append(alias)
                    failed_with = refusal
                    continue
            # Not in an open snapshot, nor in a session that is not as others are.
            if may_move:
                try:
                    return self._open(connection)
                except Exception as refusal:
                    why = described(refusal, connection.settings_dict)
                    logger.debug("%r could not stand in for %r: %s", alias, self._alias, why)
            self._failed.append(alias)
        raise failed_with

    def _open(self, connection: BaseDatabaseWrapper) -> CursorWrapper:
        with within(connection, min(self._connect_seconds, max(0.001, self._until - time.monotonic()))):
            return connection.cursor() if self._name is None else connection.chunked_cursor()
