"""What must be hung on Django itself, once: new connections, management commands, and rows loaded in part."""

from __future__ import annotations

import asyncio
import functools
import os
import threading
from typing import Any

from django.core.management.base import BaseCommand
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.signals import connection_created
from django.db.models import Model, ProtectedError, QuerySet, RestrictedError
from django.db.models.deletion import Collector

from replicant import _core, conf, raw_queries, trials
from replicant.tracking import opening, track

_UID = "replicant.hooks"


_installed = False
#: Held while the hooks are installed, by threads that read the settings at the same time.
_installing = threading.Lock()


def install() -> None:
    """Watch every connection from now on, those of this thread that are open included. May be called again."""
    # Connecting a signal again would take its lock, which a fork in the middle would never release.
    if _installed:
        return
    with _installing:
        if not _installed:
            _install()


def _install() -> None:
    global _installed
    _mark_what_opens()
    connection_created.connect(_opened, dispatch_uid=_UID)
    for connection in connections.all(initialized_only=True):
        track(connection)
    _save_what_was_loaded()
    _reveal_what_was_found()
    _reveal_what_was_not_deleted()
    raw_queries.install()
    _scope_migrate()
    _scope_commands()
    trials.install()
    # At the end: a thread that sees it does not wait, and its connections must be watched.
    _installed = True


def _after_fork_in_child() -> None:
    global _installing
    _installing = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _mark_what_opens() -> None:
    """Mark a connection while it is being opened: what is sent then is sent to every new session.

    No signal tells when that ends: a receiver of ``connection_created`` that comes after ours may send more.
    """
    connect = BaseDatabaseWrapper.connect
    if hasattr(connect, _UID):
        return

    @functools.wraps(connect)
    def marked(self: BaseDatabaseWrapper) -> None:
        opening(self, connect)

    setattr(marked, _UID, True)
    BaseDatabaseWrapper.connect = marked  # type: ignore[method-assign]


def _opened(*, connection: BaseDatabaseWrapper, **kwargs: Any) -> None:
    if asyncio._get_running_loop() is not None:
        # Where DJANGO_ALLOW_ASYNC_UNSAFE lets it: in a notebook, under Playwright.
        _core.opened_beside_a_loop()
    track(connection).opened(connection)


def _save_what_was_loaded() -> None:
    """Have a row that was loaded in part from a replica saved in that part, as one of the primary's is.

    Django does so where a row is saved in the database that it came from. Elsewhere it saves all of it, having loaded
    the rest from where the row came from: values that nobody looked at, older perhaps than those they overwrite.
    """
    save_base = Model.save_base
    if hasattr(save_base, _UID):
        return

    @functools.wraps(save_base)
    def saving(
        self: Model,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        if update_fields is None and using and not raw and not force_insert:
            update_fields = _loaded_from_a_replica(self, using)
        save_base(self, raw, force_insert, force_update, using, update_fields)

    setattr(saving, _UID, True)
    Model.save_base = saving  # type: ignore[method-assign]


def _loaded_from_a_replica(instance: Model, using: str) -> frozenset[str] | None:
    """Which fields a row has that came in part from a replica of ``using``; None for any other row."""
    alias = instance._state.db
    if alias is None or alias == using:
        return None
    meta = instance._meta
    loaded = {field.attname for field in meta.concrete_fields if field.generated or field.attname in vars(instance)}
    if len(loaded) == len(meta.concrete_fields):
        return None
    # An alias without a connection is one that a member of the cluster had when the row was pickled or cached.
    if not conf.is_replica_of(alias, using) and (alias in connections.settings or _core.role(using) != "primary"):
        return None
    return frozenset(loaded.difference(field.attname for field in meta.pk_fields)) or None


def _reveal_what_was_found() -> None:
    """Have a row that ``get_or_create`` found on the primary be found by the reads that follow.

    The query is a plain one: its text does not say why it was sent to the primary. So is that of ``select_for_update``
    where a database locks no rows (SQLite).
    """
    get_or_create, select_for_update = QuerySet.get_or_create, QuerySet.select_for_update
    if hasattr(get_or_create, _UID):
        return

    @functools.wraps(get_or_create)
    def getting(self: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        result = get_or_create(self, *args, **kwargs)
        if isinstance(result, tuple) and result[-1] is False:
            _found(self)
        return result

    @functools.wraps(select_for_update)
    def selecting(self: QuerySet[Any], *args: Any, **kwargs: Any) -> QuerySet[Any]:
        result = select_for_update(self, *args, **kwargs)
        if not connections[result.db].features.has_select_for_update:
            _found(result)
        return result

    setattr(getting, _UID, True)
    QuerySet.get_or_create = getting  # type: ignore[method-assign]
    QuerySet.select_for_update = selecting  # type: ignore[method-assign, assignment]


def _reveal_what_was_not_deleted() -> None:
    """Have reads find what a deletion was told of the primary: that no row was there, or that other rows forbid it.

    Django looks for the rows first, and then sends no DELETE.
    """
    delete, collect = QuerySet.delete, Collector.collect
    if hasattr(delete, _UID):
        return

    @functools.wraps(delete)
    def deleting(self: QuerySet[Any]) -> Any:
        result = delete(self)
        if result[0] == 0:
            alias = self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]
            _found(self.using(alias))
        return result

    @functools.wraps(collect)
    def collecting(self: Collector, *args: Any, **kwargs: Any) -> Any:
        try:
            return collect(self, *args, **kwargs)
        except (ProtectedError, RestrictedError):
            connection = connections[self.using]
            track(connection).reveal(connection)
            raise

    setattr(deleting, _UID, True)
    QuerySet.delete = deleting  # type: ignore[method-assign]
    Collector.collect = collecting  # type: ignore[method-assign]


def _found(queryset: QuerySet[Any]) -> None:
    connection = connections[queryset.db]
    track(connection).found(connection, queryset.model._meta.db_table)


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


def _scope_commands() -> None:
    """Have a management command read as a request does: from one replica, and never from an older one afterwards.

    It cannot be a request scope. ``OUTSIDE_REQUESTS`` says where commands read; a command that never ends
    (``runserver``, a worker) would keep its replica and its writes for ever; and the code around ``call_command()``
    must see what that wrote. So a command shares what its thread remembers, which ends by itself, and only remembers a
    read earlier: when it is routed. Where a scope is open around ``call_command()``, that one remembers.

    ``execute`` is wrapped, which ``manage.py`` and ``call_command()`` share, in the class of all commands.
    """
    execute = BaseCommand.execute
    if hasattr(execute, _UID):
        return

    @functools.wraps(execute)
    def executed(self: BaseCommand, *args: Any, **options: Any) -> Any:
        before = _core.run_command(True)
        try:
            return execute(self, *args, **options)
        finally:
            _core.run_command(before)

    setattr(executed, _UID, True)
    BaseCommand.execute = executed  # type: ignore[method-assign]
