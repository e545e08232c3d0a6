"""What tests of the topology on servers share: a cluster that follows its servers, and replicas that are added."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from replicant import explain
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.databases import ours
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until
from tests.servers.node import REPLICATION, REPLICATION_PASSWORD

FAST, SECONDS, THREADS = 0.2, 20.0, 4
#: An account that may see the replicas of a MySQL server; it has no right to any database.
SEES_REPLICAS = {"USER": REPLICATION, "PASSWORD": REPLICATION_PASSWORD, "NAME": ""}
FOLLOWING: dict[str, Any] = {"METHOD": "mysql", "ALLOW": ["127.0.0.0/8"]}

on_mysql = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)


def clusters(**keys: Any) -> dict[str, Any]:
    return {"default": {"REPLICAS": ["replica1", "replica2"], "PROBE_SECONDS": FAST, "TOPOLOGY": FOLLOWING, **keys}}


def databases_of(servers: Cluster, database: str) -> dict[str, Any]:
    return {alias: {**each, "PROBE": SEES_REPLICAS} for alias, each in ours(servers.databases(database)).items()}


@pytest.fixture
def grown(servers: Cluster, database: str) -> Iterator[Callable[[], list[Node]]]:
    """Adds three replicas when called. Afterwards the cluster has its former members and primary."""
    Item.objects.all().delete()
    Item.objects.create(name="first")
    servers.wait_until_caught_up()
    primary, replicas = servers.primary, list(servers.replicas)
    yield lambda: [servers.add_replica() for _ in range(3)]
    cluster_monitor.stop()
    connections.close_all()
    for node in servers.replicas[:]:
        if node not in (primary, *replicas):
            servers.remove_replica(node)
    for node in (primary, *replicas):
        if not node.running:
            node.restart()
    if servers.primary is not primary:
        servers.rejoin(primary)
    if servers.engine == "mysql":
        for node in servers.replicas:
            node.query("START REPLICA")


def alias_of(node: Node) -> str:
    return f"default@{node.host}:{node.port}"


def eligible() -> set[str]:
    return set(explain(Item).eligible)


def serve(*aliases: str) -> None:
    wait_until(lambda: eligible() == set(aliases), SECONDS, f"just {', '.join(sorted(aliases))} serve")
