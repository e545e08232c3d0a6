"""What must be hung on Django itself, once: new connections, ``migrate``, and rows loaded in part."""

from __future__ import annotations

import asyncio
import functools
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model
from django.db.models.signals import pre_save

from replicant import _core, conf, trials
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
    pre_save.connect(_complete, dispatch_uid=_UID)
    for connection in connections.all(initialized_only=True):
        track(connection)
    _scope_migrate()
    trials.install()


def _opened(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if asyncio._get_running_loop() is not None:
        # Where DJANGO_ALLOW_ASYNC_UNSAFE lets it: in a notebook, under Playwright.
        _core.opened_beside_a_loop()
    track(connection).opened(connection)


def _complete(*, instance: Model, using: str, raw: bool = False, update_fields: Any = None, **kwargs: Any) -> None:
    """Load what was deferred from where the row is about to be saved.

    With one database Django saves only the fields that were loaded. A row from a replica it saves in full, on the
    primary, and loads the rest from that replica first: values that nobody looked at, perhaps older than those they
    would overwrite.
    """
    alias = instance._state.db
    if alias is None or alias == using or raw or update_fields is not None:
        return
    if (deferred := instance.get_deferred_fields()) and conf.is_replica_of(alias, using):
        instance.refresh_from_db(using=using, fields=deferred)


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
