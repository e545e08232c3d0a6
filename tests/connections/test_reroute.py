"""Replicas that fail while they are read from, with our engines, and with Django's own beside them."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, router, transaction
from django.test import override_settings

from replicant import NoReplicaAvailable, _core, request_scope, use_replica
from replicant.connections import observations, sockets
from replicant.monitor import cluster_monitor
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.connections.failing_replicas import REPLICAS, SECONDS, end_session, names, session_of, state
from tests.connections.failing_replicas import naive as naive
from tests.databases import ours, use_databases
from tests.load import load
from tests.monitoring import FAST, NEVER, black_hole, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until


@pytest.fixture
def reading(naive: Cluster, database: str) -> Iterator[Cluster]:
    """Our engines, and three items on every member."""
    with use_databases(ours(naive.databases(database)), REPLICANT=watching(NEVER)):
        # A decision would start the monitor, too, and count for the next read of its replica, which is named below.
        _core.watch()
        yield naive


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_naive_a_killed_replica_and_a_connection_that_ended_fail_the_read(naive: Cluster):
    end_session(naive.replicas[0], session_of("replica1"))
    with pytest.raises(DatabaseError):
        names()
    connections["replica1"].close()
    assert names() == ["0", "1", "2"]
    naive.replicas[0].kill()
    with pytest.raises(DatabaseError):
        names()


def test_a_killed_replica_is_reported_and_the_read_goes_elsewhere(reading: Cluster):
    assert names() == ["0", "1", "2"]
    reading.replicas[0].kill()
    assert names() == ["0", "1", "2"]
    assert state("replica1") == "down"
    # Nobody connects to it any more.
    assert names() == ["0", "1", "2"]
    assert {router.db_for_read(Item) for _ in range(20)} == {"replica2"}


def test_a_connection_that_ended_is_opened_again_to_the_same_replica(reading: Cluster):
    before = session_of("replica1")
    end_session(reading.replicas[0], before)
    assert names() == ["0", "1", "2"]
    assert session_of("replica1") != before
    assert state("replica1") == "up"


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_replica_that_refuses_is_not_connected_to_twice(reading: Cluster):
    connections["replica1"].close()
    reading.replicas[0].kill()
    assert names() == ["0", "1", "2"]
    reading.replicas[0].restart()
    # Until a probe has found it, it is left alone.
    assert names() == ["0", "1", "2"]
    assert connections["replica1"].connection is None


def test_rows_that_are_still_to_come_are_read_elsewhere_if_none_has_come(reading: Cluster):
    session = session_of("replica1")
    items = Item.objects.using("replica1").order_by("name").iterator(chunk_size=1)
    end_session(reading.replicas[0], session)
    assert [item.name for item in items] == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_after_the_first_row_the_error_is_the_callers(reading: Cluster):
    session = session_of("replica1")
    items = iter(Item.objects.using("replica1").order_by("name").iterator(chunk_size=1))
    assert next(items).name == "0"
    end_session(reading.replicas[0], session)
    with pytest.raises(OperationalError):
        list(items)


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_rows_that_are_lost_between_the_statement_and_the_first_row_are_read_elsewhere(reading: Cluster):
    session = session_of("replica1")
    with connections["replica1"].chunked_cursor() as cursor:
        cursor.execute(f"SELECT name FROM {Item._meta.db_table} ORDER BY name")
        end_session(reading.replicas[0], session)
        assert [name for (name,) in cursor] == ["0", "1", "2"]


def test_in_a_transaction_the_error_is_the_callers(reading: Cluster):
    with pytest.raises(DatabaseError), transaction.atomic(using="replica1"):
        assert names() == ["0", "1", "2"]
        end_session(reading.replicas[0], session_of("replica1"))
        names()
    connections["replica1"].close()
    assert names() == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_what_is_no_read_is_not_sent_again(reading: Cluster):
    with connections["replica1"].cursor() as cursor:
        end_session(reading.replicas[0], session_of("replica1"))
        with pytest.raises(DatabaseError):
            cursor.execute(f"SELECT name FROM {Item._meta.db_table} FOR UPDATE")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_session_with_settings_of_its_own_is_not_exchanged_for_another(reading: Cluster):
    setting = "SET search_path = public" if connections["replica1"].vendor == "postgresql" else "SET @tenant = 1"
    with connections["replica1"].cursor() as cursor:
        cursor.execute(setting)
    end_session(reading.replicas[0], session_of("replica1"))
    with pytest.raises(DatabaseError):
        names()
    connections["replica1"].close()
    assert names() == ["0", "1", "2"]


def test_with_every_replica_dead_each_policy_does_what_it_says(reading: Cluster):
    for node in reading.replicas:
        node.kill()
    for policy, scope in itertools.product(("primary", "replica", "error"), (contextlib.nullcontext, request_scope)):
        # Nobody has found them dead yet.
        for alias in ("default", *REPLICAS):
            _core.set_state(alias, "up")
        with override_settings(REPLICANT=watching(NEVER, ON_UNAVAILABLE=policy)), scope():
            if policy == "error":
                with pytest.raises(NoReplicaAvailable, match="keeps reads off the primary"):
                    names()
                with pytest.raises(NoReplicaAvailable):
                    Item.objects.count()
            else:
                assert names() == ["0", "1", "2"]
                assert Item.objects.count() == 3


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_naive_with_every_replica_dead_every_read_fails(naive: Cluster, database: str):
    with use_databases(naive.databases(database), REPLICANT={}, DATABASE_ROUTERS=["tests.naive.NaiveRouter"]):
        for node in naive.replicas:
            node.kill()
        for _ in range(20):
            with pytest.raises(DatabaseError):
                Item.objects.count()


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_fifth_of_the_scopes_is_let_through_to_the_primary(reading: Cluster):
    for node in reading.replicas:
        node.kill()
    for nobody_or_all in (0.0, 1.0):
        with override_settings(REPLICANT=watching(NEVER, PRIMARY_SPILL=nobody_or_all)):
            assert serves_scope() == bool(nobody_or_all)
    scopes, share = 500, 0.2
    for seed in range(3):
        with override_settings(REPLICANT=watching(NEVER, PRIMARY_SPILL=share)):
            _core.seed(seed)
            let_through = sum(serves_scope() for _ in range(scopes))
        # Binomial: beyond five standard deviations (here 45) once in two million.
        assert abs(let_through - share * scopes) < 5 * math.sqrt(scopes * share * (1 - share))


def serves_scope() -> bool:
    """Whether a scope's reads are answered: all of them, or none."""
    answered = 0
    with request_scope():
        for _ in range(3):
            with contextlib.suppress(NoReplicaAvailable):
                answered += Item.objects.count() == 3
    assert answered in (0, 3)
    return answered == 3


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_scope_whose_first_read_meets_a_dead_replica_goes_on_with_the_other(reading: Cluster):
    reading.replicas[0].kill()
    for _ in range(5):
        _core.set_state("replica1", "up")
        with request_scope(), record_queries() as queries:
            assert [Item.objects.count() for _ in range(3)] == [3] * 3
        assert "default" not in {query.alias for query in queries}


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_scope_does_not_go_back_to_what_is_older_than_what_it_has_seen(reading: Cluster):
    ahead, behind = reading.replicas
    behind.pause_replication()
    try:
        Item.objects.create(name="3")
        assert ahead.reached(reading.primary.position(), 10.0)
        with request_scope(), use_replica("replica1"):
            assert Item.objects.count() == 4
            ahead.kill()
            assert [Item.objects.count() for _ in range(5)] == [4] * 5
    finally:
        behind.resume_replication()


