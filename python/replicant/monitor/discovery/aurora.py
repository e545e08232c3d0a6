"""Readers of an Amazon Aurora cluster, by its status table. Follows AWS's documentation; was never run on Aurora.

Rows outlive their instances, and after a failover two rows may claim to be the writer. A row therefore counts for 180
seconds, by the clock of the queried server, and of two writers the one with the newest row counts.

Sources: "Aurora MySQL-specific information_schema tables", "aurora_replica_status" and
"aurora_db_instance_identifier" in the Amazon Aurora User Guide.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replicant.engines.query import ask_rows
from replicant.monitor.discovery.hosts import reached
from replicant.monitor.discovery.member import Member, Unusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: In UTC, as the table is; the session has the application's time zone. A row from the future would come from another
#: time zone, and says as little as an old row.
_MYSQL = """
    SELECT SERVER_ID AS server_id, SESSION_ID = 'MASTER_SESSION_ID' AS is_writer,
        SERVER_ID = @@aurora_server_id AS is_asked
    FROM information_schema.replica_host_status
    WHERE ABS(TIMESTAMPDIFF(SECOND, LAST_UPDATE_TIMESTAMP, UTC_TIMESTAMP(6))) <= 180
    ORDER BY LAST_UPDATE_TIMESTAMP DESC
"""
#: Since 13.9, the queried instance has no timestamp, and is present.
_POSTGRESQL = """
    SELECT server_id, session_id = 'MASTER_SESSION_ID' AS is_writer,
        server_id = aurora_db_instance_identifier() AS is_asked
    FROM aurora_replica_status()
    WHERE last_update_timestamp IS NULL
        OR abs(extract(epoch FROM clock_timestamp() - last_update_timestamp)) <= 180
    ORDER BY last_update_timestamp DESC NULLS FIRST
"""


def replicas(connection: BaseDatabaseWrapper, hosts: Mapping[str, str]) -> list[Member]:
    """The readers, at the addresses that ``hosts`` has for their identifiers, or by the pattern under ``"*"``."""
    return readers(ask_rows(connection, _POSTGRESQL if connection.vendor == "postgresql" else _MYSQL), hosts)


def readers(rows: list[dict[str, Any]], hosts: Mapping[str, str]) -> list[Member]:
    """The readers among fresh rows, which are ordered from newest to oldest."""
    writer = next((row for row in rows if row["is_writer"]), None)
    if writer is None:
        raise Unusable("it has no writer that was heard of in the last 180 seconds")
    if not writer["is_asked"]:
        raise Unusable(f"the writer is {writer['server_id']!r} by now, and not the instance asked")
    found = []
    for row in rows:
        if row["is_writer"]:
            continue
        identifier = row["server_id"]
        pattern = {identifier: hosts["*"].replace("?", identifier)} if "*" in hosts else {}
        place = reached({**pattern, **hosts}, identifier)
        if place is None:
            raise Unusable(f"HOSTS has no entry for the instance {identifier!r}: {{'*': '?.<cluster>.<region>...'}}")
        found.append(Member(*place))
    return [member for member in found if member.host]
