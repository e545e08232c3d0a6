"""Secondaries of a MySQL group, by the group's own membership.

The group elects its primary. The monitor finds it as it finds every promotion: by what the members report about
themselves. A member that takes writes is not a replica. A multi-primary group therefore has no replicas, and its view
is unusable.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from django.db import DatabaseError

from replicant.engines.query import ask_rows
from replicant.monitor.discovery.hosts import reached
from replicant.monitor.discovery.member import Member, Unusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

_TABLE = "performance_schema.replication_group_members"
_QUESTION = f"""
    SELECT MEMBER_ID AS id, MEMBER_HOST AS host, MEMBER_PORT AS port, MEMBER_STATE AS state, MEMBER_ROLE AS role,
        MEMBER_ID = @@GLOBAL.server_uuid AS is_asked
    FROM {_TABLE}
"""
#: SELECT command denied
_ACCESS_DENIED = 1142


def replicas(connection: BaseDatabaseWrapper, hosts: Mapping[str, str]) -> list[Member]:
    """The members that are ONLINE and SECONDARY, at the host and port that each reports, or at the address that
    ``hosts`` has for its host and port, its host, or its UUID."""
    try:
        rows = ask_rows(connection, _QUESTION)
    except DatabaseError as error:
        if error.args and error.args[0] == _ACCESS_DENIED:
            raise Unusable(f"to see the group the monitor's user needs SELECT ON {_TABLE}") from error
        raise
    # A member that is cut off from the others keeps its role and its last list of members.
    present = [row for row in rows if row["state"] in ("ONLINE", "RECOVERING")]
    if not any(row["is_asked"] and row["state"] == "ONLINE" for row in rows):
        raise Unusable("the server asked is not ONLINE in a group")
    if 2 * len(present) <= len(rows):
        raise Unusable(f"the server asked reaches {len(present)} of {len(rows)} members of its group: no majority")
    found = []
    for row in rows:
        if row["state"] != "ONLINE" or row["role"] != "SECONDARY":
            continue
        if row["is_asked"]:
            raise Unusable("the server asked is a SECONDARY of its group: another one is the primary")
        host, port, identity = row["host"], int(row["port"]), row["id"]
        place = reached(hosts, f"{host}:{port}", host, identity) or (host, None)
        found.append(Member(place[0], place[1] or port, identity))
    return [member for member in found if member.host]
