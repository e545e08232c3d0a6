"""What tests of promotions share: a watched site, and waiting for what becomes of its members."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from replicant import status
from replicant.connections import server_map
from replicant.monitor import cluster_monitor
from tests.app.models import Account, Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

FAST, SECONDS = 0.1, 20.0


@pytest.fixture
def site(servers: Cluster, database: str) -> Iterator[Cluster]:
    """The servers behind our engines, watched, and put in order again."""
    with use_databases(ours(servers.databases(database)), REPLICANT=watching(FAST)):
        Item.objects.all().delete()
        Account.objects.all().delete()
        servers.wait_until_caught_up()
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        yield servers
        cluster_monitor.stop()
        _forget_threads_connections()
    for node in servers.nodes:
        if node.suspended:
            node.resume()
        if node.role == "former":
            servers.rejoin(node)


def _forget_threads_connections() -> None:
    connections.close_all()


def member(alias: str) -> dict[str, Any]:
    (found,) = [each for each in status()["clusters"]["default"]["members"] if each["alias"] == alias]
    return found


def port_of(alias: str) -> int:
    """The port of the server that a connection reaches, as that server reports it."""
    sql = "SELECT inet_server_port()" if connections[alias].vendor == "postgresql" else "SELECT @@port"
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def is_followed(server: str = "replica1") -> bool:
    return server_map.server_of("default") == server


def follows(server: str = "replica1") -> None:
    wait_until(lambda: is_followed(server), SECONDS, f"the server of {server} is behind 'default'")


def becomes(alias: str, state: str) -> None:
    wait_until(lambda: member(alias)["state"] == state, SECONDS, f"{alias} is {state}")
