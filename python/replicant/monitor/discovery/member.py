"""A replica in the servers' own view, and the error for a view that cannot be used."""

from __future__ import annotations

from typing import NamedTuple


class Member(NamedTuple):
    """A replica in the servers' own view."""

    host: str
    """The host to connect to: a name, or an address (IPv6 without brackets, as drivers take it)."""
    port: int | None
    """None: the port of the template's alias."""
    server: str = ""
    """The identity of the server, comparable with ``engines.Sample.identity``; empty where the view does not show it.
    """


class Unusable(Exception):
    """The view is empty, partial or stale, or this user may not see it. The text gives the reason without secrets."""
