"""A session with a replica that has just been opened: what its server says is checked before a statement is sent.

An alias may lead to another server than a moment ago, and a server may come back with older data than it had shown.
"""

from __future__ import annotations

import contextlib
import contextvars
import shutil
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, router

from replicant import NoReplicaAvailable, _core, request_scope, use_replica
from replicant.connections import observations
from replicant.engines import Sample, engine_of
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.failing_replicas import SECONDS
from tests.databases import ours, use_databases
from tests.monitoring import NEVER
from tests.proxy import Proxy, proxy
from tests.servers import Cluster, Node
from tests.servers.machine import copy, wait_until

ENGINES = ("django", "replicant")
ONE_REPLICA: dict[str, Any] = {"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": NEVER, "WAIT_SECONDS": 0.0}}


@pytest.fixture(params=ENGINES)
def is_ours(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "replicant")


@contextlib.contextmanager
def reading(databases: dict[str, Any], *, is_ours: bool, **keys: Any) -> Iterator[None]:
    """One replica, which nobody looks at but the test."""
    databases = {alias: databases[alias] for alias in ("default", "replica1")}
    clusters = {"default": {**ONE_REPLICA["default"], **keys}}
    with use_databases(ours(databases) if is_ours else databases, REPLICANT=clusters):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 2, SECONDS, "the monitor has looked")
        yield
        cluster_monitor.stop()


def look() -> dict[str, Sample]:
    """Look at both members as the monitor does, over connections of its own, and have what was found taken in."""
    samples = {}
    for alias in ("default", "replica1"):
        connection = connections.create_connection(alias)
        with connection.wrap_database_errors:
            connection.connection = connection.get_new_connection(connection.get_connection_params())
            connection.set_autocommit(True)
        samples[alias] = engine_of(connection).probe(connection)
        connection.connection.close()
    observations.observe(list(samples.values()))
    return samples


@pytest.fixture
def behind(servers: Cluster, database: str, is_ours: bool) -> Iterator[tuple[Cluster, Proxy]]:
    """``replica1`` leads to a replica that is up to date; the second replica stands still, and lacks what follows."""
    yield from leading_to(servers.replicas[0], servers, database, is_ours=is_ours)


@pytest.fixture
def ahead(servers: Cluster, database: str, is_ours: bool) -> Iterator[tuple[Cluster, Proxy]]:
    """``replica1`` leads to the replica that stands still."""
    yield from leading_to(servers.replicas[1], servers, database, is_ours=is_ours)


def leading_to(node: Node, servers: Cluster, database: str, *, is_ours: bool) -> Iterator[tuple[Cluster, Proxy]]:
    with proxy(node) as endpoint:
        databases = servers.databases(database)
        databases["replica1"]["PORT"] = endpoint.port
        servers.wait_until_caught_up()
        servers.replicas[1].pause_replication()
        with reading(databases, is_ours=is_ours):
            yield servers, endpoint
    servers.primary.query(f"DELETE FROM {Item._meta.db_table}", database)


def caught_up(servers: Cluster) -> None:
    """Wait until the first replica has all, and the monitor knows."""
    position = servers.primary.position()
    assert servers.replicas[0].reached(position, SECONDS)
    look()


def found() -> tuple[str, int]:
    """Where a read went, and how many rows it found."""
    items = list(Item.objects.all())
    return (items[0]._state.db or "" if items else "", len(items))


def find_the_row(*, is_ours: bool) -> None:
    """Read until there is an answer, which must hold the one row. Django's engines refuse the first read."""
    if not is_ours:
        with pytest.raises(NoReplicaAvailable, match="Nothing was sent on it"):
            found()
    assert found()[1] == 1
    assert found() == ("default", 1)


def test_a_session_with_a_server_that_is_older_does_not_serve_the_own_write(behind, is_ours: bool):
    servers, endpoint = behind
    with request_scope():
        Item.objects.create(name="own")
        caught_up(servers)
        connections["replica1"].close()
        endpoint.move(servers.replicas[1])
        find_the_row(is_ours=is_ours)


def test_the_first_read_after_a_lost_connection_is_checked(behind, is_ours: bool):
    servers, endpoint = behind
    with request_scope():
        Item.objects.create(name="own")
        caught_up(servers)
        assert found() == ("replica1", 1)
        endpoint.move(servers.replicas[1])
        endpoint.cut()
        if not is_ours:
            with pytest.raises(OperationalError):
                found()
            connections["replica1"].close()
        find_the_row(is_ours=is_ours)


def test_what_was_read_before_the_alias_moved_is_not_missed_after(behind, is_ours: bool, database: str):
    servers, endpoint = behind
    insert = f"INSERT INTO {Item._meta.db_table} (name) VALUES ('of another client')"
    servers.primary.query(insert, database)
    caught_up(servers)
    with request_scope():
        assert found() == ("replica1", 1)
        connections["replica1"].close()
        endpoint.move(servers.replicas[1])
        find_the_row(is_ours=is_ours)


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_another_scope_may_have_opened_the_session(behind, is_ours: bool, database: str):
    """One scope has read from the former server; another one, on the same thread, opens a session with the new one."""
    servers, endpoint = behind
    first, second = contextvars.Context(), contextvars.Context()
    insert = f"INSERT INTO {Item._meta.db_table} (name) VALUES ('of another client')"
    servers.primary.query(insert, database)
    caught_up(servers)
    scope = request_scope()
    first.run(scope.__enter__)
    assert first.run(found) == ("replica1", 1)
    connections["replica1"].close()
    endpoint.move(servers.replicas[1])
    # It has seen nothing yet, and may see what is there.
    assert second.run(in_scope, found) == ("", 0)
    assert first.run(found) == ("default", 1)
    first.run(scope.__exit__, None, None, None)


