"""MySQL and MariaDB."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from replicant.engines.sample import Sample, ask, position_of

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


# The version is the driver's, from the handshake: asking the server would take a round trip.
def _is_mariadb(connection: BaseDatabaseWrapper) -> bool:
    return "mariadb" in str(connection.connection.get_server_info()).lower()


#: The last one for what only speaks the protocol.
_MYSQL = (
    """
    SELECT @@global.read_only OR @@global.super_read_only OR @@global.innodb_read_only, @@server_uuid,
        @@global.gtid_mode, @@global.gtid_executed
    """,
    "SELECT @@read_only, CONCAT(@@hostname, ':', @@port), 'OFF', ''",
)
# A replica has what it applied. A server that is written to has that and what it wrote since: its own transactions of
# the binary log. A replica's own are none of its source's, so they do not count there.
_MARIADB = (
    """
    SELECT @@global.read_only, CONCAT(@@server_id, '@', @@hostname, ':', @@port), @@global.log_bin OR @@global.read_only,
        IF(@@global.read_only, @@global.gtid_slave_pos, @@global.gtid_current_pos)
    """,
    "SELECT @@read_only, CONCAT(@@hostname, ':', @@port), 0, ''",
)


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    # Whole seconds are all the drivers take, and 0 would be for ever.
    limit = max(1, math.ceil(seconds))
    options = connection.settings_dict["OPTIONS"]
    options["connect_timeout"] = limit
    if connection.Database.__name__ in ("MySQLdb", "pymysql"):
        options["read_timeout"] = options["write_timeout"] = limit


def probe(connection: BaseDatabaseWrapper) -> Sample:
    is_mariadb = _is_mariadb(connection)
    _, answer = ask(connection, _MARIADB if is_mariadb else _MYSQL, _unknown_or_forbidden)
    read_only, server, mode, text = answer.row
    position = None
    if is_mariadb and mode:
        position = position_of("mariadb", text)
    elif not is_mariadb and mode in ("ON", "ON_PERMISSIVE"):
        position = position_of("mysql", text)
    is_writable = str(read_only) in ("0", "OFF")
    return Sample(connection.alias, str(server), is_writable, position, answer.asked_at, answer.latency)


def _unknown_or_forbidden(error: Exception) -> bool:
    # An unknown variable (1193), one that is a session's or a server's only (1238), and four ways to say no.
    return bool(error.args) and error.args[0] in (1193, 1238, 1044, 1142, 1143, 1227)


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    driver = connection.connection
    if hasattr(driver, "fileno"):
        return int(driver.fileno())
    # PyMySQL
    sock = getattr(driver, "_sock", None)
    return None if sock is None else int(sock.fileno())
