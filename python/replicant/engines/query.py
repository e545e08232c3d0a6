"""Questions to a server that neither the user's query log nor our own tracker sees."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from replicant import _core

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def ask(connection: BaseDatabaseWrapper, sql: str) -> tuple[Any, ...]:
    """Send one statement on the driver's own cursor and return the first row of its answer.

    Raises Django's database errors, ``OperationalError`` if the connection is lost.
    """
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute(sql)
            row: tuple[Any, ...] = cursor.fetchone()
        finally:
            cursor.close()
    return row


def ask_rows(connection: BaseDatabaseWrapper, sql: str) -> list[dict[str, Any]]:
    """Send one statement on the driver's own cursor and return all rows of its answer, by column name.

    Raises Django's database errors, ``OperationalError`` if the connection is lost.
    """
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute(sql)
            names = [str(column[0]) for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]
        finally:
            cursor.close()


def matched_nothing(cursor: Any, sql: str, vendor: str) -> bool:
    """Whether ``sql``, just executed on ``cursor``, is one plain UPDATE or DELETE that found no row.

    Plain: it calls nothing but the servers' own harmless functions, and changes nothing else in passing (a CTE).
    """
    if cursor.rowcount != 0 or ";" in sql:
        return False
    text = sql.lstrip()
    if text[:6].upper() not in ("UPDATE", "DELETE"):
        return False
    # What follows the verb, read as a query is read: anything that may write on its own is found there.
    return not _core.analyse(f"SELECT {text[6:]}", vendor) & _core.WRITES


def may_have_been_noop(cursor: Any, sql: Any, vendor: str) -> bool:
    """Whether ``sql``, just executed on ``cursor``, may have left rows alone because they were as it wants them.

    Somebody else had written them, and whoever sent this was told that it is done: an UPDATE whose rows already had
    those values (to MySQL that is no change, and no position), or an INSERT that ignores what is there, or updates it.
    The last is counted as a row, as if it had been added.
    """
    if not isinstance(sql, str):
        return False
    verb = _core.verb(sql, vendor)
    return verb == "INSERT" or (verb == "UPDATE" and cursor.rowcount != 0)
