"""Standbys that stream from a PostgreSQL primary: ``pg_stat_replication``, and a map.

The server knows the addresses from which its standbys connect and the names they give themselves (``application_name``,
by default their ``cluster_name``), but not the addresses on which they listen. Only physical standbys that stream
count. A standby that starts or catches up is not ready yet. A client that takes a backup, receives the log for an
archive, or subscribes to changes is not a standby. In a cascade, only the first standbys are found.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from replicant.engines.query import ask_rows
from replicant.monitor.discovery.hosts import reached
from replicant.monitor.discovery.member import Member, Unusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: A logical subscriber always has its own slot. Without the privilege, the columns of other users' sessions are NULL,
#: except the name.
_QUESTION = """
    SELECT application_name, host(client_addr) AS client_addr, state
    FROM pg_stat_replication
    WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE active_pid = pid AND slot_type = 'logical')
"""
_TOOLS = ("pg_basebackup", "pg_receivewal")


def replicas(connection: BaseDatabaseWrapper, hosts: Mapping[str, str]) -> list[Member]:
    """The standbys that stream, at the address that ``hosts`` has for their name or address; otherwise at the address
    that they connect from, with the template's port."""
    rows = ask_rows(connection, _QUESTION)
    if any(row["state"] is None for row in rows):
        raise Unusable("to see the standbys the monitor's user needs pg_monitor, or pg_read_all_stats")
    rows = [row for row in rows if row["state"] == "streaming" and row["application_name"] not in _TOOLS]
    places = [_place(row, hosts) for row in rows]
    # Two at one address: standbys that cannot be told apart, or one that came back before its old session timed out.
    for place, count in Counter(places).items():
        if count > 1 and place[0]:
            raise Unusable(f"{count} standbys seem to be at {place[0]}: name each of them in HOSTS")
    return [Member(*place) for place in places if place[0]]


def _place(row: Mapping[str, Any], hosts: Mapping[str, str]) -> tuple[str, int | None]:
    name, address = row["application_name"], row["client_addr"]
    place = reached(hosts, *filter(None, (name, address)))
    if place is None and address is None:
        raise Unusable(f"the standby {name!r} comes by a Unix socket, and HOSTS does not name it")
    return place or (address, None)
