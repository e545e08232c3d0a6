"""SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"PRAGMA query_only = {int(read_only)}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # SQLITE_READONLY; Python 3.10's driver gives the message alone.
    return "readonly database" in str(error)


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return connection.connection is not None and bool(connection.connection.in_transaction)
