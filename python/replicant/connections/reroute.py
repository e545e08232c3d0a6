"""Reroutes reads when their replica fails: the reads survive on another member.

The file is long because its three kinds of cursors call one another: cursors for surviving reads, cursors of servers
that were not reached, and cursors of a primary in a cluster that may serve late data from replicas.

When a read fails, Django has already chosen a connection, and the caller holds a cursor. The statement is therefore
executed again on another member's connection, and the caller's cursor goes on with the cursor of that connection. This
happens only to a statement that is surely a read, in autocommit, and before its first row was handed out; every other
statement fails as it does in Django.

Connecting comes first, when the statement is not known yet: if a replica cannot be reached, the caller gets a cursor
that fails when it executes.
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
#: Statements that only show something, but may show the effect of earlier statements, or the state of that server.
_TELLS = frozenset({"SHOW", "EXPLAIN", "DESCRIBE", "DESC"})
#: MySQL treats these as reads, but they set a variable for later statements, or depend on the previous statement.
_SETS_A_VARIABLE = ":="
_OF_THE_ONE_BEFORE = re.compile(r"\b(?:FOUND_ROWS|ROW_COUNT)\s*\(", re.IGNORECASE)
#: The failures after which a read may be rerouted.
_LOST = (Failure.GONE, Failure.ENDED)
#: Every effect that a pure read does not have.
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
    """The cursor that ``make``, Django's ``_cursor``, returns; on a replica, its reads survive."""
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
        # A replica that is known to be out is used only by its name, or by a caller that chose it earlier.
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
        # An error on an open connection means that this connection is lost (psycopg knows that), not that the server is
        # down.
        if not _may_move(connection) or not _is_lost(connection, error, was_open=was_open):
            raise
        made = _unreached(connection, error, begun)
    made.__dict__.update(_own=type(made), _name=name)
    made.__class__ = _derived(_PinnedCursor, type(made))
    return made


def _is_sent_for(answer: str, frame: FrameType | None) -> bool:
    """Whether the cursor that is made below ``frame`` is for the read that the router has answered with ``answer``.

    That answer may never have been used (``filter(pk__in=[])`` sends nothing), and the next statement may have named
    the primary: ``.using("default")``, or a cursor of its connection. Django's compiler, a frame or two above, keeps
    the very string object that the router returned.
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
    """Call ``attempt``, which may connect to the primary, if replicas may serve late data while the primary is down.

    A primary that hangs accepts connections and never answers. An attempt that takes too long is repeated while the
    primary is not known to be down, because it may only be slow. After ``BUDGET_SECONDS``, the driver's own limit
    applies.
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
    """Whether ``error`` means that the server accepts no connection; tries to open one if one ``was_open``."""
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
    """The server-side cursors of a connection: their rows are still at the server."""
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
    """A cursor after ``make`` has failed with ``error``: of a new connection, or of a server that was not reached."""
    # Django's first queries and settings in a new session are part of connecting.
    close(connection)
    until = begun + (connect_seconds(connection) or 0.0)
    # The error may be of a connection that psycopg knows to be lost, or that was idle in a pool, as other connections
    # of the pool may have been. The next connection may work.
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
    """Takes the place of the driver's cursor if the server was not reached."""

    def __init__(self, error: Exception, begun: float) -> None:
        self.error = error
        #: When the connection attempt began.
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
    """A subclass of both ``ours`` and ``cursor_class``."""
    if (ours, cursor_class) not in _classes:
        _classes[ours, cursor_class] = type(cursor_class.__name__, (ours, cursor_class), {})
    return _classes[ours, cursor_class]


class _PinnedCursor(CursorWrapper):
    """Django's cursor on the primary, for one read that only the primary may serve.

    If the primary turns out to be down, the read goes where ``ON_UNAVAILABLE`` says, as it would after the monitor has
    noticed. While connections to the primary succeed, the caller gets the error, as in Django.
    """

    _name: str | None
    #: The class without this one.
    _own: type[CursorWrapper]

    def execute(self, sql: Any, params: Any = None) -> Any:
        begun = time.monotonic()
        cursor: Any = self
        # The router's answer holds for one statement only: later statements on this cursor are executed as in Django.
        cursor.__class__ = self._own
        line = sockets.line_of(cursor.db)
        try:
            with contextlib.nullcontext() if line is None else line.waiting(_may_be_ended(cursor, sql)):
                result = cursor.execute(sql, params)
        except Exception as error:
            if not isinstance(cursor.cursor, _Unreached):
                if not _may_move(cursor.db) or not _is_read(cursor.db, sql) or kind_of(cursor.db, error) not in _LOST:
                    raise
                # The cursor is closed before its connection, because MySQLdb cannot close it afterwards.
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
    """Whether the wait for a statement's answer may be ended once the primary is known to be down."""
    is_open = not isinstance(cursor.cursor, _Unreached)
    return is_open and _may_move(cursor.db) and _is_read(cursor.db, sql)


