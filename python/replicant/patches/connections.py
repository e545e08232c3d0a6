"""New connections: each of them is tracked, and what is sent while one is being opened changes no session."""

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
    """Track every connection that is opened from now on, and those of this thread that are open. May be called again.

    ``connection_created`` says that a connection was opened. No signal says when that ends: a receiver that comes after
    ours may send more. So ``connect`` is wrapped, too.
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
        # Where DJANGO_ALLOW_ASYNC_UNSAFE allows it: in a notebook, under Playwright.
        _core.opened_beside_a_loop()
    track(connection).opened(connection)
