"""All addresses behind a name, such as a reader endpoint's."""

from __future__ import annotations

import ipaddress
import socket

from replicant.monitor.discovery.member import Member, Unusable


def resolved(host: str, port: int | None) -> list[Member]:
    """Every address of a name once, IPv4 before IPv6, sorted, at ``port``. Queries the system's resolver; may block.

    The time to live of a record is ignored: the caller resolves the name again when it needs a new answer.

    :raises Unusable: there is no answer, or an empty one
    """
    try:
        answers = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise Unusable(f"the name {host!r} is not resolved: {error}") from error
    addresses = {str(address[0]) for family, *_, address in answers if family in (socket.AF_INET, socket.AF_INET6)}
    if not addresses:
        raise Unusable(f"the name {host!r} has no address")
    return [Member(address, port) for address in sorted(addresses, key=_order)]


def _order(address: str) -> tuple[int, int]:
    # A link-local address is followed by its interface.
    number = ipaddress.ip_address(address.partition("%")[0])
    return number.version, int(number)
