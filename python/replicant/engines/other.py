"""Any other database: routing works, and nothing is known of its sessions."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return None


def refused_as_read_only(error: DatabaseError) -> bool:
    return False


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return None
