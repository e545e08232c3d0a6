"""PostgreSQL, with psycopg 3 or psycopg2."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"SET default_transaction_read_only = {'on' if read_only else 'off'}"


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # libpq's PQTRANS_IDLE is 0 in both drivers; the status came with the last answer.
    return connection.connection is not None and connection.connection.info.transaction_status != 0