def in_scope(work: Callable[[], Any]) -> Any:
    with request_scope():
        return work()


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_a_session_with_the_former_server_is_checked_too(ahead, is_ours: bool):
    """The alias moves to a server that has the write, while this thread's session is still with one that lacks it."""
    servers, endpoint = ahead
    with request_scope():
        assert found() == ("", 0)
    with request_scope():
        Item.objects.create(name="own")
        endpoint.move(servers.replicas[0])
        assert servers.replicas[0].reached(servers.primary.position(), SECONDS)
        # As another thread's new session does.
        other = connections.create_connection("replica1")
        other.ensure_connection()
        other.close()
        # As when it has the position that the primary had when this server was seen.
        _core.set_state("replica1", "up")
        if not is_ours:
            with pytest.raises(NoReplicaAvailable, match="Nothing was sent on it"):
                found()
        # The next session is with the server that has it.
        assert found()[1] == 1
        assert found()[1] == 1


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_of_several_servers_behind_one_alias_none_misses_the_own_write(behind, is_ours: bool):
    """A load balancer, or a pooler: each session may reach another server."""
    servers, endpoint = behind
    endpoint.move(*servers.replicas)
    aliases = set()
    for number in range(12):
        connections["replica1"].close()
        with request_scope():
            Item.objects.all().delete()
            Item.objects.create(name=str(number))
            assert servers.replicas[0].reached(servers.primary.position(), SECONDS)
            if number < 2:
                look()
            try:
                alias, rows = found()
            except NoReplicaAvailable:
                assert not is_ours
                alias, rows = found()
            assert rows == 1
            aliases.add(alias)
    assert "default" in aliases


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_what_asks_for_no_more_than_the_replica_has_is_not_refused(behind, is_ours: bool):
    servers, endpoint = behind
    Item.objects.create(name="own")
    connections["replica1"].close()
    endpoint.move(servers.replicas[1])
    with request_scope():
        # The first read of a scope has seen nothing that could be missing.
        assert found() == ("", 0)
        # Another server behind the alias serves later; this one is taken for admitted.
        _core.set_state("replica1", "up")
        assert found() == ("", 0)
    connections["replica1"].close()
    with request_scope():
        Item.objects.create(name="another")
        # Named by the code itself, and that server is known to lack it.
        assert Item.objects.using("replica1").count() == 0
        with use_replica(stale_ok=True):
            connections["replica1"].close()
            assert found() == ("", 0)


# A server that comes back with older data.


@contextlib.contextmanager
def rolled_back(node: Node, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """A function that restarts a server with the data it has now, and without replication.

    Yields with the server running; leaves it replicating."""
    kept = node.folder / "kept"
    command = node._command
    node.stop()
    copy(node.data, kept)
    node.restart()
    option = {"MySQLNode": ["--skip-replica-start"], "MariaDBNode": ["--skip-slave-start"]}
    standing = option.get(type(node).__name__, ["-c", "recovery_min_apply_delay=1h"])

    def roll_back() -> None:
        node.kill()
        shutil.rmtree(node.data)
        copy(kept, node.data)
        monkeypatch.setattr(node, "_command", lambda: [*command(), *standing])
        node.launch()
        node.wait_until_ready()

    try:
        yield roll_back
    finally:
        monkeypatch.setattr(node, "_command", command)
        node.restart()
        shutil.rmtree(kept)


@pytest.fixture
def older(
    servers: Cluster, database: str, is_ours: bool, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """What ``replica1``'s server is to be rolled back with: before the one row, which it has."""
    servers.wait_until_caught_up()
    with (
        rolled_back(servers.replicas[0], monkeypatch) as roll_back,
        reading(servers.databases(database), is_ours=is_ours),
    ):
        insert = f"INSERT INTO {Item._meta.db_table} (name) VALUES ('of another client')"
        servers.primary.query(insert, database)
        caught_up(servers)
        yield roll_back
    servers.primary.query(f"DELETE FROM {Item._meta.db_table}", database)


def lose_session(*, is_ours: bool) -> None:
    """The server was restarted: with Django's engines that costs the read that finds out."""
    if not is_ours:
        with pytest.raises(DatabaseError):
            found()
        connections["replica1"].close()


def test_a_server_that_returns_older_within_one_probe_interval_is_noticed(older, is_ours: bool):
    with request_scope():
        assert found() == ("replica1", 1)
        older()
        lose_session(is_ours=is_ours)
        if is_ours:
            # The read that found the server gone goes elsewhere; the next one would open a session.
            _core.set_state("replica1", "up")
        find_the_row(is_ours=is_ours)


def test_a_server_that_the_monitor_saw_return_older_is_left_by_those_who_had_read_there(older, is_ours: bool):
    with request_scope():
        assert found() == ("replica1", 1)
        older()
        look()
        # It serves nobody before it has what the primary had when it was seen; this scope not even after that.
        assert _core.member_state("replica1") == "lagging"
        assert found() == ("default", 1)
        _core.set_state("replica1", "up")
        assert found() == ("default", 1)
    with request_scope():
        connections["replica1"].close()
        # It has shown nothing to this scope.
        assert found() == ("", 0)


def test_the_name_of_a_server_differs_from_run_to_run_and_in_no_other_way(servers: Cluster, database: str):
    with reading(servers.databases(database), is_ours=False):
        names = set()
        until = time.monotonic() + 2.5
        while time.monotonic() < until:
            before = look()["replica1"]
            names.add(before.server)
        assert len(names) == 1
        servers.replicas[0].restart()
        after = look()["replica1"]
        assert after.identity == before.identity != ""
        assert after.server != before.server
        assert _core.server("replica1") is not None
