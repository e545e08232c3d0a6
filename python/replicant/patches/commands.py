"""Management commands: the memory of their reads, and the scope of ``migrate``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand

from replicant import _core
from replicant.patches.wrapping import wrap


def install() -> None:
    """Wrap ``migrate``, and the method that all commands share. May be called again."""
    from django.core.management.commands.migrate import Command

    wrap(Command, "handle", _scoped)
    wrap(BaseCommand, "execute", _remembering)


def _scoped(handle: Callable[..., Any]) -> Callable[..., Any]:
    """Run ``migrate`` in a separate scope, which keeps the reads of its RunPython operations on the primary.

    The signals of ``migrate`` mark its beginning, but after a failure no signal marks its end. A command of this
    package with the same name would displace the commands of other packages. Therefore the method itself is wrapped,
    which derived commands share.
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
    """Make a management command read as a request does: from one replica, and never from an older one afterwards.

    A request scope cannot do this, for three reasons: ``OUTSIDE_REQUESTS`` says where commands read, a command that
    never ends (``runserver``, a worker) would keep its replica and its writes forever, and the code around
    ``call_command()`` must see what the command wrote. Therefore a command uses the memory of its thread, which ends by
    itself. The only difference is that a command remembers a read earlier: when it is routed. If a scope is open around
    ``call_command()``, that scope remembers.

    The wrapper is around ``execute`` of the base class, which ``manage.py`` and ``call_command()`` both call.
    """

    def executed(self: BaseCommand, *args: Any, **options: Any) -> Any:
        before = _core.run_command(True)
        try:
            return execute(self, *args, **options)
        finally:
            _core.run_command(before)

    return executed
