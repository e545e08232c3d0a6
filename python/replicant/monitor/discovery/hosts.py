"""From what a server prints of a replica to where this site reaches it: ``HOSTS``."""

from __future__ import annotations

from collections.abc import Mapping


def reached(hosts: Mapping[str, str], *names: str) -> tuple[str, int | None] | None:
    """Where ``HOSTS`` says that a replica is reached: its host and, if it says so, its port. None if it does not say.

    ``names`` are what the server prints of the replica; the first that is a key counts. An empty host: no replica of
    this site's, such as a tool that only reads the primary's log.
    """
    return next((_split(hosts[name]) for name in names if name in hosts), None)


def _split(address: str) -> tuple[str, int | None]:
    """The host and port of "host", "host:port", "[IPv6]:port" or a bare IPv6 address."""
    host, colon, port = address.rpartition(":")
    if not colon or not port.isdecimal() or (":" in host and not host.endswith("]")):
        host, port = address, ""
    return host.removeprefix("[").removesuffix("]"), int(port) if port else None
