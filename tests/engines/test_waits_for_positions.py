"""Waiting until a replica has applied a position."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from django.db import connection, connections

from replicant._core import Position
from tests.app.models import Tag
from tests.databases import use_databases
from tests.engines.positions import SLACK_SECONDS, engine_for, execute, wait, write
from tests.servers import Cluster, start


def test_a_replica_that_has_it_answers_with_what_it_has(servers: Cluster):
    position = write()
    reached, _ = wait("replica1", position, 5.0)
    assert reached is not None
    assert reached.kind == servers.engine
    assert reached.contains(position)
    again = engine_for("replica1").position(connections["replica1"])
    assert again is not None
    assert again.contains(position)
    for seconds in (0, 0.000_01, 0.02):
        reached, took = wait("replica1", position, seconds)
        assert reached is not None
        assert took < SLACK_SECONDS


@pytest.mark.parametrize("seconds", [0, 0.000_01, 0.0123, 0.25])
def test_a_wait_that_times_out_takes_no_longer_than_asked(servers: Cluster, seconds: float):
    servers.replicas[0].pause_replication()
    position = write()
    reached, took = wait("replica1", position, seconds)
    assert reached is None
    assert seconds * 0.9 <= took < seconds + SLACK_SECONDS


def test_a_wait_ends_when_the_change_arrives(servers: Cluster):
    servers.replicas[0].pause_replication()
    position = write()
    assert wait("replica1", position, 0)[0] is None
    resume = threading.Timer(0.2, servers.replicas[0].resume_replication)
    resume.start()
    reached, took = wait("replica1", position, 20.0)
    resume.join()
    assert reached is not None
    assert reached.contains(position)
    assert 0.1 < took < 10.0
    assert Tag.objects.using("replica1").count() == Tag.objects.using("default").count()


def test_a_wait_is_one_statement(servers: Cluster):
    position = write()
    for seconds in (0, 5.0):
        engine_for("replica1")
        before = servers.replicas[0].statements()
        wait("replica1", position, seconds)
        assert servers.replicas[0].statements() - before == 1


def test_a_wait_begins_no_transaction(servers: Cluster):
    servers.replicas[0].pause_replication()
    there = connections["replica1"]
    there.ensure_connection()
    there.set_autocommit(False)
    position = write()
    assert wait("replica1", position, 0.02)[0] is None
    servers.replicas[0].resume_replication()
    assert wait("replica1", position, 10.0)[0] is not None
    # No snapshot of before stands in the way.
    assert Tag.objects.using("replica1").count() == Tag.objects.using("default").count()
    there.rollback()
    there.set_autocommit(True)


def test_the_wait_of_one_thread_lets_the_others_run(servers: Cluster):
    servers.replicas[0].pause_replication()
    position = write()
    engine_for("replica1")
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.005):
            ticks += 1

    ticking = threading.Thread(target=tick)
    ticking.start()
    wait("replica1", position, 0.4)
    done.set()
    ticking.join()
    assert ticks > 20


def test_a_primary_never_makes_anybody_wait_for_what_it_has(servers: Cluster):
    position = write()
    reached, took = wait("default", position, 5.0)
    assert reached is not None
    assert took < SLACK_SECONDS


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_a_primary_is_not_waited_for_at_all(servers: Cluster):
    # MySQL alone can wait there, and knows when the position is its own.
    write()
    future = Position(servers.engine, {"mariadb": "0-1-99999999", "postgresql": "1:FFFF/0"}[servers.engine])
    reached, took = wait("default", future, 3.0)
    assert reached is None
    assert took < SLACK_SECONDS


def test_a_position_of_another_kind_is_reached_by_nobody(servers: Cluster):
    foreign = {"mysql": "mariadb", "mariadb": "postgresql", "postgresql": "mysql"}[servers.engine]
    text = {"mysql": f"{'0' * 8}-0000-0000-0000-{'0' * 12}:1", "mariadb": "0-1-1", "postgresql": "1:0/1"}[foreign]
    reached, took = wait("replica1", Position(foreign, text), 3.0)
    assert reached is None
    assert took < SLACK_SECONDS


@pytest.fixture(params=["mysql", "mariadb", "postgresql"])
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose roles may change."""
    with start(request.param, replicas=2) as cluster:
        cluster.create_database("own")
        yield cluster


def test_positions_go_on_after_a_promotion(own_cluster: Cluster):
    with use_databases(own_cluster.databases("own")):
        execute("CREATE TABLE t (id int)")
        before = engine_for("default").ask_position(connection)
        assert before is not None
        for alias in ("replica1", "replica2"):
            assert wait(alias, before, 5.0)[0] is not None
    own_cluster.promote(own_cluster.replicas[0])
    databases = own_cluster.databases("own")
    with use_databases(databases, REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        execute("INSERT INTO t VALUES (1)")
        after = engine_for("default").ask_position(connection)
        assert after is not None
        assert after.comparable(before) == (own_cluster.engine != "postgresql")
        assert not before.contains(after)
        if own_cluster.engine == "postgresql":
            # An ordinary user learns of the new timeline at the standby's next restartpoint, and is told "no" until
            # then; one who may read statistics learns it at once.
            own_cluster.wait_until_caught_up()
            assert wait("replica1", after, 0.1)[0] is None
            own_cluster.primary.query("GRANT pg_monitor TO application")
            own_cluster.wait_until_caught_up()
            assert wait("replica1", after, 5.0)[0] is not None
            own_cluster.primary.query("REVOKE pg_monitor FROM application")
            own_cluster.primary.query("CHECKPOINT")
            own_cluster.wait_until_caught_up()
            own_cluster.replicas[0].query("CHECKPOINT")
        reached, _ = wait("replica1", after, 5.0)
        assert reached is not None
        assert reached.contains(after)
        assert reached.contains(before) == (own_cluster.engine != "postgresql")
        # The new primary itself, which was a replica, is not waited for.
        reached, took = wait("default", after, 3.0)
        assert reached is not None
        assert took < SLACK_SECONDS
