"""Scopes: ``use_replica``, ``use_primary`` and ``request_scope``.

A scope is stored in a context variable, so that it follows the code into tasks and into threads that the code waits
for, and never leaks into others. Each scope is a context manager, sync and async. Except for ``request_scope``, each is
also a decorator for views, tasks and helpers of any kind.

A decorated function may return work that runs later: a template that renders lazily, a streamed body, a coroutine. Such
work also runs inside the function's scope; see :mod:`replicant.scopes.suspended`.
"""

from __future__ import annotations

import functools
import inspect
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction

from replicant import _core
from replicant.context_manager import ContextManager
from replicant.scopes.suspended import Suspended, async_generator_function, finish_later, generator_function

_Scope = TypeVar("_Scope", bound="_ContextScope")
_Decorated = TypeVar("_Decorated")


class _ContextScope(ContextManager, _core.Scope):
    """A scope as a context manager. It keeps no state: one object may be entered many times, also at the same time."""

    def __enter__(self: _Scope) -> _Scope:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class UseScope(_ContextScope):
    """The result of ``use_replica`` and ``use_primary``: a context manager and a decorator."""

    def __call__(self, decorated: _Decorated) -> _Decorated:
        return cast(_Decorated, _decorate(self, decorated))


class RequestScope(_ContextScope):
    """The result of ``request_scope``: a scope with one sticky replica and one write record."""


@overload
def use_replica(alias: str | None = None, *, stale_ok: bool = False) -> UseScope: ...
@overload
def use_replica(alias: _Decorated, *, stale_ok: bool = False) -> _Decorated: ...
def use_replica(alias: Any = None, *, stale_ok: bool = False) -> Any:
    """Let the reads inside go to replicas.

    Usable as a decorator, bare or called, or as a context manager, ``with`` or ``async with``.

    ``alias`` names a replica, which then serves the reads of its cluster, or a primary, which limits the scope to its
    cluster; None affects every cluster. ``stale_ok`` also allows replicas that lack data which this scope has written
    or seen; a transaction still reads from the primary. Entry raises ``ImproperlyConfigured`` if no cluster has the
    alias.
    """
    return _scope("use_replica", alias, stale_ok)


@overload
def use_primary(alias: str | None = None) -> UseScope: ...
@overload
def use_primary(alias: _Decorated) -> _Decorated: ...
def use_primary(alias: Any = None) -> Any:
    """Keep the reads inside on the primary.

    Usable as a decorator, bare or called, or as a context manager, ``with`` or ``async with``.

    ``alias`` names a member and limits the scope to its cluster; None affects every cluster. Entry raises
    ``ImproperlyConfigured`` if no cluster has the alias.
    """
    return _scope("use_primary", alias, False)


def request_scope() -> RequestScope:
    """The scope that the middleware opens around a request, and that a task runner should open around a task.

    Inside, reads stay on one replica, and after a write they stay on the primary until a replica has the write. It is a
    context manager, ``with`` or ``async with``.
    """
    return RequestScope("request")


def _scope(kind: str, alias: Any, stale_ok: bool) -> Any:
    if alias is None or isinstance(alias, str):
        return UseScope(kind, alias, stale_ok)
    return _decorate(UseScope(kind, None, stale_ok), alias)


def _decorate(scope: UseScope, decorated: Any) -> Any:
    """Open ``scope`` around every call of ``decorated``."""
    if isinstance(decorated, type):
        return _decorate_class(scope, decorated)
    if isinstance(decorated, (classmethod, staticmethod)):
        return type(decorated)(_decorate(scope, decorated.__func__))
    if not callable(decorated):
        raise TypeError(
            f"use_replica and use_primary take an alias (a string), a function or a class, not {decorated!r}."
        )
    if inspect.isasyncgenfunction(decorated):
        return functools.wraps(decorated)(async_generator_function(decorated, lambda: _Resumed(scope)))
    if inspect.isgeneratorfunction(decorated):
        return functools.wraps(decorated)(generator_function(decorated, lambda: _Resumed(scope)))
    if iscoroutinefunction(decorated):

        @functools.wraps(decorated)
        async def in_scope_async(*args: Any, **kwargs: Any) -> Any:
            with scope:
                return finish_later(await decorated(*args, **kwargs))

        return in_scope_async

    @functools.wraps(decorated)
    def in_scope(*args: Any, **kwargs: Any) -> Any:
        with scope:
            return finish_later(decorated(*args, **kwargs))

    return in_scope


def _decorate_class(scope: UseScope, decorated: type) -> type:
    """Decorate a class-based view: wrap ``dispatch``, which a request calls."""
    dispatch = getattr(decorated, "dispatch", None)
    if dispatch is None:
        raise TypeError(f"{decorated!r} has no dispatch(): decorate a class-based view, or one of its methods.")
    decorated.dispatch = _decorate(scope, dispatch)  # type: ignore[attr-defined]
    return decorated


class _Resumed(Suspended):
    """A scope that is entered again at each step of a generator, with all the scopes that its body had open inside.

    It is open only while the body runs, not while the consumer runs; the sticky replica stays the same.
    """

    def __init__(self, scope: UseScope) -> None:
        super().__init__(None)
        self._scope = scope.fresh()

    def _enter(self) -> None:
        self._scope.resume(self._node)
