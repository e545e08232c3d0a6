"""Management commands: what they read, and the scope of ``migrate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand

from replicant import _core
from replicant.patches.wrapping import wrap


def install() -> None:
    """Wrap ``migrate`` and the method that all commands share. May be called again."""
    from django.core.management.commands.migrate import Command

    wrap(Command, "handle", _scoped)
    wrap(BaseCommand, "execute", _remembering)


def _scoped(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``migrate`` in a scope of its own, which keeps the reads of its RunPython operations on the primary.

    Its signals tell when it begins but, after a failure, not that it ended; a command of our own by that name would
    displace other packages' commands. So the method itself is wrapped, which those that derive from it share.
    """

    def scoped(self: BaseCommand, *args: Any, **options: Any) -> Any:
        scope = _core.Scope("migrate")
        scope.enter()
        try:
            return handle(self, *args, **options)
        finally:
            scope.leave()

    return scoped


def _remembering(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Have a management command read as a request does: from one replica, and never from an older one afterwards.

    It cannot be a request scope. ``OUTSIDE_REQUESTS`` says where commands read; a command that never ends
    (``runserver``, a worker) would keep its replica and its writes for ever; and the code around ``call_command()``
    must see what that wrote. So a command shares what its thread remembers, which ends by itself, and only remembers a
    read earlier: when it is routed. Where a scope is open around ``call_command()``, that one remembers.

    ``execute`` is wrapped, which ``manage.py`` and ``call_command()`` share, in the class of all commands.
    """

    def executed(self: BaseCommand, *args: Any, **options: Any) -> Any:
        before = _core.run_command(True)
        try:
            return execute(self, *args, **options)
        finally:
            _core.run_command(before)

    return executed
