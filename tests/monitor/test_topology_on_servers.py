"""Replicas that are added and removed while a site runs: on real servers, under load."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connections, router

from replicant import reload, request_scope, status
from replicant.connections import server_map
from replicant.monitor import cluster_monitor, topology
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.load import Load, load
from tests.monitor.topology_on_servers import (
    FAST,
    FOLLOWING,
    SECONDS,
    THREADS,
    alias_of,
    clusters,
    databases_of,
    eligible,
    on_mysql,
    serve,
)
from tests.monitor.topology_on_servers import grown as grown
from tests.monitor.viewer import METHODS, RIGHTS, VIEWER
from tests.monitor.viewer import PASSWORD as VIEWER_PASSWORD
from tests.monitoring import environment
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until
from tests.servers.node import APPLICATION, APPLICATION_PASSWORD, REPLICATION_PASSWORD


def stop(servers: Cluster, database: str, *nodes: Node) -> None:
    """Have these replicate no more. The primary notices when it has something to send."""
    for node in nodes:
        node.query("STOP REPLICA")
    servers.primary.query(f"INSERT INTO {database}.app_tag (name) VALUES ('sent')")


def take_reads(running: Load, *aliases: str) -> None:
    before = running.reads.copy()
    wait_until(lambda: all(running.reads[alias] > before[alias] for alias in aliases), SECONDS, "all of them are read")


def get_none(running: Load, *aliases: str) -> None:
    """None of these is read from any more, after what was under way."""
    done = running.done + 2 * THREADS
    wait_until(lambda: running.done > done, SECONDS, "what was under way is done")
    before, done = running.reads.copy(), running.done + 100
    wait_until(lambda: running.done > done, SECONDS, "others are read")
    assert [running.reads[alias] - before[alias] for alias in aliases] == [0] * len(aliases)


@on_mysql
def test_two_replicas_grow_to_five_and_shrink_to_one_with_no_error(
    servers: Cluster, database: str, grown: Callable[[], list[Node]]
):
    databases = databases_of(servers, database)
    with use_databases(databases, REPLICANT=clusters(TOPOLOGY=None)), load(THREADS) as naive:
        # Whoever has but the settings: nobody reads from those who are new.
        added = grown()
        before = [node.statements() for node in added]
        get_none(naive)
        assert [node.statements() for node in added] == before
        cluster_monitor.stop()
    new = [alias_of(node) for node in added]
    with use_databases(databases, REPLICANT=clusters()):
        first = servers.replicas[0]
        router.db_for_read(Item)
        with load(THREADS) as running:
            serve("replica1", "replica2", *new)
            take_reads(running, "replica1", "replica2", *new)
            # They answer all the same, and lag by nothing.
            for node in (added[0], added[1], servers.replicas[1]):
                node.query("STOP REPLICA")
            serve("replica1", new[2])
            get_none(running, "replica2", *new[:2])
            wait_until(
                lambda: not set(new[:2]) & cluster_monitor.latest().keys(), SECONDS, "they are looked at no more"
            )
            added[2].kill()
            serve("replica1")
            take_reads(running, "replica1")
            # And back again, under the alias that it had.
            added[0].query("START REPLICA")
            serve("replica1", new[0])
            take_reads(running, new[0])
        assert (running.errors, running.stale) == ([], 0)
        assert first.running
        shares = {each["alias"]: each["share"] for each in status()["clusters"]["default"]["members"]}
        assert all(shares[alias] > 0 for alias in new)


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_same_by_reload_for_those_who_know_their_servers(
    servers: Cluster, database: str, grown: Callable[[], list[Node]]
):
    databases = ours(servers.databases(database))
    with use_databases(databases, REPLICANT=clusters(TOPOLOGY=None)):
        router.db_for_read(Item)
        with load(THREADS) as running:
            added = grown()
            new = {
                f"replica{number}": {**databases["replica1"], "PORT": node.port} for number, node in enumerate(added, 3)
            }
            probed = cluster_monitor._watches[0]._probers["replica1"]
            reload({"default": {"REPLICAS": ["replica1", "replica2", *new]}}, databases=new)
            serve("replica1", "replica2", *new)
            take_reads(running, "replica1", "replica2", *new)
            assert cluster_monitor._watches[0]._probers["replica1"] is probed
            reload({"default": {"REPLICAS": ["replica4"]}})
            serve("replica4")
            get_none(running, "replica1", "replica2", "replica3", "replica5")
            for node in (added[0], added[2]):
                node.kill()
            take_reads(running, "replica4")
            reload()
            serve("replica1", "replica2")
            take_reads(running, "replica1", "replica2")
        assert (running.errors, running.stale) == ([], 0)


@on_mysql
def test_members_come_and_go_after_a_promotion_and_the_primary_stays(servers: Cluster, database: str, grown: Any):
    old, new, other = servers.primary, *servers.replicas
    with use_databases(databases_of(servers, database), REPLICANT=clusters()):
        router.db_for_read(Item)
        serve("replica1", "replica2")
        old.kill()
        servers.promote(new)
        wait_until(lambda: server_map.server_of("default") == "replica1", SECONDS, "the promoted server is followed")
        serve("replica2")
        (added,) = [servers.add_replica()]
        serve("replica2", alias_of(added))
        assert server_map.server_of("default") == "replica1"
        Item.objects.create(name="after")
        assert new.value(f"SELECT count(*) FROM {database}.app_item WHERE name = 'after'") == "1"
        # The old primary replicates: it is behind the alias that the new one had.
        servers.rejoin(old)
        serve("replica1", "replica2", alias_of(added))
        stop(servers, database, other)
        serve("replica1", alias_of(added))
        assert server_map.server_of("replica1") == "default"
        other.query("START REPLICA")
        serve("replica1", "replica2", alias_of(added))
        # One that was found is promoted in its turn, and the rest replicates from it.
        new.kill()
        servers.promote(added)
        wait_until(lambda: server_map.server_of("default") == alias_of(added), SECONDS, "it is followed")
        Item.objects.create(name="at last")
        assert added.value(f"SELECT count(*) FROM {database}.app_item WHERE name = 'at last'") == "1"
        servers.rejoin(new)
        serve("replica1", "replica2", alias_of(added))
        # As it was, for the others; nothing is left for them.
        servers.promote(old)
        servers.rejoin(added)
        wait_until(lambda: server_map.server_of("default") == "default", SECONDS, "the first one is followed again")


ANOTHER = """
import json, sys, time
import django
django.setup()
from django.db import router
from replicant import explain
from replicant.monitor import cluster_monitor as monitor
from tests.app.models import Item
wanted = set(sys.argv[1].split(","))
until = time.monotonic() + 20
while time.monotonic() < until and set(explain(Item).eligible) != wanted:
    router.db_for_read(Item)
    time.sleep(0.02)
