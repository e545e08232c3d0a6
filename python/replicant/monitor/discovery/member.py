"""A replica as the servers' view has it, and why there may be no such view."""

from __future__ import annotations

from typing import NamedTuple


class Member(NamedTuple):
    """A replica by the servers' own view."""

    host: str
    """Where it is to be connected to: a name, or an address (IPv6 without brackets, as drivers take it)."""
    port: int | None
    """None: the port of the template's alias."""
    server: str = ""
    """Which server it is, comparable with ``engines.Sample.identity``; empty where the view does not say."""


class Unusable(Exception):
    """The view is empty, partial or stale, or this user may not see it; the text says why, without anything secret."""
