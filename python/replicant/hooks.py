"""What must be hung on Django itself, once: new connections, and ``migrate``."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created

from replicant import _core, trials
from replicant.tracking import track

_UID = "replicant.hooks"


_installed = False


def install() -> None:
    """Watch every connection from now on, those of this thread that are open included. May be called again."""
    global _installed
    if _installed:
        # Not merely idempotent: connecting a signal takes a lock, which a fork in the middle would never release.
        return
    _installed = True
    connection_created.connect(_opened, dispatch_uid=_UID)
    for connection in connections.all(initialized_only=True):
        track(connection)
    _scope_migrate()
    trials.install()


def _opened(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if asyncio._get_running_loop() is not None:
        # Where DJANGO_ALLOW_ASYNC_UNSAFE lets it: in a notebook, under Playwright.
        _core.opened_beside_a_loop()
    track(connection).opened(connection)


def _scope_migrate() -> None:
    """Run ``migrate`` in a scope of its own, which keeps the reads of its RunPython operations on the primary.

    Its signals tell when it begins but, after a failure, not that it ended; a command of our own by that name would
    displace other packages' commands. So the method itself is wrapped, which those that derive from it share.
    """
    from django.core.management.commands.migrate import Command

    handle = Command.handle
    if hasattr(handle, _UID):
        return

    @functools.wraps(handle)
    def scoped(self: Command, *args: Any, **options: Any) -> Any:
        scope = _core.Scope("migrate")
        scope.enter()
        try:
            return handle(self, *args, **options)
        finally:
            scope.leave()

    setattr(scoped, _UID, True)
    Command.handle = scoped  # type: ignore[method-assign, assignment]
