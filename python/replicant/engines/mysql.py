"""MySQL and MariaDB."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    # Concerns every later transaction of the session, and a statement in autocommit is one.
    return f"SET SESSION TRANSACTION READ {'ONLY' if read_only else 'WRITE'}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # A read-only transaction (1792), a read_only server (1290), read-only mode (1836).
    return bool(error.args) and error.args[0] in (1290, 1792, 1836)


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # The flag is in every answer of the server, but no driver hands it out.
    return None
