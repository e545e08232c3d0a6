"""Nothing writes on a replica: its sessions are read-only at the server, and a refusal says what to do."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from django.db import DatabaseError
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import _core, conf, mirrors
from replicant.engines import engine_of
from replicant.errors import ReplicaWriteError

logger = logging.getLogger("replicant")


def set_read_only(connection: BaseDatabaseWrapper, read_only: bool) -> None:
    """Make the open session read-only at the server, or writable again, where the engine can.

    Sent on the driver's own cursor: the user's query log and counts do not see it.
    """
    sql = engine_of(connection).read_only_sql(read_only)
    if sql is None:
        return
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute(sql)
        finally:
            cursor.close()
        if not connection.get_autocommit():
            # PostgreSQL would take the setting back with the first rollback.
            connection.connection.commit()


def explained(
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Execute a statement on a replica, and say what its refusal of a write means.

    Raises ``ReplicaWriteError``, and logs it, too: Django's cache backend swallows database errors.
    """
    connection: BaseDatabaseWrapper = context["connection"]
    try:
        return execute(sql, params, many, context)
    except DatabaseError as error:
        if not engine_of(connection).refused_as_read_only(error):
            raise
        raise _refusal(connection, sql) from error


def judge(connection: BaseDatabaseWrapper, sql: Any) -> None:
    """Refuse a statement on a replica's alias that is not surely a read, where the session is not the replica's own.

    Raises ``ReplicaWriteError``.
    """
    if mirrors.does_own_work(connection):
        return
    if isinstance(sql, bytes):
        sql = sql.decode(errors="replace")
    if not isinstance(sql, str) or _core.analyse(sql, connection.vendor) & (_core.WRITES | _core.LOCKS):
        raise _refusal(connection, sql)


def _refusal(connection: BaseDatabaseWrapper, sql: Any) -> ReplicaWriteError:
    verb = _core.verb(sql, connection.vendor) if isinstance(sql, str) else ""
    message = (
        f"{connection.alias!r} is a replica and takes no writes and no locks: {verb or 'a statement'} was refused. "
        f"Send it to the primary: .using({conf.primary_of(connection.alias)!r}), or the alias of db_for_write()."
    )
    logger.error(message)
    return ReplicaWriteError(message)
