"""Any other database: routing works, and nothing is known of its sessions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from django.db import OperationalError

from replicant.engines.sample import Sample

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return None


def refused_as_read_only(error: DatabaseError) -> bool:
    return False


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return None


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    pass


def probe(connection: BaseDatabaseWrapper) -> Sample:
    asked_at = time.monotonic_ns()
    if not connection.is_usable():
        raise OperationalError("no answer")
    return Sample(connection.alias, "", True, None, asked_at, (time.monotonic_ns() - asked_at) / 1e9)


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    return None
