"""A member that was found, and promoted: no settings name it, and all that follows must know of it."""

from __future__ import annotations

from typing import Any

from django.db import connections, router

from replicant.connections import server_map
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.databases import use_databases
from tests.monitor.topology_on_servers import SECONDS, alias_of, clusters, databases_of, grown, on_mysql, serve
from tests.servers import Cluster
from tests.servers.machine import wait_until

__all__ = ["grown"]


@on_mysql
def test_whoever_comes_after_a_prober_that_ended_in_good_order_goes_on_with_the_primary_that_was_found(
    servers: Cluster, database: str, grown: Any
):
    old, databases = servers.primary, databases_of(servers, database)
    with use_databases(databases, REPLICANT=clusters()):
        router.db_for_read(Item)
        added = servers.add_replica()
        serve("replica1", "replica2", alias_of(added))
        old.kill()
        servers.promote(added)
        wait_until(lambda: server_map.server_of("default") == alias_of(added), SECONDS, "it is followed")
        cluster_monitor.stop(SECONDS)
    # All that this process knew is gone, as in one that has just been started.
    server_map.keep(set())
    with use_databases(databases, REPLICANT=clusters()):
        assert alias_of(added) not in connections.settings
        Item.objects.create(name="after")
        assert added.value(f"SELECT count(*) FROM {database}.app_item WHERE name = 'after'") == "1"
        assert server_map.server_of("default") == alias_of(added)
        # As it was, for the others; nothing is left for them.
        servers.rejoin(old)
        serve("replica1", "replica2", alias_of(added))
        servers.promote(old)
        servers.rejoin(added)
        wait_until(lambda: server_map.server_of("default") == "default", SECONDS, "the old one is followed")
