"""What tests of failing replicas share: rows on every member, and sessions that an administrator ends."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import pytest
from django.db import connections

from replicant import _core
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

SECONDS = 20.0
REPLICAS = ("replica1", "replica2")


@contextlib.contextmanager
def stocked(servers: Cluster, database: str) -> Iterator[Cluster]:
    """Writes three items, which every member has. Afterwards every server runs again."""
    Item.objects.bulk_create([Item(name=str(number)) for number in range(3)])
    servers.wait_until_caught_up()
    yield servers
    cluster_monitor.stop()
    for alias in ("default", *REPLICAS):
        _core.set_state(alias, "up")
    servers.revive()
    servers.primary.query(f"DELETE FROM {Item._meta.db_table}", database)


@pytest.fixture
def naive(servers: Cluster, database: str) -> Iterator[Cluster]:
    """Django's engines, and three items on every member."""
    with stocked(servers, database):
        yield servers


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
    """End one connection, as an administrator does."""
    sessions = f"FROM pg_stat_activity WHERE pid = {session}"
    if "PostgreSQL" in type(node).__name__:
        node.query(f"SELECT pg_terminate_backend(pid) {sessions}")
        wait_until(lambda: node.value(f"SELECT count(*) {sessions}") == "0", SECONDS, "the session ends")
    else:
        node.query(f"KILL {session}")
        gone = f"SELECT count(*) FROM information_schema.processlist WHERE id = {session}"
        wait_until(lambda: node.value(gone) == "0", SECONDS, "the session ends")
