"""Scopes, in every form the contract names."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import inspect
import weakref

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import router

from replicant import explain, request_scope, use_primary, use_replica
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def reason() -> str | None:
    return explain(Item).reason


def told() -> tuple[str | None, str | None]:
    return explain(Item)[:2]


# Context managers.


def test_scopes_nest_and_the_innermost_wins():
    with use_primary():
        with use_replica("replica1"):
            assert told() == ("replica1", "use_replica")
            with use_primary():
                assert reason() == "use_primary"
            assert told() == ("replica1", "use_replica")
        assert reason() == "use_primary"
    assert reason() == "balanced"


def test_an_exception_restores_the_outer_scope():
    with use_primary():
        with pytest.raises(ZeroDivisionError), use_replica("replica1"):
            raise ZeroDivisionError
        assert reason() == "use_primary"
    assert reason() == "balanced"


def test_one_object_may_be_entered_many_times():
    scope = use_replica("replica1")
    with scope, use_primary():
        with scope:
            assert reason() == "use_replica"
        assert reason() == "use_primary"
    assert reason() == "balanced"


def test_a_scope_left_out_of_order_takes_only_itself_away():
    def generator():
        with use_replica("replica1"):
            yield

    suspended = generator()
    next(suspended)
    with use_primary():
        suspended.close()
        assert reason() == "use_primary"
    assert reason() == "balanced"


def test_a_request_scope_leaves_nothing_behind():
    with request_scope():
        first = router.db_for_read(Item)
        Item.objects.create(name="x")
        assert reason() == "pinned"
        with request_scope():
            assert reason() == "balanced"
        assert reason() == "pinned"
    assert reason() == "balanced"
    assert first in ("replica1", "replica2")


def test_a_scope_around_a_request_reaches_into_it():
    with use_primary(), request_scope():
        assert reason() == "use_primary"


def test_the_sticky_replica_belongs_to_the_outermost_scope():
    with use_replica():
        first = router.db_for_read(Item)
        with use_primary(), use_replica():
            assert all(router.db_for_read(Item) == first for _ in range(20))


def test_async_with():
    async def main():
        async with use_primary():
            assert reason() == "use_primary"
            async with use_replica("replica1"), request_scope():
                assert reason() == "use_replica"
        assert reason() == "balanced"

    asyncio.run(main())


def test_entering_an_unknown_alias_changes_nothing():
    async def main():
        with pytest.raises(ImproperlyConfigured):
            async with use_replica("nowhere"):
                pass
        assert reason() == "balanced"

    asyncio.run(main())


# Decorators.


@use_replica
def bare(first, second=2):
    """Bare."""
    return told(), first, second


@use_primary()
def called():
    return reason()


@use_replica("replica2")
def named():
    return told()


@use_replica(stale_ok=True)
def stale():
    return reason()


@use_replica("replica2")
async def coroutine():
    await asyncio.sleep(0)
    return told()


@use_primary
async def async_generator():
    for _ in range(3):
        yield reason()


class Thing:
    @use_replica("replica1")
    def method(self):
        return self, told()

    @use_replica("replica1")
    @classmethod
    def of_class(cls):
        return cls, told()

    @staticmethod
    @use_replica("replica1")
    def static():
        return told()

    @use_replica("replica1")
    @staticmethod
    def outer_static():
        return told()


def test_functions():
    assert bare(1)[1:] == (1, 2)
    assert bare(1, second=3)[0][1] == "balanced"
    assert called() == "use_primary"
    assert named() == ("replica2", "use_replica")
    with request_scope():
        Item.objects.create(name="x")
        assert named() == ("default", "pinned")
        assert stale() == "balanced"


def test_what_is_decorated_keeps_its_looks():
    assert (bare.__name__, bare.__doc__, bare.__module__) == ("bare", "Bare.", __name__)
    assert str(inspect.signature(bare)) == "(first, second=2)"
    assert inspect.signature(bare) == inspect.signature(bare.__wrapped__)
    assert inspect.iscoroutinefunction(coroutine)
    assert inspect.isasyncgenfunction(async_generator)
    assert inspect.isgeneratorfunction(use_replica(lambda: (yield)))


def test_methods():
    thing = Thing()
    assert thing.method() == (thing, ("replica1", "use_replica"))
    assert Thing.of_class() == (Thing, ("replica1", "use_replica"))
    assert Thing.static() == Thing.outer_static() == ("replica1", "use_replica")


def test_coroutines():
    async def main():
        assert await coroutine() == ("replica2", "use_replica")
        assert reason() == "balanced"

    asyncio.run(main())


def test_recursion_and_exceptions_leave_nothing_behind():
    @use_replica
    def down(depth):
        if depth == 0:
            raise ZeroDivisionError
        with use_primary():
            down(depth - 1)

    with pytest.raises(ZeroDivisionError):
        down(50)
    assert reason() == "balanced"


def test_only_what_can_be_called_can_be_decorated():
    with pytest.raises(TypeError, match="take an alias"):
        use_replica(5)
    with pytest.raises(TypeError, match="no dispatch"):
        use_replica(int)


# Generators.


def test_a_generators_scope_is_open_only_while_its_body_runs():
    @use_replica("replica1")
    def generate():
        received = yield told()
        try:
            yield received, told()
        except KeyError:
            yield "caught", told()
        return "end"

    def delegate():
        return (yield from generate())

    running = delegate()
    inside = ("replica1", "use_replica")
    assert next(running) == inside
    assert reason() == "balanced"
    assert running.send("sent") == ("sent", inside)
    assert running.throw(KeyError()) == ("caught", inside)
    assert reason() == "balanced"
    with pytest.raises(StopIteration) as stop:
        next(running)
    assert stop.value.value == "end"


def test_closing_a_generator_runs_its_end_inside_the_scope():
    seen = []

    @use_primary
    def generate():
        try:
            yield
        finally:
            seen.append(reason())

    running = generate()
    next(running)
    running.close()
    abandoned = generate()
    next(abandoned)
    del abandoned
    gc.collect()
    assert seen == ["use_primary", "use_primary"]
    assert reason() == "balanced"


def test_a_generator_keeps_one_sticky_replica():
    @use_replica
    def generate():
        while True:
            yield router.db_for_read(Item)

    for _ in range(10):
        running = generate()
        first = next(running)
        with use_primary():
            assert next(running) == first
        assert {next(running) for _ in range(20)} == {first}
        with request_scope():
            assert {next(running) for _ in range(20)} == {first}


def test_async_generators():
    async def main():
        seen = []
        async for item in async_generator():
            seen.append((item, reason()))
        assert seen == [("use_primary", "balanced")] * 3

        @use_replica
        async def generate():
            try:
                while True:
                    yield router.db_for_read(Item)
            except KeyError:
                yield reason()
            finally:
                closed.append(reason())

        closed = []
        running = generate()
        first = await anext(running)
        assert {await anext(running) for _ in range(20)} == {first}
        assert await running.asend(None) == first
        assert await running.athrow(KeyError()) == "sticky"
        await running.aclose()
        assert closed == ["sticky"]

    asyncio.run(main())


def test_what_a_generator_opens_itself_lasts_from_step_to_step():
    @use_replica
    def generate():
        with use_primary():
            yield reason()
            yield reason()
            with use_replica("replica2"):
                yield reason()
            yield reason()
        yield reason()

    running = generate()
    seen = []
    for item in running:
        assert reason() == "balanced"
        seen.append(item)
    assert seen == ["use_primary", "use_primary", "use_replica", "use_primary", "balanced"]

    # Also when it is resumed inside another scope, which it then is inside of.
    running = generate()
    next(running)
    with request_scope():
        assert next(running) == "use_primary"
        Item.objects.create(name="x")
        assert [next(running), next(running), next(running)] == ["pinned", "use_primary", "pinned"]


def test_what_an_async_generator_opens_itself_lasts_from_step_to_step():
    @use_replica
    async def generate():
        async with use_primary():
            yield reason()
            yield reason()
        yield reason()

    async def main():
        seen = []
        async for item in generate():
            assert reason() == "balanced"
            seen.append(item)
        assert seen == ["use_primary", "use_primary", "balanced"]

    asyncio.run(main())


def test_what_a_decorated_function_returns_runs_inside():
    def plainly(function):
        return lambda *args: function(*args)

    @use_primary
    @plainly
    def generator():
        yield reason()

    @use_primary
    @plainly
    async def async_generator():
        yield reason()

    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return reason()

    @use_primary
    def awaitable():
        return Awaitable()

    async def main():
        assert await awaitable() == "use_primary"
        assert [item async for item in async_generator()] == ["use_primary"]
        assert reason() == "balanced"
        future = asyncio.get_running_loop().create_future()
        assert use_primary(lambda: future)() is future

    assert list(generator()) == ["use_primary"]
    asyncio.run(main())


def test_a_generator_that_was_thrown_into_is_freed_at_once():
    class Held:
        pass

    @use_replica
    def generate(held):
        while True:
            with contextlib.suppress(KeyError):
                yield

    held = Held()
    gone = weakref.ref(held)
    running = generate(held)
    del held
    next(running)
    running.throw(KeyError())
    gc.disable()
    try:
        running.close()
        del running
        assert gone() is None
    finally:
        gc.enable()