print(json.dumps([sorted(explain(Item).eligible), monitor.probing()]))
"""


@on_mysql
def test_the_processes_of_a_host_agree_and_one_of_them_asks(servers: Cluster, database: str, grown: Any):
    databases = databases_of(servers, database)
    with use_databases(databases, REPLICANT=clusters()):
        router.db_for_read(Item)
        added = alias_of(servers.add_replica())
        serve("replica1", "replica2", added)
        ran = subprocess.run(
            [sys.executable, "-c", ANOTHER, f"replica1,replica2,{added}"],
            env=environment(databases, FAST, REPLICANT=clusters()),
            check=True,
            capture_output=True,
            timeout=2 * SECONDS,
        )
        assert json.loads(ran.stdout) == [sorted(["replica1", "replica2", added]), []]
        assert cluster_monitor.probing() == ["default"]


@on_mysql
def test_credentials_go_to_no_host_that_allow_does_not_match(
    servers: Cluster, database: str, grown: Any, caplog: pytest.LogCaptureFixture
):
    elsewhere = clusters(TOPOLOGY={**FOLLOWING, "ALLOW": ["10.0.0.0/8"]})
    with use_databases(databases_of(servers, database), REPLICANT=elsewhere), caplog.at_level(logging.WARNING):
        router.db_for_read(Item)
        added = servers.add_replica()
        wait_until(
            lambda: "ALLOW does not permit the template's credentials for 127.0.0.1" in caplog.text,
            SECONDS,
            "it is said",
        )
        after = cluster_monitor.latest()["default"].asked_at + 5 * FAST * 1e9
        wait_until(lambda: cluster_monitor.latest()["default"].asked_at > after, SECONDS, "some looks are over")
        assert eligible() == {"replica1", "replica2"}
        assert alias_of(added) not in connections.settings
        assert caplog.text.count("ALLOW does not permit") == 1
        assert APPLICATION_PASSWORD not in caplog.text
        assert REPLICATION_PASSWORD not in caplog.text


@on_mysql
def test_a_view_that_is_empty_or_not_to_be_had_is_not_applied(
    servers: Cluster, database: str, grown: Any, caplog: pytest.LogCaptureFixture
):
    databases = databases_of(servers, database)
    with use_databases(databases, REPLICANT=clusters()), caplog.at_level(logging.WARNING):
        router.db_for_read(Item)
        added = servers.add_replica()
        serve("replica1", "replica2", alias_of(added))
        stop(servers, database, *servers.replicas)
        wait_until(lambda: "cannot be followed" in caplog.text, SECONDS, "it is said")
        assert eligible()
    caplog.clear()
    for alias in databases:
        databases[alias]["PROBE"] = {"USER": APPLICATION, "PASSWORD": APPLICATION_PASSWORD}
    with use_databases(databases, REPLICANT=clusters()), caplog.at_level(logging.WARNING):
        router.db_for_read(Item)
        wait_until(lambda: "cannot be followed" in caplog.text, SECONDS, "it is said")
        assert eligible() == {"replica1", "replica2"}
        assert APPLICATION_PASSWORD not in caplog.text


@on_mysql
def test_a_connection_to_a_member_that_left_is_not_used_again(servers: Cluster, database: str, grown: Any):
    databases = {alias: {**each, "CONN_MAX_AGE": None} for alias, each in databases_of(servers, database).items()}
    with use_databases(databases, REPLICANT=clusters()):
        router.db_for_read(Item)
        added = servers.add_replica()
        servers.wait_until_caught_up()
        alias = alias_of(added)
        serve("replica1", "replica2", alias)
        servers.wait_until_caught_up()
        found = Item.objects.using(alias).get()
        session = connections[alias].connection
        connections[alias].close_if_unusable_or_obsolete()
        assert connections[alias].connection is session
        stop(servers, database, added)
        serve("replica1", "replica2")
        connections[alias].close_if_unusable_or_obsolete()
        assert connections[alias].connection is not session
        # What came from there is saved on the primary, and loaded again from somewhere.
        assert found._state.db == alias
        with request_scope():
            found.save()
            found.refresh_from_db()
        assert topology.is_known(alias)
        added.query("START REPLICA")
        serve("replica1", "replica2", alias)


@on_mysql
def test_a_site_that_lists_no_replica_finds_all_of_them(servers: Cluster, database: str, grown: Any):
    keys = clusters(REPLICAS=[], TOPOLOGY={**FOLLOWING, "TEMPLATE": "default"})
    with use_databases({"default": databases_of(servers, database)["default"]}, REPLICANT=keys):
        assert router.db_for_read(Item) == "default"
        found = [alias_of(node) for node in servers.replicas]
        serve(*found)
        assert router.db_for_read(Item) in found
        assert Item.objects.get().name == "first"


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_addresses_of_a_name_take_the_place_of_the_alias_that_has_it(servers: Cluster, database: str, grown: Any):
    databases = ours(servers.databases(database))
    del databases["replica2"]
    databases["replica1"]["HOST"] = "localhost"
    keys = clusters(REPLICAS=["replica1"], TOPOLOGY={"METHOD": "dns", "ALLOW": ["127.0.0.0/8"]})
    with use_databases(databases, REPLICANT=keys):
        router.db_for_read(Item)
        found = alias_of(servers.replicas[0])
        serve(found)
        assert router.db_for_read(Item) == found
        assert Item.objects.get().name == "first"


PROBING = """
import time
import django
django.setup()
from django.db import router
from replicant.monitor import cluster_monitor as monitor
from tests.app.models import Item
while not monitor.probing():
    router.db_for_read(Item)
    time.sleep(0.02)
