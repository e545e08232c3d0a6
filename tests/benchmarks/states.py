"""The states that a router is measured in; each is entered once, in the contender's own process."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext
from typing import Any


def enter(name: str, stack: ExitStack) -> None:
    """Enter the state until ``stack`` closes."""
    scope = STATES[name]()
    if scope is not None:
        stack.enter_context(scope)


def _replicated() -> None:
    """What django_replicated's middleware does for a GET."""
    from django.db import router

    router.routers[0].init("slave")


def _scope(name: str, *arguments: str) -> AbstractContextManager[Any]:
    import replicant

    scope: AbstractContextManager[Any] = getattr(replicant, name)(*arguments)
    return scope


def _transaction() -> AbstractContextManager[Any]:
    from django.db import transaction

    return transaction.atomic()


class _Written:
    """After a write, in a request or outside of one."""

    def __init__(self, scope: AbstractContextManager[Any]) -> None:
        self._scope = scope

    def __enter__(self) -> None:
        from tests.app.models import Item

        self._scope.__enter__()
        Item.objects.using("default").create(name="written")

    def __exit__(self, *error: Any) -> None:
        self._scope.__exit__(*error)


class _Busy:
    """Beside a thread that computes all the time."""

    def __init__(self) -> None:
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._compute)

    def _compute(self) -> None:
        while not self._ended.is_set():
            sum(range(1000))

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *error: Any) -> None:
        self._ended.set()
        self._thread.join()


class _Required:
    """In a request that must see a position, which the replica it reads from has and another one lacks."""

    def __init__(self) -> None:
        self._scope = _scope("request_scope")

    def __enter__(self) -> None:
        import time
        from unittest import mock

        from replicant import _core
        from replicant.conf import reader

        # SQLite has no positions; here PostgreSQL's serve, told by hand, with nobody to ask.
        with mock.patch.object(reader, "VENDORS_WITH_POSITIONS", frozenset({"sqlite"})):
            _core.invalidate()
            _core.role("default")
        here, earlier = (_core.Position("postgresql", text) for text in ("1:0/2000000", "1:0/1000000"))
        told = [("default", here, 1), ("replica1", here, 2), ("replica2", earlier, 3)]
        _core.observe([(alias, position, time.monotonic_ns(), str(server)) for alias, position, server in told])
        self._scope.__enter__()
        _core.require("default", here)

    def __exit__(self, *error: Any) -> None:
        self._scope.__exit__(*error)


STATES: dict[str, Callable[[], Any]] = {
    "nothing": lambda: None,
    "busy": _Busy,
    "replicated": _replicated,
    "request": lambda: _scope("request_scope"),
    "use_replica": lambda: _scope("use_replica"),
    "named": lambda: _scope("use_replica", "replica2"),
    "use_primary": lambda: _scope("use_primary"),
    "transaction": _transaction,
    "required": _Required,
    "pinned": lambda: _Written(_scope("request_scope")),
    "pinned_by_time": lambda: _Written(nullcontext()),
}
