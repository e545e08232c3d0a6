"""Reads with FOR UPDATE inside scopes that send reads to replicas: on real servers none of them reaches a replica."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.db.transaction import TransactionManagementError

from replicant import ReplicaWriteError, request_scope, use_replica
from replicant.monitor import cluster_monitor
from replicant.tracing import Query, record_queries
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster
from tests.servers.wire import QueryError

SETTINGS = watching(0.05, WAIT_SECONDS=0, CONSISTENCY="eventual")

SCOPES: dict[str, Callable[[], Any]] = {
    "use_replica": use_replica,
    "named": lambda: use_replica("replica1"),
    "stale": lambda: use_replica(stale_ok=True),
    "request": request_scope,
}


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=SETTINGS):
        Item.objects.using("default").get_or_create(pk=1, defaults={"name": "one"})
        cluster.wait_until_caught_up()
        yield cluster
        cluster_monitor.stop()


def locking(queries: list[Query]) -> list[str]:
    """Where statements with FOR UPDATE were sent."""
    return [query.alias for query in queries if "FOR UPDATE" in query.sql]


def is_locked(cluster: Cluster, database: str) -> bool:
    """Whether the row is locked on the primary: another session of its own cannot lock it at once."""
    try:
        cluster.primary.query("SELECT id FROM app_item WHERE id = 1 FOR UPDATE NOWAIT", database)
    except QueryError as error:
        # lock_not_available on PostgreSQL, ER_LOCK_NOWAIT on MySQL, ER_LOCK_WAIT_TIMEOUT on MariaDB
        if error.code not in ("55P03", "3572", "1205"):
            raise
        return True
    return False


@pytest.mark.parametrize("name", SCOPES)
def test_a_locking_read_inside_a_scope_locks_on_the_primary(shop: Cluster, database: str, name: str):
    with record_queries() as queries, SCOPES[name]():
        # The scope does send its reads to replicas.
        assert Item.objects.filter(pk=1).exists()
        assert queries[-1].alias.startswith("replica")
        assert not is_locked(shop, database)
        with transaction.atomic():
            assert Item.objects.select_for_update().get(pk=1).name == "one"
            assert is_locked(shop, database)
            assert list(Item.objects.select_for_update().values_list("name", flat=True).iterator()) == ["one"]
        assert not is_locked(shop, database)
    assert locking(queries) == ["default", "default"]


@pytest.mark.parametrize("name", SCOPES)
def test_a_locking_read_needs_a_transaction_on_the_primary_and_not_on_a_replica(shop: Cluster, name: str):
    with record_queries() as queries, SCOPES[name]():
        with pytest.raises(TransactionManagementError):
            Item.objects.select_for_update().get(pk=1)
        with transaction.atomic("replica1"), pytest.raises(TransactionManagementError):
            Item.objects.select_for_update().get(pk=1)
    assert locking(queries) == []


@pytest.mark.parametrize("name", SCOPES)
def test_what_locks_by_itself_locks_on_the_primary(shop: Cluster, name: str):
    with record_queries() as queries, SCOPES[name]():
        Item.objects.update_or_create(pk=1, defaults={"name": "one"})
    assert locking(queries) == ["default"]


@pytest.mark.parametrize("name", SCOPES)
def test_a_locking_read_that_is_sent_to_a_replica_is_refused_before_it_is_sent(shop: Cluster, name: str):
    statement = "SELECT * FROM app_item WHERE id = 1 FOR UPDATE"
    with SCOPES[name]():
        with transaction.atomic("replica1"), pytest.raises(ReplicaWriteError, match="FOR UPDATE"):
            Item.objects.using("replica1").select_for_update().get(pk=1)
        with pytest.raises(ReplicaWriteError, match="FOR UPDATE"), connections["replica1"].cursor() as cursor:
            cursor.execute(statement)
        # The router sends raw() as any read: to a replica here, which refuses it.
        with pytest.raises(ReplicaWriteError, match="FOR UPDATE"):
            list(Item.objects.raw(statement))
        with transaction.atomic(), record_queries() as queries:
            assert [item.name for item in Item.objects.raw(statement)] == ["one"]
    assert locking(queries) == ["default"]


def test_a_locking_read_of_a_task_inside_a_scope_locks_on_the_primary(shop: Cluster):
    def lock() -> None:
        with transaction.atomic():
            Item.objects.select_for_update().get(pk=1)
        # The connections of this thread.
        connections.close_all()

    async def task() -> None:
        async with use_replica():
            await asyncio.to_thread(lock)

    with record_queries() as queries:
        asyncio.run(task())
    assert locking(queries) == ["default"]


def test_a_locking_read_fails_rather_than_use_a_replica_while_the_primary_is_unreachable(shop: Cluster, database: str):
    databases = connections.settings
    broken = {**databases, "default": {**databases["default"], "PORT": "1"}}
    with use_databases(broken, REPLICANT=SETTINGS), record_queries() as queries, use_replica():
        with pytest.raises(DatabaseError), transaction.atomic():
            Item.objects.select_for_update().get(pk=1)
        assert locking(queries) == []
        cluster_monitor.stop()