print("probing", flush=True)
time.sleep(60)
"""


@on_mysql
def test_whoever_takes_over_from_a_prober_that_was_killed_goes_on_with_what_it_found(
    servers: Cluster, database: str, grown: Any
):
    databases = databases_of(servers, database)
    added = servers.add_replica()
    servers.wait_until_caught_up()
    environ = environment(databases, FAST, REPLICANT=clusters())
    with subprocess.Popen([sys.executable, "-c", PROBING], env=environ, stdout=subprocess.PIPE) as prober:
        assert prober.stdout is not None
        assert prober.stdout.readline() == b"probing\n"
        with use_databases(databases, REPLICANT=clusters()):
            router.db_for_read(Item)
            serve("replica1", "replica2", alias_of(added))
            assert cluster_monitor.probing() == []
            prober.kill()
            missed = []

            def has_looked() -> bool:
                missed.extend({alias_of(added)} - eligible())
                watch = cluster_monitor._watches[0]
                return watch.is_probing and watch._latest["default"].asked_at > killed_at + 5 * FAST * 1e9

            killed_at = time.monotonic_ns()
            wait_until(has_looked, SECONDS, "this process asks the servers")
            assert not missed


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_the_view_of_each_engine_is_followed(servers: Cluster, database: str, grown: Any):
    added = servers.add_replica()
    is_postgresql = servers.engine == "postgresql"
    identified = f"ROLE {VIEWER} LOGIN PASSWORD" if is_postgresql else f"USER {VIEWER} IDENTIFIED BY"
    servers.primary.query(f"CREATE {identified} '{VIEWER_PASSWORD}'")
    servers.primary.query(RIGHTS[servers.engine])
    servers.wait_until_caught_up()
    probe = {"USER": VIEWER, "PASSWORD": VIEWER_PASSWORD, "NAME": database if is_postgresql else ""}
    databases = {alias: {**each, "PROBE": probe} for alias, each in ours(servers.databases(database)).items()}
    del databases["replica2"], databases["replica3"]
    hosts = {node.name: f"{node.host}:{node.port}" for node in servers.replicas} if is_postgresql else {}
    following = {"METHOD": METHODS[servers.engine], "HOSTS": hosts, "ALLOW": ["127.0.0.1"]}
    try:
        with use_databases(databases, REPLICANT=clusters(REPLICAS=["replica1"], TOPOLOGY=following)):
            router.db_for_read(Item)
            serve("replica1", alias_of(servers.replicas[1]), alias_of(added))
            added.kill()
            serve("replica1", alias_of(servers.replicas[1]))
            cluster_monitor.stop()
    finally:
        servers.primary.query(f"DROP {'ROLE' if is_postgresql else 'USER'} {VIEWER}")
