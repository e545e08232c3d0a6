"""Queries that neither the user's query log nor this package's tracker records."""

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

    "Plain" means that it calls only the servers' own harmless functions, and changes nothing else (as a CTE may do).
    """
    if cursor.rowcount != 0 or ";" in sql:
        return False
    text = sql.lstrip()
    if text[:6].upper() not in ("UPDATE", "DELETE"):
        return False
    # The core analyses the text after the verb as a SELECT, and so finds every part that may write by itself.
    return not _core.analyse(f"SELECT {text[6:]}", vendor) & _core.WRITES


def may_have_been_noop(cursor: Any, sql: Any, vendor: str) -> bool:
    """Whether ``sql``, just executed on ``cursor``, may have left rows unchanged because they already had its values.

    Another client wrote those rows, and the sender of this statement learns that they are there. Examples: an UPDATE
    whose rows already had those values (MySQL counts no change and gives no position), and an INSERT that ignores or
    updates an existing row. MySQL counts such an updated row as if the statement had added it.
    """
    if not isinstance(sql, str):
        return False
    verb = _core.verb(sql, vendor)
    return verb == "INSERT" or (verb == "UPDATE" and cursor.rowcount != 0)
