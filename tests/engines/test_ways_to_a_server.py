"""A member that is reached in several ways: by a pooler or a socket, and by the monitor in a way of its own."""

from __future__ import annotations

import pytest
from django.db import connections, router

from replicant import _core
from replicant.engines import Sample
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.failing_replicas import SECONDS
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster
from tests.servers.machine import wait_until


def run(server: str) -> str:
    return Sample("replica1", server, False, None, 0, 0.0).run


def test_the_address_is_no_part_of_a_run_of_postgresql():
    start = "since 1796030043.977408"
    assert run(f"7713882758670886952 10.0.0.5 5432  {start}") == run(f"7713882758670886952  5432  {start}")
    assert run(f"10.0.0.5 5432 {start}") == run(f" 5432 {start}")
    different = {
        run(f"7713882758670886952 10.0.0.5 5432 {rest}")
        for rest in (f" {start}", f"standby {start}", " since 1796030043.977409")
    }
    assert len(different | {run(f"7713882758670886952 10.0.0.5 5433  {start}")}) == 4
    for other in ("3@db2:3306 since 1796028039", "3e11fa47-71ca-11e1-9e33-c80aa9429562 since 1796028039", ""):
        assert run(other) == other


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_monitors_own_way_to_a_server_makes_no_second_server_of_it(servers: Cluster, database: str):
    databases = ours(servers.databases(database))
    databases["replica1"]["PROBE"] = {"HOST": str(servers.replicas[0].folder)}
    with use_databases(databases, REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "the monitor has looked")
        for _ in range(3):
            connections["replica1"].close()
            assert Item.objects.using("replica1").count() == 0
            before = cluster_monitor.latest()["replica1"].asked_at
            wait_until(
                lambda before=before: cluster_monitor.latest()["replica1"].asked_at > before,
                SECONDS,
                "the monitor looks again",
            )
        assert _core.member_state("replica1") == "up"
        (member,) = (each for each in _core.snapshot()["default"] if each["alias"] == "replica1")
        assert (member["state"], member["position"] is None) == ("up", False)
        cluster_monitor.stop()
