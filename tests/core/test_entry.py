"""The way into ``db_for_read`` by CPython's own calling convention: whatever it is called with, and however it ends."""

from __future__ import annotations

import inspect
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection, router, transaction

from replicant import ReplicaRouter, _core, use_primary
from tests.app.models import Item

REPLICAS = {"replica1", "replica2"}


@pytest.fixture(params=["private", "public"])
def lookups(request: pytest.FixtureRequest, site: Path):
    """Both ways of finding this thread's connection."""
    _core.public_lookup(request.param == "public")
    yield
    _core.public_lookup(False)


class Reads(ReplicaRouter):
    """Asks as classes did before ``super()``."""

    def db_for_read(self, model, **hints):
        return ReplicaRouter.db_for_read(self, model, **hints)


@pytest.mark.usefixtures("lookups")
@pytest.mark.parametrize("built", [ReplicaRouter(), Reads()], ids=["router", "subclass"])
def test_it_is_called_like_any_python_function(built: ReplicaRouter):
    hints = {"".join(["inst", "ance"]): Item(pk=1), "more": 1}
    hints["instance"]._state.db = "replica2"
    assert built.db_for_read(Item) in REPLICAS
    assert built.db_for_read(model=Item) in REPLICAS
    assert built.db_for_read(Item, **hints) == "replica2"
    assert built.db_for_read(more=2, instance=hints["instance"], model=Item) == "replica2"
    assert hints == {"instance": hints["instance"], "more": 1}


@pytest.mark.usefixtures("lookups")
def test_it_looks_like_a_python_function():
    assert str(inspect.signature(ReplicaRouter().db_for_read)) == "(model, **hints)"


@pytest.mark.usefixtures("lookups")
@pytest.mark.parametrize(
    ("arguments", "keywords"),
    [((), {}), ((), {"hint": 1}), ((Item, Item), {}), ((Item,), {"model": Item}), ((1, Item, Item), {})],
)
def test_it_is_not_called_in_another_way(arguments, keywords):
    with pytest.raises(TypeError, match=r"^db_for_read\(\) takes a model, and hints by keyword$"):
        ReplicaRouter().db_for_read(*arguments, **keywords)


@pytest.mark.usefixtures("lookups")
def test_no_instance_is_a_hint_of_nothing():
    assert ReplicaRouter().db_for_read(Item, instance=None) in REPLICAS


@pytest.mark.usefixtures("lookups")
def test_it_sees_scopes_and_transactions():
    with use_primary():
        assert router.db_for_read(Item) == "default"
    with transaction.atomic():
        assert router.db_for_read(Item) == "default"
    assert router.db_for_read(Item) in REPLICAS
    connection.close()


class _Meta(type):
    """A model whose ``_meta`` cannot be read."""

    error: BaseException = ZeroDivisionError()

    @property
    def _meta(cls):
        raise cls.error


@pytest.mark.usefixtures("lookups")
def test_an_error_is_handed_on():
    with pytest.raises(ZeroDivisionError):
        router.db_for_read(_Meta("Broken", (), {}))
    assert router.db_for_read(Item) in REPLICAS


@pytest.mark.usefixtures("lookups")
def test_a_panic_is_caught_and_raised():
    """PyO3 turns its own exception back into a panic wherever Rust code meets it."""
    broken = _Meta("Broken", (), {})
    with pytest.raises(ZeroDivisionError):
        router.db_for_read(broken)
    # Each extension has one of its own.
    panics = [kind for kind in BaseException.__subclasses__() if kind.__name__ == "PanicException"]
    assert panics
    for panic in panics:
        _Meta.error = panic("by hand")
        with pytest.raises(panic, match="by hand"):
            router.db_for_read(broken)
    _Meta.error = ZeroDivisionError()
    assert router.db_for_read(Item) in REPLICAS


@pytest.mark.slow
def test_it_touches_no_memory_but_its_own(tmp_path: Path):
    """Under valgrind, with an allocator that it can see through."""
    if shutil.which("valgrind") is None:
        pytest.fail("valgrind is missing: install it with apt-get install valgrind", pytrace=False)
    valgrind = ["valgrind", "--quiet", "--error-exitcode=99", "--undef-value-errors=no"]
    run = subprocess.run(
        [*valgrind, sys.executable, "-m", "tests.entry_calls", str(tmp_path)],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
