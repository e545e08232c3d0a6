"""The guard: no statement may write, lock or coordinate on a replica.

Sessions with a replica are read-only at the server, which costs nothing per statement. A read-only session still
permits locks that no other server sees, temporary tables, and statements that make the session writable again. The core
finds these in the text before it is sent. The server must refuse what no text shows: a view or an operator that calls a
function, and PostgreSQL's attribute notation (``SELECT t.touch FROM item t`` calls ``touch(t)``).
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import _core, conf
from replicant.connections import shared_connection
from replicant.context_manager import ContextManager
from replicant.engines import dialect_of, engine_of
from replicant.engines.encoding import may_be_misread
from replicant.errors import ReplicaWriteError

logger = logging.getLogger("replicant")

#: The functions that the blocks around this code allow, one list for each block.
_allowed: ContextVar[tuple[list[str], ...]] = ContextVar("replicant.allowed_functions", default=())

#: Texts that were found to be reads, by dialect: an application sends the same few again and again.
_known: dict[str, set[str]] = {}
_MOST_KNOWN = 512
_LONGEST_KNOWN = 8192


class allow_functions(ContextManager):
    """Let statements inside the block call these functions on a replica, where the guard refuses unknown functions.

    For user-defined functions that only read: the package does not check what they do. A context manager, ``with`` or
    ``async with``; blocks nest, and their names add up. ``names`` are compared without regard to case, and as the
    statement writes them: ``"f"`` allows ``f(...)``, and ``"reports.f"`` allows ``reports.f(...)``. Functions that are
    known to write or lock stay refused, quoted or not. On the primary, a CALL of a procedure with such a name counts as
    no change of the session, so that later reads may go to replicas. Raises ``TypeError`` for anything but strings.
    """

    def __init__(self, *names: str) -> None:
        if not names or not all(isinstance(name, str) for name in names):
            raise TypeError("allow_functions() takes the names of functions, as strings.")
        self._names = [name.lower() for name in names]

    def __enter__(self) -> allow_functions:
        _allowed.set((*_allowed.get(), self._names))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Without ContextVar.reset(): an async block may be left in another context than it was entered in.
        _allowed.set(_allowed.get()[:-1])


def guards(connection: BaseDatabaseWrapper) -> bool:
    """Whether the guard refuses writes in the session behind ``connection``."""
    return conf.is_guarded(connection.alias)


def set_read_only(connection: BaseDatabaseWrapper, read_only: bool) -> None:
    """Make the open session read-only at the server, or writable again, where the engine can.

    Sent on the driver's own cursor: the user's query log and counts do not see it.
    """
    sql = engine_of(connection).read_only_sql(read_only)
    if sql is None:
        return
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute(sql)
        finally:
            cursor.close()
        if not connection.get_autocommit():
            # PostgreSQL would take the setting back with the first rollback.
            connection.connection.commit()


def guarded(
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Execute a statement on a replica, if it surely is a read; explain the error if the server refuses it.

    Raises ``ReplicaWriteError`` and also logs it, because Django's cache backend swallows database errors.
    """
    connection: BaseDatabaseWrapper = context["connection"]
    check(connection, sql)
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        if not engine_of(connection).refused_as_read_only(error):
            raise
        verb = _core.verb(sql, connection.vendor) if isinstance(sql, str) else ""
        raise _refused(connection, verb or "a statement") from error


def check(connection: BaseDatabaseWrapper, sql: Any) -> None:
    """Refuse a statement that may not be sent to a replica. Raises ``ReplicaWriteError``."""
    text = sql if isinstance(sql, str) else text_of(connection, sql)
    if text is None:
        raise _refused(connection, f"a statement that is a {type(sql).__name__}")
    dialect = dialect_of(connection)
    known = _known.setdefault(dialect, set())
    if not text.isascii() and may_be_misread(connection):
        raise _refused(connection, "text beyond ASCII in a session whose character set hides backslashes")
    if text in known:
        return
    if _core.refusal(text, dialect) is not None:
        _check_again(connection, text)
    elif len(text) <= _LONGEST_KNOWN:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known.add(text)


def _check_again(connection: BaseDatabaseWrapper, text: str) -> None:
    """Refuse a statement, unless the code around it allows the functions for which it was refused."""
    refusal = _core.refusal(text, dialect_of(connection), allowed_names())
    if refusal is None or text in _djangos_own(connection) or shared_connection.does_own_work(connection):
        return
    raise _refused(connection, *refusal)


def check_call(connection: BaseDatabaseWrapper, call: str, argument: Any) -> None:
    """Refuse a call on a cursor, with its first argument, that bypasses Django's ``execute()``.

    Raises ``ReplicaWriteError``.
    """
    if shared_connection.does_own_work(connection):
        return
    if call == "callproc":
        if str(argument).lower() not in allowed_names():
            raise _refused(connection, f"callproc({argument!r})", str(argument))
        if _core.refusal(f"SELECT {argument}()", dialect_of(connection), allowed_names()) is not None:
            # The procedure is known to lock or to write.
            raise _refused(connection, f"callproc({argument!r})")
    elif call == "copy_from":
        raise _refused(connection, "COPY ... FROM")
    else:
        check(connection, argument)


def allowed_names() -> list[str]:
    """The functions and procedures that the blocks around this code allow, in lower case."""
    return [name for names in _allowed.get() for name in names]


def _djangos_own(connection: BaseDatabaseWrapper) -> tuple[str, ...]:
    """The statements that Django itself sends because of the alias's OPTIONS.

    On SQLite, ``atomic`` begins with such a statement and may lock the file. On MySQL and MariaDB, such a statement may
    make a new session serializable.
    """
    isolation = f"SET SESSION TRANSACTION ISOLATION LEVEL {str(getattr(connection, 'isolation_level', None)).upper()}"
    begin = f"BEGIN {getattr(connection, 'transaction_mode', None)}"
    return (begin, isolation, f"SET SQL_AUTO_IS_NULL = 0; {isolation}")


def text_of(connection: BaseDatabaseWrapper, sql: Any) -> str | None:
    """The text of a statement that is not a string but that a driver accepts; None if it has no text."""
    if isinstance(sql, (bytes, bytearray)):
        try:
            return sql.decode()
        except UnicodeDecodeError:
            return None
    if hasattr(sql, "as_string"):
        # psycopg's composed statements.
        return str(sql.as_string(connection.connection))
    return None


def _refused(connection: BaseDatabaseWrapper, what: str, function: str | None = None) -> ReplicaWriteError:
    """The error to raise, logged."""
    alias, primary = connection.alias, conf.primary_of(connection.alias)
    message = (
        f"{alias!r} is a replica and takes no writes and no locks: {what} was refused. "
        f"Send it to the primary: .using({primary!r}), the alias of db_for_write(), or inside use_primary()."
    )
    if function is not None:
        message += f" If the function only reads, call it inside replicant.allow_functions({function.lower()!r})."
    logger.error(message)
    return ReplicaWriteError(message)
