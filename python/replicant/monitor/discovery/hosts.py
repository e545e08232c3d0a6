"""``HOSTS``: maps the name that a server prints for a replica to the address at which this site reaches it."""

from __future__ import annotations

from collections.abc import Mapping


def reached(hosts: Mapping[str, str], *names: str) -> tuple[str, int | None] | None:
    """The address of a replica in ``HOSTS``: the host and, if it is given, the port. None if there is no entry.

    ``names`` are the names that the server prints for the replica; the first one that is a key counts. An empty host
    means that it is not a replica of this site, but for example a tool that only reads the primary's log.
    """
    return next((_split(hosts[name]) for name in names if name in hosts), None)


def _split(address: str) -> tuple[str, int | None]:
    """The host and port of "host", "host:port", "[IPv6]:port" or a bare IPv6 address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = address, ""
    return host.removeprefix("[").removesuffix("]"), int(port) if port else None
