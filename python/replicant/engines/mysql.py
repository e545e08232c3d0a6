"""MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    # Concerns every later transaction of the session, and a statement in autocommit is one.
    return f"SET SESSION TRANSACTION READ {'ONLY' if read_only else 'WRITE'}"


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # The flag is in every answer of the server, but no driver hands it out.
    return None
