"""Work that a function returns and that runs later: generators, coroutines, lazily rendered and streamed responses.

Such work must run inside the scopes that were open when the function returned, one step at a time. Between two steps,
its consumer's scopes must be in force.
"""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Generator, Iterator
from typing import Any

from django.http import StreamingHttpResponse

from replicant import _core


class Suspended:
    """The scopes of a body that runs in steps: a context manager that is entered around each step.

    The body begins inside the scopes of ``node``. Scopes that the body itself has open at the end of a step are open
    again in the next step, and closed in between.
    """

    def __init__(self, node: _core.ScopeNode | None) -> None:
        self._node = node
        self._outer: _core.ScopeNode | None = None

    def _enter(self) -> None:
        _core.scope_variable.set(self._node)

    def __enter__(self) -> None:
        self._outer = _core.scope_variable.get(None)
        self._enter()

    def __exit__(self, *error: object) -> None:
        self._node = _core.scope_variable.get(None)
        # Restored with set(), not with a token: an async body may resume in another context than it began in.
        _core.scope_variable.set(self._outer)
        self._outer = None


def generator_function(make: Callable[..., Any], inside: Callable[[], Suspended]) -> Callable[..., Any]:
    """A generator function that behaves like ``make``, with ``inside()`` around each step of its generators."""

    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator, scopes = make(*args, **kwargs), inside()
        # The loop forwards items, sent values and errors as `yield from` does.
        step: Callable[[], Any] = generator.__next__
        while True:
            try:
                with scopes:
                    item = step()
            except StopIteration as stop:
                return stop.value
            finally:
                # An error that is thrown in refers to this frame; a reference from the frame to it would make a cycle.
                del step
            try:
                received = yield item
            except GeneratorExit:
                with scopes:
                    generator.close()
                raise
            except BaseException as error:
                step = functools.partial(generator.throw, error)
            else:
                step = functools.partial(generator.send, received)

    return generate


def async_generator_function(make: Callable[..., Any], inside: Callable[[], Suspended]) -> Callable[..., Any]:
    """The same for async generators."""

    async def generate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any, Any]:
        generator, scopes = make(*args, **kwargs), inside()
        step: Callable[[], Any] = generator.__anext__
        while True:
            try:
                with scopes:
                    item = await step()
            except StopAsyncIteration:
                return
            finally:
                del step
            try:
                received = yield item
            except GeneratorExit:
                with scopes:
                    await generator.aclose()
                raise
            except BaseException as error:
                step = functools.partial(generator.athrow, error)
            else:
                step = functools.partial(generator.asend, received)

    return generate


def finish_later(result: Any) -> Any:
    """Make the later work of ``result`` run inside the scopes that are open now.

    This applies to an awaitable (``dispatch`` of an async class-based view returns one), a generator, a response that
    is not yet rendered, and a streamed response. Any other result is returned unchanged.
    """
    if _is_coroutine_like(result):
        return _finish_awaitable(result, _now())
    if isinstance(result, StreamingHttpResponse):
        _stream_inside(result, _now())
    elif inspect.isgenerator(result):
        now = _now()
        return generator_function(lambda: result, lambda: now)()
    elif inspect.isasyncgen(result):
        now = _now()
        return async_generator_function(lambda: result, lambda: now)()
    elif getattr(result, "is_rendered", True) is False:
        _render_inside(result, _now())
    return result


def _now() -> Suspended:
    return Suspended(_core.scope_variable.get(None))


def _is_coroutine_like(result: Any) -> bool:
    """Whether ``result`` can only be awaited. A future does not count: it runs in the context in which it was made."""
    return inspect.iscoroutine(result) or (
        inspect.isawaitable(result) and not asyncio.isfuture(result) and not hasattr(type(result), "__aenter__")
    )


async def _finish_awaitable(result: Any, inside: Suspended) -> Any:
    with inside:
        return finish_later(await result)


def _render_inside(response: Any, inside: Suspended) -> None:
    render = response.render

    def render_inside() -> Any:
        # Restores the class's own method, so that a rendered response can be pickled into a cache.
        response.__dict__.pop("render", None)
        with inside:
            return render()

    response.render = render_inside


def _stream_inside(response: StreamingHttpResponse, inside: Suspended) -> None:
    file = getattr(response, "file_to_stream", None)
    content: Any = response.streaming_content
    response.streaming_content = _chunks_async(content, inside) if response.is_async else _chunks(content, inside)
    if file is not None:
        # Keeps the attribute, so that a server that can send a file by itself still does.
        response.file_to_stream = file  # type: ignore[attr-defined]
    close = response.close

    def close_inside() -> None:
        with inside:
            close()

    response.close = close_inside  # type: ignore[method-assign]


def _chunks(content: Iterator[bytes], inside: Suspended) -> Iterator[bytes]:
    iterator = iter(content)
    while True:
        with inside:
            try:
                chunk = next(iterator)
            except StopIteration:
                return
        yield chunk


async def _chunks_async(content: AsyncIterator[bytes], inside: Suspended) -> AsyncIterator[bytes]:
    iterator = aiter(content)
    while True:
        with inside:
            try:
                chunk = await anext(iterator)
            except StopAsyncIteration:
                return
        yield chunk