@override_settings(DEBUG=True)
@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_with_queries_logged_a_read_survives_as_well(reading: Cluster):
    assert names() == ["0", "1", "2"]
    reading.replicas[0].kill()
    for _ in range(2):
        assert names() == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_connection_from_before_an_outage_is_not_used_again(reading: Cluster):
    before = session_of("replica1")
    _core.set_state("replica1", "up")
    observations.report("replica1", "gone")
    _core.set_state("replica1", "up")
    assert session_of("replica1") != before
    observations.report("replica1", "gone")
    connections["replica1"].close_if_unusable_or_obsolete()
    assert connections["replica1"].connection is None


@pytest.mark.parametrize("cluster", ["mysql", "postgresql"], indirect=True)
def test_a_wrong_password_is_nobodys_failure_but_the_settings(naive: Cluster, database: str):
    databases = ours(naive.databases(database))
    databases["replica1"] = {**databases["replica1"], "PASSWORD": "wrong"}
    with use_databases(databases, REPLICANT=watching(NEVER)):
        router.db_for_read(Item)
        with pytest.raises(OperationalError):
            names()
        assert state("replica1") == "up"


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_naive_a_read_waits_for_a_silent_replica_for_ever(naive: Cluster, database: str):
    with use_databases(naive.databases(database), REPLICANT=watching(FAST)):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        answers: list[list[str]] = []
        connected = threading.Event()

        def read() -> None:
            names()
            connected.set()
            suspended.wait()
            answers.append(names())
            connections.close_all()

        suspended = threading.Event()
        thread = threading.Thread(target=read)
        thread.start()
        connected.wait()
        naive.replicas[0].suspend()
        suspended.set()
        silent = sockets.SILENCE_SECONDS * 1.5
        wait_until(
            lambda: cluster_monitor.latest()["replica1"].latency > silent, SECONDS, "it has been silent for long"
        )
        assert answers == []
        naive.replicas[0].resume()
        thread.join()
        assert answers == [["0", "1", "2"]]


