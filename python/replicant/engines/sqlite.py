"""SQLite."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"PRAGMA query_only = {int(read_only)}"


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return connection.connection is not None and bool(connection.connection.in_transaction)
