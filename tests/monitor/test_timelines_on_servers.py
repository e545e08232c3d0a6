"""A standby after a promotion, for an ordinary user of PostgreSQL: which timeline it is on, and that it serves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import status, use_replica
from replicant.connections import server_map
from replicant.engines import postgresql
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.schedules import takes_writes
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

FAST, SECONDS = 0.1, 30.0


@pytest.fixture(params=["postgresql"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """One for each test: a timeline that was told once is known for as long as the server runs."""
    from tests.servers import start

    with start(request.param, replicas=2) as cluster:
        yield cluster


@pytest.fixture
def database(cluster: Cluster) -> str:
    cluster.create_database("timelines")
    cluster.primary.query("CREATE TABLE app_item (id bigserial PRIMARY KEY, name varchar(100))", "timelines")
    cluster.primary.query("GRANT ALL ON ALL TABLES IN SCHEMA public TO application", "timelines")
    cluster.primary.query("GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO application", "timelines")
    cluster.wait_until_caught_up()
    return "timelines"


@pytest.fixture(params=["own engines", "Django's engines"])
def site(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The servers, watched. With Django's engines the settings follow the promotion, so they are given afterwards."""
    databases = cluster.databases(database)
    is_ours = request.param == "own engines"
    if not is_ours:
        fail_over(cluster)
        databases = cluster.databases(database)
    with use_databases(ours(databases) if is_ours else databases, REPLICANT=watching_all(databases)):
        Item.objects.create(name="first")
        router.db_for_read(Item)
        if is_ours:
            wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
            fail_over(cluster)
            wait_until(lambda: server_map.server_of("default") == "replica1", SECONDS, "it is followed")
        yield cluster
        cluster_monitor.stop()
        connections.close_all()


def watching_all(databases: dict[str, Any], **keys: Any) -> dict[str, Any]:
    replicas = [alias for alias in databases if alias != "default"]
    return watching(FAST, REPLICAS=replicas, MAX_LAG=1.0, ON_UNAVAILABLE="error", **keys)


def fail_over(cluster: Cluster) -> None:
    cluster.wait_until_caught_up()
    cluster.primary.kill()
    cluster.promote(cluster.replicas[0])


def alias_of(node: Node) -> str:
    return next(alias for alias in connections if connections.settings[alias]["PORT"] == node.port)


def state(alias: str) -> str:
    (cluster,) = status()["clusters"].values()
    (found,) = [member for member in cluster["members"] if member["alias"] == alias]
    return str(found["state"])


def timeline(alias: str) -> int:
    """The one that the monitor has found a server on; 0 while it has found nothing."""
    sample = cluster_monitor.latest().get(alias)
    return postgresql.timeline_of(sample.position) if sample is not None and sample.position is not None else 0


def checkpoint_timeline(node: Node) -> str:
    return node.value("SELECT timeline_id FROM pg_control_checkpoint()")


def test_a_healthy_standby_serves_an_ordinary_user_before_its_next_restart_point(site: Cluster):
    (standby,) = site.replicas
    alias = alias_of(standby)
    for number in range(3):
        Item.objects.create(name=f"{number}")
        site.wait_until_caught_up()
        wait_until(lambda: timeline(alias) == 2, SECONDS, "its position is one of the new timeline")
        wait_until(lambda: state(alias) == "up", SECONDS, "the standby serves")
        with use_replica(alias, stale_ok=True):
            assert Item.objects.filter(name=f"{number}")[0]._state.db == alias
    # All that without a restart point, which would have told it.
    assert checkpoint_timeline(standby) == "1"
    # And the sessions of users are told, too.
    connections[alias].ensure_connection()
    own = postgresql.position(connections[alias])
    assert own is not None
    assert postgresql.timeline_of(own) == 2


def ordinary(node: Node, database: str) -> BaseDatabaseWrapper:
    connection = connections[alias_of(node)]
    connection.ensure_connection()
    return connection


def test_a_standby_that_follows_the_old_primary_past_the_fork_is_not_taken_for_one_of_the_new(
    cluster: Cluster, database: str
):
    old, (new, standby) = cluster.primary, cluster.replicas
    with use_databases(cluster.databases(database), REPLICANT={}):
        # Two primaries: the standby stays with the old one, and replays far more than the place of the fork.
        new.become_primary()
        for node in (old, new):
            node.query("INSERT INTO app_item (name) SELECT 'filler' FROM generate_series(1, 2000)", database)
        marks = postgresql.mark(ordinary(new, database))
        assert len(marks) == 32
        # The old primary uses the same numbers.
        until = max(int(number) for number, _ in marks)
        while int(old.value("SELECT txid_snapshot_xmax(txid_current_snapshot())")) <= until + 1:
            old.query("INSERT INTO app_item (name) VALUES ('again')", database)
        assert standby.reached(old.position(), SECONDS)
        fork = new.value("SELECT pg_last_wal_replay_lsn()")
        assert standby.value(f"SELECT pg_last_wal_replay_lsn() > '{fork}'") == "t"
        assert not postgresql.has_marks(ordinary(standby, database), marks)
        # The new primary's own standby would have them, as it has itself.
        assert postgresql.has_marks(ordinary(new, database), marks)
        connections.close_all()


def test_marks_that_have_not_arrived_are_not_there(cluster: Cluster, database: str):
    with use_databases(cluster.databases(database), REPLICANT={}):
        standby = cluster.replicas[0]
        standby.pause_replication()
        marks = postgresql.mark(ordinary(cluster.primary, database))
        assert not postgresql.has_marks(ordinary(standby, database), marks)
        standby.resume_replication()
        cluster.primary.query("INSERT INTO app_item (name) VALUES ('flushes')", database)
        cluster.wait_until_caught_up()
        assert postgresql.has_marks(ordinary(standby, database), marks)
        connections.close_all()


def test_where_no_marks_can_be_made_nothing_is_known(cluster: Cluster, database: str):
    with use_databases(cluster.databases(database), REPLICANT={}):
        # As on a standby.
        connection = ordinary(cluster.replicas[0], database)
        assert postgresql.mark(connection) == ()
        assert not postgresql.has_marks(connection, ())
        assert connection.is_usable()
        connections.close_all()


def test_a_split_brain_standby_is_not_admitted(cluster: Cluster, database: str):
    old, (new, standby) = cluster.primary, cluster.replicas
    databases = cluster.databases(database)
    with use_databases(ours(databases), REPLICANT=watching_all(databases)):
        Item.objects.create(name="first")
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        # The old primary is away for a while, and its standby stays with it.
        cluster.wait_until_caught_up()
        old.suspend()
        new.become_primary()
        wait_until(lambda: server_map.server_of("default") == "replica1", SECONDS, "it is followed")
        old.resume()
        takes_writes(old)
        Item.objects.create(name="acknowledged")
        old.query("INSERT INTO app_item (name) SELECT 'lost' FROM generate_series(1, 5000)", database)
        assert standby.reached(old.position(), SECONDS)
        assert "lost" in {name for (name,) in standby.query("SELECT name FROM app_item", database)}
        wait_until(lambda: state("replica2") == "lagging", SECONDS, "the standby of the old primary does not serve")
        assert timeline("replica2") == 1
        cluster_monitor.stop()
        connections.close_all()