@pytest.mark.parametrize("cluster", ["mysql", "postgresql"], indirect=True)
def test_a_read_that_waits_for_a_silent_replica_is_answered_by_another(naive: Cluster, database: str):
    with use_databases(ours(naive.databases(database)), REPLICANT=watching(FAST)):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        assert names() == ["0", "1", "2"]
        naive.replicas[0].suspend()
        assert names() == ["0", "1", "2"]
        assert state("replica1") == "down"


def test_a_black_hole_costs_one_attempt_to_connect(naive: Cluster, database: str):
    databases = ours(naive.databases(database))
    with black_hole() as port:
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(NEVER)):
            router.db_for_read(Item)
            begun = time.monotonic()
            assert names() == ["0", "1", "2"]
            first = time.monotonic() - begun
            for _ in range(20):
                assert names() == ["0", "1", "2"]
            rest = time.monotonic() - begun - first
    # Not that a machine is fast: 20 more attempts would take 20 times as long.
    assert first > 0.9
    assert rest < first * 5


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_when_the_budget_is_spent_the_error_is_the_callers(naive: Cluster, database: str):
    databases = ours(naive.databases(database))
    with black_hole() as port:
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(NEVER, BUDGET_SECONDS=0.1, CONNECT_SECONDS=30.0)):
            router.db_for_read(Item)
            begun = time.monotonic()
            with pytest.raises(OperationalError):
                names()
            # The first attempt is part of the budget, too.
            assert time.monotonic() - begun < 20
            # Who comes later does not try it.
            assert names() == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_a_read_goes_on_past_a_black_hole_and_a_silent_server(naive: Cluster, database: str):
    databases = ours(naive.databases(database))
    with black_hole() as port:
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(NEVER)):
            router.db_for_read(Item)
            naive.replicas[1].suspend()
            assert names() == ["0", "1", "2"]
            assert [state(alias) for alias in REPLICAS] == ["down", "down"]


# Under load.


@pytest.fixture
def persistent(naive: Cluster, database: str) -> Callable[[dict[str, Any]], Any]:
    """Put databases in force whose connections stay open, and a monitor that looks often."""

    @contextlib.contextmanager
    def use(databases: dict[str, Any]) -> Iterator[None]:
        databases = {alias: {**settings, "CONN_MAX_AGE": None} for alias, settings in databases.items()}
        with use_databases(databases, REPLICANT=watching(FAST)):
            router.db_for_read(Item)
            wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
            yield

    return use


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_naive_under_load_a_killed_replica_fails_requests(naive: Cluster, database: str, persistent):
    with persistent(naive.databases(database)), load(8) as running:
        wait_until(lambda: running.done > 100, SECONDS, "it runs")
        naive.replicas[0].kill()
        wait_until(lambda: bool(running.errors), SECONDS, "a request fails")


def test_under_load_no_request_fails_for_a_replicas_sake(naive: Cluster, database: str, persistent):
    def serves(alias: str) -> None:
        before = running.reads[alias]
        wait_until(lambda: running.reads[alias] > before + 50, 10.0, f"{alias} has its share again")

    with persistent(ours(naive.databases(database))), load(8) as running:
        for alias in REPLICAS:
            serves(alias)
        for alias, node in zip(REPLICAS, naive.replicas, strict=True):
            node.kill()
            wait_until(lambda alias=alias: state(alias) == "down", SECONDS, f"{alias} is down")
            node.restart()
            serves(alias)
        silent = naive.replicas[0]
        silent.suspend()
        wait_until(lambda: state("replica1") == "down", SECONDS, "the silent one is down")
        before = running.done
        wait_until(lambda: running.done > before + 200, SECONDS, "requests go on")
        silent.resume()
        serves("replica1")
    assert running.errors == []
    assert running.stale == 0
    # A request sends three statements, each of which has its own BUDGET_SECONDS.
    assert max(running.seconds) < 15.0


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_a_connection_that_the_driver_knows_to_be_lost_is_opened_again(reading: Cluster):
    assert names() == ["0", "1", "2"]
    connections["replica1"].connection.close()
    assert names() == ["0", "1", "2"]
    assert state("replica1") == "up"