class _SurvivingCursor(CursorWrapper):
    """Django's cursor, or one of a class that derives from it, on a replica."""

    _name: str | None
    #: Whether the connection was opened for the statement.
    _is_new: bool
    #: The executed statement and its parameters, until its first row is handed out.
    _statement: tuple[Any, Any] | None
    #: The state of the rerouting of that statement.
    _survival: _Survival | None
    #: Whether the last row was handed out, although a caller of ``fetchmany`` fetches once more.
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
            # In autocommit, such an error is ignored: the rows were read before the connection ended.
            if not _may_move(self.db) or kind_of(self.db, error) is Failure.NOTHING:
                raise
            # psycopg also knows by now that the connection is lost, so this close sends nothing to the server.
            with contextlib.suppress(Exception):
                self.cursor.close()

    def _fetch(self, name: str, *args: Any) -> Any:
        """Fetch rows. The rows of a server-side cursor are still at the server, and may be lost with it."""
        begun = time.monotonic()
        while True:
            # A wait for rows of a server-side cursor may be ended like a wait for an answer.
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
        """Execute the statement on another connection and go on with its cursor; or raise ``error``."""
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
    """Whether a statement surely reads, and neither changes the session nor depends on earlier statements in it."""
    return _leaves_the_session_alone(connection, sql, _READS) and not _OF_THE_ONE_BEFORE.search(sql)


def _leaves_the_session_alone(
    connection: BaseDatabaseWrapper, sql: Any, verbs: frozenset[str] = _READS | _TELLS
) -> bool:
    """Whether a statement surely changes nothing, not even for later statements in its session."""
    if not isinstance(sql, str) or _core.verb(sql.lstrip("( \t\n"), connection.vendor) not in verbs:
        return False
    return _SETS_A_VARIABLE not in sql and not _core.analyse(sql, dialect_of(connection)) & _NO_READ


class _Survival:
    """The rerouting of one read: tries members until one answers."""

    def __init__(self, cursor: _SurvivingCursor, begun: float) -> None:
        self._alias = cursor.db.alias
        self._name = cursor._name
        cluster = conf.cluster_of(self._alias) or conf.serving_late(self._alias)
        assert cluster is not None
        self._connect_seconds = cluster.connect
        self._until = (cursor.cursor.begun if isinstance(cursor.cursor, _Unreached) else begun) + cluster.budget
        #: The members on which the read has failed.
        self._failed: list[str] = []
        #: Whether the read has been executed on another member than the one that it was sent to.
        self._has_moved = False

    def execute(self, cursor: CursorWrapper, error: Exception, sql: Any, params: Any) -> tuple[Any, CursorWrapper]:
        """Execute a statement that failed on ``cursor`` with ``error`` again; return the result and its cursor."""
        while True:
            cursor = self._next(cursor, error)
            try:
                if isinstance(cursor, _SurvivingCursor):
                    # The base class's execute(), because the cursor's own one would also try other members.
                    return super(_SurvivingCursor, cursor).execute(sql, params), cursor
                return cursor.execute(sql, params), cursor
            except Exception as next_error:
                if not isinstance(cursor, _SurvivingCursor):
                    raise
                error = next_error

    def _next(self, cursor: Any, error: Exception) -> CursorWrapper:
        """The cursor to try next; raises the read's error if there is none."""
        connection, was_reached = cursor.db, not isinstance(cursor.cursor, _Unreached)
        kind = Failure.GONE
        if isinstance(error, UnfitSession):
            # Nothing was sent, and nothing is wrong with the server.
            was_reached = False
            with contextlib.suppress(Exception):
                cursor.close()
        # A server that was not reached was reported when the connection attempt failed.
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
            # The connection may have been idle for long, and a timeout of the server or a proxy may have ended it.
            return self._open(connection)
        self._has_moved |= was_reached
        self._failed.append(connection.alias)
        return self._elsewhere(error)

    def _elsewhere(self, error: Exception) -> CursorWrapper:
        failed_with = error
        while time.monotonic() < self._until:
            try:
                alias = _core.reroute(self._alias, self._failed)
            except NoReplicaAvailable as none:
                raise none from error
            if alias is None or alias in self._failed:
                raise failed_with
            connection: BaseDatabaseWrapper = connections[alias]
            may_move = _may_move(connection)
            if may_move and connection.connection is not None and not connection.is_usable():
                close(connection)
            if conf.cluster_of(alias) is None:
                # The primary: an open transaction is no obstacle, because it shows the writes of this thread.
                try:
                    return _with_primary(
                        connection, connection.cursor if self._name is None else connection.chunked_cursor
                    )
                except Exception as refusal:
                    if not may_move or kind_of(connection, refusal) not in _LOST:
                        raise
                    # The primary is down, too: the policy says which member serves then.
                    self._failed.append(alias)
                    failed_with = refusal
                    continue
            # A connection with an open snapshot, or a session that differs from a new one, is not used.
            if may_move:
                try:
                    return self._open(connection)
                except Exception as refusal:
                    why = described(refusal, connection.settings_dict)
                    logger.debug("Cannot use %r instead of %r for a read: %s", alias, self._alias, why)
            self._failed.append(alias)
        raise failed_with

    def _open(self, connection: BaseDatabaseWrapper) -> CursorWrapper:
        with within(connection, min(self._connect_seconds, max(0.001, self._until - time.monotonic()))):
            return connection.cursor() if self._name is None else connection.chunked_cursor()
