"""Replicas that registered with a MySQL or MariaDB primary: ``SHOW REPLICAS``.

A server that replicates from a replica registers with that replica and not with the primary: in a chain, only the first
replicas are found. A replica is listed for as long as it fetches the primary's log. It is listed under its
``report_host`` and ``report_port``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from replicant.engines import engine_of
from replicant.engines.query import ask_rows
from replicant.monitor.discovery.hosts import reached
from replicant.monitor.discovery.member import Member, Unusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The second query is for servers on which the first one is a syntax error: MySQL before 8.0.22.
_QUESTIONS = {
    "mysql": ("SHOW REPLICAS", "SHOW SLAVE HOSTS"),
    "mariadb": ("SHOW REPLICA HOSTS",),
}
_PRIVILEGES = {"mysql": "REPLICATION SLAVE", "mariadb": "REPLICATION MASTER ADMIN"}
_SYNTAX_ERROR = 1064
_ACCESS_DENIED = 1227


def replicas(connection: BaseDatabaseWrapper, hosts: Mapping[str, str]) -> list[Member]:
    """The replicas that the primary lists, at the host and port that each reports, or at the address that ``hosts`` has
    for its host and port, its host, or its server id."""
    found = []
    for row in _rows(connection):
        number, host, port = str(row["Server_id"]), row["Host"] or "", int(row["Port"] or 0)
        names = [f"{host}:{port}", host, number] if host else [number]
        place = reached(hosts, *names)
        if place is None:
            if not host:
                raise Unusable(f"the replica with server id {number} sets no report_host, and HOSTS does not name it")
            place = (host, None)
        # MariaDB prints no identity that a probe of the replica could confirm.
        found.append(Member(place[0], place[1] or port or None, row.get("Replica_UUID") or ""))
    return [member for member in found if member.host]


def _rows(connection: BaseDatabaseWrapper) -> list[dict[str, Any]]:
    kind = engine_of(connection).kind(connection) or "mysql"
    first, *later = _QUESTIONS[kind]
    try:
        try:
            rows = ask_rows(connection, first)
        except DatabaseError as error:
            if not later or error.args[0] != _SYNTAX_ERROR:
                raise
            rows = ask_rows(connection, later[0])
    except DatabaseError as error:
        if error.args and error.args[0] == _ACCESS_DENIED:
            raise Unusable(f"to see the replicas the monitor's user needs {_PRIVILEGES[kind]} ON *.*") from error
        raise
    # MySQL writes Server_Id, MariaDB Server_id; MySQL before 8.0.22 has Slave_UUID.
    names = {"Server_Id": "Server_id", "Slave_UUID": "Replica_UUID"}
    return [{names.get(name, name): value for name, value in row.items()} for row in rows]
