"""What the way into ``db_for_read`` lets go of is released before it returns, not with the next call into the core."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

from replicant import ReplicaRouter, _core
from tests.app.models import Item

db_for_read = ReplicaRouter().db_for_read
CALLS = 1000


class Bare:
    """An instance of something that is no model."""

    __slots__ = ("__weakref__",)


class Unreadable(type):
    @property
    def _meta(cls):
        raise ZeroDivisionError("no _meta")


UNREADABLE = Unreadable("Broken", (), {})


@pytest.fixture(autouse=True)
def unwatched(site: Path) -> Iterator[None]:
    """No monitor, whose threads call the core."""
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "PROBE_SECONDS": None}}):
        yield


@pytest.mark.parametrize(
    "call",
    [
        lambda: db_for_read(None, None, None),
        lambda: db_for_read(),
        lambda: db_for_read(UNREADABLE),
        lambda: db_for_read(Item, instance=Bare()),
        lambda: db_for_read(Item, instance=SimpleLazyObject(Bare)),
        # A model class like those that migrations make and forget.
        lambda: db_for_read(type("Forgotten", (), {"__module__": "__fake__"})),
    ],
    ids=["wrong call", "no model", "model that fails", "no model's instance", "lazy instance", "model not kept"],
)
@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="counts CPython's blocks of memory")
@pytest.mark.slow
def test_calls_leave_no_memory_behind(call: Callable[[], object]):
    def calls(count: int) -> None:
        for _ in range(count):
            with suppress(TypeError, ZeroDivisionError):
                call()

    def left_behind() -> int:
        gc.collect()
        before = sys.getallocatedblocks()
        calls(CALLS)
        gc.collect()
        return sys.getallocatedblocks() - before

    # Caches of the interpreter fill, and other threads of the run have blocks of their own now and then.
    least = min(left_behind() for _ in range(4))
    # One block for each call would be ten times that.
    assert least < CALLS / 10


def test_an_error_does_not_live_on():
    class Failure(Exception):
        pass

    class Failing(type):
        @property
        def _meta(cls):
            raise Failure

    model = Failing("Broken", (), {})
    seen = None
    try:
        db_for_read(model)
    except Failure as error:
        seen = weakref.ref(error)
    gc.collect()
    assert seen is not None
    assert seen() is None


def test_the_models_of_a_table_that_was_replaced_are_let_go():
    model = type("Kept", (), {"_meta": Item._meta})
    assert db_for_read(model) is not None
    kept = weakref.ref(model)
    del model
    gc.collect()
    assert kept() is not None
    _core.invalidate()
    assert db_for_read(Item) is not None
    gc.collect()
    assert kept() is None
