"""Scopes: ``use_replica``, ``use_primary`` and ``request_scope``.

A scope is entered in a context variable, so that it follows the code through threads that are waited for and through
tasks, and never leaks into others. Each is a context manager, sync and async, and (but for ``request_scope``) a
decorator of whatever a view, a task or a helper may be.

What a decorated function returns may run later: a template that renders lazily, a streamed body, a coroutine. That
runs inside the function's scope, too; see :func:`finish_later`.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, TypeVar, cast, overload

from asgiref.sync import iscoroutinefunction
from django.http import StreamingHttpResponse

from replicant import _core

_Scope = TypeVar("_Scope", bound="_ContextScope")
_Decorated = TypeVar("_Decorated")


class _ContextScope(_core.Scope):
    """A scope as a context manager. Keeps no state of its own: one object may be entered many times, at once too."""

    def __enter__(self: _Scope) -> _Scope:
        self.enter()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    async def __aenter__(self: _Scope) -> _Scope:
        self.enter()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()


class UseScope(_ContextScope):
    """What ``use_replica`` and ``use_primary`` return: a context manager and a decorator."""

    def __call__(self, decorated: _Decorated) -> _Decorated:
        return cast(_Decorated, _decorate(self, decorated))


class RequestScope(_ContextScope):
    """What ``request_scope`` returns: one sticky replica and one write record."""


@overload
def use_replica(alias: str | None = None, *, stale_ok: bool = False) -> UseScope: ...
@overload
def use_replica(alias: _Decorated, *, stale_ok: bool = False) -> _Decorated: ...
def use_replica(alias: Any = None, *, stale_ok: bool = False) -> Any:
    """Let the reads inside go to replicas.

    As a decorator, bare or called, or as a context manager, ``with`` or ``async with``.

    ``alias`` names a replica, for the reads of its cluster, or a primary, for that cluster alone; None concerns every
    cluster. ``stale_ok`` also allows replicas that lack what this scope has written or seen; a transaction still reads
    from the primary. Entering raises ``ImproperlyConfigured`` if no cluster has the alias.
    """
    return _scope("use_replica", alias, stale_ok)


@overload
def use_primary(alias: str | None = None) -> UseScope: ...
@overload
def use_primary(alias: _Decorated) -> _Decorated: ...
def use_primary(alias: Any = None) -> Any:
    """Keep the reads inside on the primary.

    As a decorator, bare or called, or as a context manager, ``with`` or ``async with``.

    ``alias`` names a member of the one cluster concerned; None concerns every cluster. Entering raises
    ``ImproperlyConfigured`` if no cluster has the alias.
    """
    return _scope("use_primary", alias, False)


def request_scope() -> RequestScope:
    """What the middleware opens around a request, for task runners to open around a task.

    Inside, reads stick to one replica, and after a write they stay on the primary until the scope ends. A context
    manager, ``with`` or ``async with``.
    """
    return RequestScope("request")


def _scope(kind: str, alias: Any, stale_ok: bool) -> Any:
    if alias is None or isinstance(alias, str):
        return UseScope(kind, alias, stale_ok)
    return _decorate(UseScope(kind, None, stale_ok), alias)


def _decorate(scope: UseScope, decorated: Any) -> Any:
    """Open ``scope`` around every call of what is decorated."""
    if isinstance(decorated, type):
        return _decorate_class(scope, decorated)
    if isinstance(decorated, (classmethod, staticmethod)):
        return type(decorated)(_decorate(scope, decorated.__func__))
    if not callable(decorated):
        raise TypeError(
            f"use_replica and use_primary take an alias (a string), a function or a class, not {decorated!r}."
        )
    if inspect.isasyncgenfunction(decorated):
        return _decorate_async_generator(scope, decorated)
    if inspect.isgeneratorfunction(decorated):
        return _decorate_generator(scope, decorated)
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
    """A class-based view: its ``dispatch`` is what a request runs."""
    dispatch = getattr(decorated, "dispatch", None)
    if dispatch is None:
        raise TypeError(f"{decorated!r} has no dispatch(): decorate a class-based view, or one of its methods.")
    decorated.dispatch = _decorate(scope, dispatch)  # type: ignore[attr-defined]
    return decorated


def _decorate_generator(scope: UseScope, decorated: Callable[..., Any]) -> Callable[..., Any]:
    """The scope is open only while the body runs, not while the consumer does; the sticky replica stays."""

    @functools.wraps(decorated)
    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        resumed = _Resumed(scope)
        generator = decorated(*args, **kwargs)
        # What `yield from` does, with the scope around each step.
        step: Callable[..., Any] = next
        sent: tuple[Any, ...] = ()
        while True:
            try:
                with resumed:
                    item = step(generator, *sent)
            except StopIteration as stop:
                return stop.value
            try:
                received = yield item
            except GeneratorExit:
                with resumed:
                    generator.close()
                raise
            except BaseException as error:
                step, sent = type(generator).throw, (error,)
            else:
                step, sent = type(generator).send, (received,)

    return generate


def _decorate_async_generator(scope: UseScope, decorated: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(decorated)
    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        resumed = _Resumed(scope)
        generator = decorated(*args, **kwargs)
        step: Callable[..., Any] = type(generator).__anext__
        sent: tuple[Any, ...] = ()
        while True:
            try:
                with resumed:
                    item = await step(generator, *sent)
            except StopAsyncIteration:
                return
            try:
                received = yield item
            except GeneratorExit:
                with resumed:
                    await generator.aclose()
                raise
            except BaseException as error:
                step, sent = type(generator).athrow, (error,)
            else:
                step, sent = type(generator).asend, (received,)

    return generate


class _Resumed:
    """A scope entered again and again, with the memory of its first entry: one generator, one sticky replica."""

    def __init__(self, scope: UseScope) -> None:
        self._scope = scope
        self._cell: _core.SharedCell | None = None

    def __enter__(self) -> None:
        self._cell = self._scope.enter(self._cell)

    def __exit__(self, *error: object) -> None:
        self._scope.leave()


# What happens after the function has returned.


@contextmanager
def _inside(node: _core.ScopeNode | None) -> Iterator[None]:
    """Run the block inside exactly the scopes of ``node``."""
    outer = _core.scope_variable.get(None)
    _core.scope_variable.set(node)
    try:
        yield
    finally:
        _core.scope_variable.set(outer)


def finish_later(result: Any) -> Any:
    """Make what ``result`` does later run inside the scopes that are open now.

    Concerns a coroutine (``dispatch`` of an async class-based view returns one), a response that is not yet rendered
    and a streamed one; anything else is returned as it is.
    """
    if inspect.iscoroutine(result):
        return _finish_coroutine(result, _core.scope_variable.get(None))
    if isinstance(result, StreamingHttpResponse):
        _stream_inside(result, _core.scope_variable.get(None))
    elif getattr(result, "is_rendered", True) is False:
        _render_inside(result, _core.scope_variable.get(None))
    return result


async def _finish_coroutine(result: Any, node: _core.ScopeNode | None) -> Any:
    with _inside(node):
        return finish_later(await result)


def _render_inside(response: Any, node: _core.ScopeNode | None) -> None:
    render = response.render

    def render_inside() -> Any:
        # The class's own method again, so that a rendered response can be pickled into a cache.
        response.__dict__.pop("render", None)
        with _inside(node):
            return render()

    response.render = render_inside


def _stream_inside(response: StreamingHttpResponse, node: _core.ScopeNode | None) -> None:
    if getattr(response, "file_to_stream", None) is not None:
        # A file: no query runs, and the server may send it by itself.
        return
    content = response.streaming_content
    if response.is_async:
        response.streaming_content = _chunks_async(content, node)  # type: ignore[arg-type]
    else:
        response.streaming_content = _chunks(content, node)  # type: ignore[arg-type]


def _chunks(content: Iterator[bytes], node: _core.ScopeNode | None) -> Iterator[bytes]:
    iterator = iter(content)
    while True:
        with _inside(node):
            try:
                chunk = next(iterator)
            except StopIteration:
                return
        yield chunk


async def _chunks_async(content: AsyncIterator[bytes], node: _core.ScopeNode | None) -> AsyncIterator[bytes]:
    iterator = aiter(content)
    while True:
        with _inside(node):
            try:
                chunk = await anext(iterator)
            except StopAsyncIteration:
                return
        yield chunk
