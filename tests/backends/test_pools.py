"""Django's pools of PostgreSQL connections, when a replica fails, falls behind or is promoted."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connections, router, transaction

from replicant import _core
from replicant.connections import observations, server_map
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.failing_replicas import SECONDS, end_session, names, session_of, state, stocked
from tests.databases import ours, use_databases
from tests.monitor.promotion import port_of
from tests.monitoring import ALIASES, FAST, NEVER, black_hole, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

# psycopg 2 has no pools.
psycopg_pool = pytest.importorskip("psycopg_pool")
pytestmark = pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)

POOL = {"min_size": 1, "max_size": 2}


def pooled(databases: dict[str, Any]) -> dict[str, Any]:
    return {alias: {**settings, "OPTIONS": {"pool": POOL}} for alias, settings in databases.items()}


@contextlib.contextmanager
def use_pools(databases: dict[str, Any], interval: float) -> Iterator[None]:
    with use_databases(databases, REPLICANT=watching(interval)):
        router.db_for_read(Item)
        try:
            yield
        finally:
            cluster_monitor.stop()
            connections.close_all()
            for alias in ALIASES:
                server_map.drop_pools(alias)
                _core.set_state(alias, "up")


@pytest.fixture
def naive(servers: Cluster, database: str) -> Iterator[Cluster]:
    """Three items on every member."""
    with stocked(servers, database):
        yield servers


@pytest.fixture
def reading(naive: Cluster, database: str) -> Iterator[Cluster]:
    """The same, with our engines and pools."""
    with use_pools(pooled(ours(naive.databases(database))), NEVER):
        yield naive


@contextlib.contextmanager
def all_in_use() -> Iterator[list[str]]:
    """All of replica1's pool is in use, as by other threads; yields the sessions."""
    sessions = []
    with contextlib.ExitStack() as lent:
        for _ in range(POOL["max_size"]):
            connection = connections.create_connection("replica1")
            lent.callback(connection.close)
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_backend_pid()")
                sessions.append(str(cursor.fetchone()[0]))
        yield sessions


def test_a_pool_is_closed_when_its_replica_goes_out_of_service(reading: Cluster):
    assert names() == ["0", "1", "2"]
    pool = connections["replica1"].pool
    reading.replicas[0].kill()
    assert names() == ["0", "1", "2"]
    assert state("replica1") == "down"
    assert pool.closed
    reading.replicas[0].restart()
    _core.set_state("replica1", "up")
    assert names() == ["0", "1", "2"]
    assert connections["replica1"].pool is not pool


def test_naive_a_black_hole_behind_a_pool_fails_the_read_when_the_pool_gives_up(naive: Cluster, database: str):
    databases = naive.databases(database)
    with black_hole() as port:
        databases["replica1"] = {
            **databases["replica1"],
            "PORT": str(port),
            "OPTIONS": {"pool": {**POOL, "timeout": 0.3}},
        }
        with use_pools(databases, NEVER), pytest.raises(DatabaseError) as raised:
            names()
    assert isinstance(raised.value.__cause__, psycopg_pool.PoolTimeout)


def test_a_black_hole_behind_a_pool_costs_one_attempt_to_connect(naive: Cluster, database: str):
    databases = pooled(ours(naive.databases(database)))
    with black_hole() as port:
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_pools(databases, NEVER):
            begun = time.monotonic()
            assert names() == ["0", "1", "2"]
            # By itself the pool would go on for half a minute.
            assert time.monotonic() - begun < 15
            assert state("replica1") == "down"


def test_connections_that_ended_in_the_pool_are_nobodys_failure(reading: Cluster):
    with all_in_use() as sessions:
        pass
    for session in sessions:
        end_session(reading.replicas[0], session)
    assert names() == ["0", "1", "2"]
    assert session_of("replica1") not in sessions
    assert state("replica1") == "up"


def test_where_all_of_a_pool_is_in_use_the_read_goes_elsewhere_and_the_replica_stays(reading: Cluster):
    with all_in_use():
        assert names() == ["0", "1", "2"]
        assert connections["replica1"].connection is None
    assert state("replica1") == "up"


def test_whoever_waits_for_a_pool_that_is_closed_reads_elsewhere(reading: Cluster):
    found: list[object] = []

    def read() -> None:
        try:
            found.append(names())
        except DatabaseError as error:
            found.append(error)
        finally:
            connections.close_all()

    with all_in_use():
        pool = connections["replica1"].pool
        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: pool.get_stats()["requests_waiting"] == 1, SECONDS, "it waits")
        observations.report("replica1", "gone")
        thread.join()
    assert found == [["0", "1", "2"]]


def test_after_a_promotion_what_is_opened_with_the_pool_leads_to_the_new_primary(servers: Cluster, database: str):
    old, new = servers.primary, servers.replicas[0]
    with use_pools(pooled(ours(servers.databases(database))), FAST):
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        with contextlib.suppress(DatabaseError), transaction.atomic():
            # Given back to a pool that is closed by then.
            assert port_of("default") == old.port
            servers.promote(new)
            wait_until(lambda: server_map.server_of("default") == "replica1", SECONDS, "the new one is followed")
        assert port_of("default") == new.port
        Item.objects.create(name="after")
        connections["default"].close()
        thread = threading.Thread(target=lambda: (Item.objects.create(name="too"), connections.close_all()))
        thread.start()
        thread.join()
        assert [name for (name,) in new.query("SELECT name FROM app_item ORDER BY name", database)] == ["after", "too"]
        servers.rejoin(old)
