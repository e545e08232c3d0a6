"""What a function has returned and what runs later: generators, coroutines, lazily rendered and streamed responses.

It must run inside the scopes that were open when the function returned, a step at a time, and leave its consumer's
scopes alone in between.
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
    """The scopes of a body that runs in steps. A context manager, entered around each step.

    Begins inside the scopes of ``node``. What the body itself has open when a step ends is open again in the next one,
    and not in between.
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
        # Not by token: an async body may be resumed in another context than it was begun in.
        _core.scope_variable.set(self._outer)
        self._outer = None


def generator_function(make: Callable[..., Any], inside: Callable[[], Suspended]) -> Callable[..., Any]:
    """A generator function that does what the generators of ``make`` do, with ``inside()`` around each step."""

    def generate(*args: Any, **kwargs: Any) -> Generator[Any, Any, Any]:
        generator, scopes = make(*args, **kwargs), inside()
        # What `yield from` does.
        step: Callable[[], Any] = generator.__next__
        while True:
            try:
                with scopes:
                    item = step()
            except StopIteration as stop:
                return stop.value
            finally:
                # An error that is thrown in refers to this frame; kept in it, it would make a cycle.
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
    """Make what ``result`` does later run inside the scopes that are open now.

    Concerns an awaitable (``dispatch`` of an async class-based view returns one), a generator, a response that is not
    yet rendered and a streamed one; anything else is returned as it is.
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
    """Whether all one can do with it is await it. A future runs elsewhere, in the context it was made in."""
    return inspect.iscoroutine(result) or (
        inspect.isawaitable(result) and not asyncio.isfuture(result) and not hasattr(type(result), "__aenter__")
    )


async def _finish_awaitable(result: Any, inside: Suspended) -> Any:
    with inside:
        return finish_later(await result)


def _render_inside(response: Any, inside: Suspended) -> None:
    render = response.render

    def render_inside() -> Any:
        # The class's own method again, so that a rendered response can be pickled into a cache.
        response.__dict__.pop("render", None)
        with inside:
            return render()

    response.render = render_inside


def _stream_inside(response: StreamingHttpResponse, inside: Suspended) -> None:
    file = getattr(response, "file_to_stream", None)
    content: Any = response.streaming_content
    response.streaming_content = _chunks_async(content, inside) if response.is_async else _chunks(content, inside)
    if file is not None:
        # A server that can send a file by itself still may.
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
