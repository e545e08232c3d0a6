"""PostgreSQL, with psycopg 3 or psycopg2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"SET default_transaction_read_only = {'on' if read_only else 'off'}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # read_only_sql_transaction; psycopg 3 and psycopg2 name the attribute differently.
    cause = error.__cause__
    return "25006" in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # libpq's PQTRANS_IDLE is 0 in both drivers; the status came with the last answer.
    return connection.connection is not None and connection.connection.info.transaction_status != 0
