"""What the servers say of their replicas."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant.engines import Sample


class Member(NamedTuple):
    """A replica, as the servers name it."""

    host: str
    """Where to connect."""
    port: int | None
    """None: the template's."""
    server: str = ""
    """Which server it is, comparable with ``Sample.server``; empty where the view does not say."""


class Unusable(Exception):
    """A view is empty, partial or stale, or this user may not see it: the text says why, and nothing that is secret."""


def members(connection: BaseDatabaseWrapper, topology: Mapping[str, Any], sample: Sample) -> list[Member]:
    """The replicas, asked of the server that ``sample`` is of, on its connection, in one round trip.

    Raises :class:`Unusable`, and Django's database errors.
    """
    if topology["METHOD"] != "mysql":
        raise Unusable(f"METHOD {topology['METHOD']!r} is not there yet")
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute("SHOW REPLICAS")
            rows = cursor.fetchall()
        finally:
            cursor.close()
    if not rows:
        raise Unusable("no replica is connected")
    found = []
    for number, host, port, _source, uuid in rows:
        if not host:
            raise Unusable(f"the replica with the server id {number} has no report_host")
        found.append(Member(host, int(port), uuid))
    return found


def resolved(host: str, port: int | None) -> list[Member]:
    """All addresses of a name. May block. Raises :class:`Unusable`."""
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        raise Unusable(f"{host!r} was not resolved: {error}") from error
    addresses = sorted({str(answer[4][0]) for answer in answers})
    if not addresses:
        raise Unusable(f"{host!r} has no address")
    return [Member(address, port) for address in addresses]
