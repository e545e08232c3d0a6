"""What tests of failovers share: a site, a primary that is killed, and its return."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections

from tests.databases import ours, use_databases
from tests.schedules import takes_writes
from tests.servers import Cluster, Node


@pytest.fixture
def site(servers: Cluster, database: str) -> Iterator[Cluster]:
    """The servers behind our engines, and put in order again."""
    with use_databases(ours(servers.databases(database))):
        servers.primary.query("DELETE FROM app_item", database)
        servers.wait_until_caught_up()
        yield servers
        connections.close_all()
    for node in servers.nodes:
        if node.role == "former":
            servers.rejoin(node)


def names(node: Node, database: str) -> set[str]:
    return {name for (name,) in node.query("SELECT name FROM app_item", database)}


def fail_over(site: Cluster, new: Node) -> Node:
    """Kill the primary, and promote a replica; returns the old one."""
    old = site.primary
    site.wait_until_caught_up()
    old.kill()
    site.promote(new)
    return old


def comes_back(old: Node) -> None:
    old.restart()
    takes_writes(old)
