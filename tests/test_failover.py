"""Replicas that fail while they are read from, with our engines, and with Django's own beside them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connections, router

from replicant import _core, monitor
from tests.app.models import Item
from tests.databases import use_databases
from tests.monitoring import watching
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

SECONDS = 20.0
REPLICAS = ("replica1", "replica2")
#: Nobody looks but the test.
NEVER = 1000.0


def ours(databases: dict[str, Any]) -> dict[str, Any]:
    """The same databases, with our engines."""
    engine = {alias: settings["ENGINE"].rpartition(".")[2] for alias, settings in databases.items()}
    return {
        alias: {**settings, "ENGINE": f"replicant.backends.{engine[alias]}"} for alias, settings in databases.items()
    }


@pytest.fixture
def naive(servers: Cluster, database: str) -> Iterator[Cluster]:
    """Django's engines, and three items on every member."""
    Item.objects.bulk_create([Item(name=str(number)) for number in range(3)])
    servers.wait_until_caught_up()
    yield servers
    monitor.stop()
    for alias in ("default", *REPLICAS):
        _core.set_state(alias, "up")
    for node in servers.nodes:
        if node.suspended:
            node.resume()
        if not node.running:
            node.restart()
    servers.primary.query(f"DELETE FROM {Item._meta.db_table}", database)


@pytest.fixture
def reading(naive: Cluster, database: str) -> Iterator[Cluster]:
    """Our engines, and three items on every member."""
    with use_databases(ours(naive.databases(database)), REPLICANT=watching(NEVER)):
        router.db_for_read(Item)
        yield naive


def names(alias: str = "replica1") -> list[str]:
    return sorted(Item.objects.using(alias).values_list("name", flat=True))


def state(alias: str) -> str | None:
    return _core.member_state(alias)


def session_of(alias: str) -> str:
    sql = "SELECT pg_backend_pid()" if connections[alias].vendor == "postgresql" else "SELECT CONNECTION_ID()"
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return str(cursor.fetchone()[0])


def end_session(node: Node, session: str) -> None:
    """What an administrator does to one connection."""
    sessions = f"FROM pg_stat_activity WHERE pid = {session}"
    if "PostgreSQL" in type(node).__name__:
        node.query(f"SELECT pg_terminate_backend(pid) {sessions}")
        wait_until(lambda: node.value(f"SELECT count(*) {sessions}") == "0", SECONDS, "the session ends")
    else:
        node.query(f"KILL {session}")
        gone = f"SELECT count(*) FROM information_schema.processlist WHERE id = {session}"
        wait_until(lambda: node.value(gone) == "0", SECONDS, "the session ends")


def test_naive_a_killed_replica_fails_the_read(naive: Cluster):
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
