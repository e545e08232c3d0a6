"""``raw()`` reads where the router says when its rows are asked for."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from replicant import request_scope, use_primary, use_replica
from replicant.patches import raw_queries
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.connections.requirement import REPLICAS, read, replicated, write
from tests.connections.requirement import shop as shop
from tests.servers import Cluster

ALL = f"SELECT * FROM {Item._meta.db_table}"


def rows(queryset: RawQuerySet[Any]) -> tuple[set[str], list[str | None]]:
    """The aliases that queries were sent to, and those that the rows say they are from."""
    with record_queries() as queries:
        found = list(queryset)
    return {query.alias for query in queries}, [item._state.db for item in found]


WAYS: dict[str, Callable[[], RawQuerySet[Any]]] = {
    "manager": lambda: Item.objects.raw(ALL),
    "queryset": lambda: Item.objects.all().raw(ALL, ()),
    "prefetch": lambda: Item.objects.raw(ALL).prefetch_related("pieces"),
    "class": lambda: RawQuerySet(ALL, model=Item),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_raw_query_that_was_built_before_a_write_finds_it(shop: Cluster, way: str):
    with request_scope():
        write()
    replicated(shop)
    with request_scope():
        assert read()[0] in REPLICAS
        query = WAYS[way]()
        for replica in shop.replicas:
            replica.pause_replication()
        pk = write()
        with record_queries() as queries:
            assert [item.pk for item in query.iterator() if item.pk == pk] == [pk]
            assert pk in {item.pk for item in query}
        assert {query.alias for query in queries} == {"default"}
        assert {item._state.db for item in query} == {"default"}


@pytest.mark.usefixtures("site")
class TestAnywhere:
    def test_the_innermost_scope_decides_when_rows_are_asked_for(self):
        Item.objects.create(name="first")
        query = use_primary()(lambda: Item.objects.raw(ALL))()
        with use_replica("replica1", stale_ok=True):
            assert rows(query) == ({"replica1"}, [])
        with use_replica("replica2", stale_ok=True):
            other = Item.objects.raw(ALL)
        with use_primary():
            assert rows(other) == ({"default"}, ["default"])
            # What was found is kept, as with every queryset.
            assert rows(other) == (set(), ["default"])
            assert "name" in other.columns

    @pytest.mark.parametrize(
        "named",
        [
            lambda: Item.objects.raw(ALL, using="replica1"),
            lambda: Item.objects.raw(ALL, (), None, "replica1"),
            lambda: Item.objects.raw(ALL).using("replica1"),
            lambda: Item.objects.using("replica1").raw(ALL),
            lambda: Item.objects.db_manager("replica1").raw(ALL),
        ],
    )
    def test_an_alias_that_is_named_stays(self, named: Callable[[], RawQuerySet[Any]]):
        query = named()
        with use_primary():
            assert rows(query) == ({"replica1"}, [])
            assert rows(query.prefetch_related("pieces")) == ({"replica1"}, [])

    def test_the_columns_cost_no_second_query(self):
        query = Item.objects.raw(ALL)
        with record_queries() as queries:
            assert list(query) == []
            assert "name" in query.columns
        assert len(queries) == 1

    def test_each_iteration_of_an_iterator_asks_anew(self):
        Item.objects.create(name="first")
        query = Item.objects.raw(ALL)
        with use_primary():
            assert [item._state.db for item in query.iterator()] == ["default"]
        with use_replica(stale_ok=True):
            assert list(query.iterator()) == []

    def test_async_iteration_asks_too(self):
        query = Item.objects.raw(ALL)

        async def aliases() -> set[str]:
            with use_primary(), record_queries() as queries:
                _ = [item async for item in query]
            return {query.alias for query in queries}

        assert asyncio.run(aliases()) == {"default"}


def test_django_has_the_methods_as_they_are_wrapped():
    """A version of Django that changes them needs another look."""
    raw = inspect.signature(inspect.unwrap(QuerySet.raw))
    assert list(raw.parameters) == ["self", "raw_query", "params", "translations", "using"]
    assert list(raw.parameters).index("using") == raw_queries._PLACE_OF_USING + 1
    assert list(inspect.signature(inspect.unwrap(RawQuerySet.iterator)).parameters) == ["self"]
    assert {"using", "hints", "query"} < set(inspect.signature(RawQuerySet).parameters)
    assert all(hasattr(RawQuerySet, name) for name in ("db", "columns", "model_fields"))
    raw_queries.install()
    assert QuerySet.raw.__wrapped__ is inspect.unwrap(QuerySet.raw)
