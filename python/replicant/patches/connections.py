"""New connections: each one is tracked, and statements that are sent while it is opened do not count as changes of the
session."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from replicant import _core
from replicant.connections.tracker import opening, track
from replicant.patches.wrapping import wrap


def install() -> None:
    """Track every connection that is opened from now on, and the open connections of this thread. May be called again.

    ``connection_created`` reports that a connection was opened. No signal reports the end of that phase, and later
    receivers may send more statements. Therefore ``connect`` is wrapped, too.
    """
    wrap(BaseDatabaseWrapper, "connect", _marking)
    connection_created.connect(_opened, dispatch_uid="replicant.patches.connections")
    for connection in connections.all(initialized_only=True):
        track(connection)


def _marking(connect: Callable[..., Any]) -> Callable[..., Any]:
    def marked(self: BaseDatabaseWrapper) -> None:
        opening(self, connect)

    return marked


def _opened(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if asyncio._get_running_loop() is not None:
        # DJANGO_ALLOW_ASYNC_UNSAFE allows this, in a notebook or under Playwright.
        _core.opened_beside_a_loop()
    track(connection).opened(connection)
