"""What was written is found, and other reads leave the primary; on MySQL, MariaDB and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import DatabaseError, connections, transaction
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext

from replicant import ReplicaWriteError, request_scope, use_primary, use_replica
from replicant.tracing import Query, record_queries
from tests.app.models import Account, Item
from tests.core.paused import EXEMPT, pause
from tests.databases import HOWEVER_LATE
from tests.naive import NaiveRouter
from tests.servers import Cluster

#: How many pairs of a write and a read, of each kind. MySQL alone gets many.
PAIRS = {"mysql": 500, "mariadb": 100, "postgresql": 100}
NAIVE_PAIRS = 50


# Create, then read.


def in_atomic(number: int) -> bool:
    with transaction.atomic():
        item = Item.objects.create(name=f"atomic {number}")
        return Item.objects.filter(pk=item.pk).exists()


def under_select_for_update(number: int) -> bool:
    with transaction.atomic():
        item = Item.objects.create(name=f"locked {number}")
        return bool(Item.objects.select_for_update().filter(pk=item.pk))


def under_raw_for_update(number: int) -> bool:
    with transaction.atomic():
        item = Item.objects.create(name=f"raw {number}")
        return bool(list(Item.objects.raw("SELECT * FROM app_item WHERE id = %s FOR UPDATE", [item.pk])))


def in_a_request(number: int) -> bool:
    with request_scope():
        item = Item.objects.create(name=f"request {number}")
        return Item.objects.filter(pk=item.pk).exists()


def in_an_exempt_app(number: int) -> bool:
    account = Account.objects.create(owner=f"exempt {number}")
    return Account.objects.filter(pk=account.pk).exists()


KINDS = [in_atomic, under_select_for_update, under_raw_for_update, in_a_request, in_an_exempt_app]


def misses(pair: Callable[[int], bool], pairs: int) -> int:
    """How many of the pairs did not find their row; a read that was refused did not either."""
    lost = 0
    for number in range(pairs):
        try:
            lost += not pair(number)
        except DatabaseError:
            lost += 1
    return lost


def test_what_was_created_is_found_while_replication_stands_still(servers: Cluster):
    pause(servers)
    with override_settings(REPLICANT=EXEMPT), record_queries() as queries:
        lost = {pair.__name__: misses(pair, PAIRS[servers.engine]) for pair in KINDS}
        assert lost == dict.fromkeys(lost, 0)
        assert {query.alias for query in queries} == {"default"}
        # And it was not for want of a router: what nobody wrote is read from replicas.
        with use_replica(stale_ok=True):
            assert not Item.objects.filter(name__startswith="request").exists()
    with override_settings(REPLICANT={}, DATABASE_ROUTERS=[NaiveRouter()]):
        lost = {pair.__name__: misses(pair, NAIVE_PAIRS) for pair in KINDS}
    assert lost.pop("under_select_for_update") == 0
    assert lost == dict.fromkeys(lost, NAIVE_PAIRS)


def test_a_request_through_the_middleware_finds_what_it_wrote(servers: Cluster):
    pause(servers)
    before, after = Client().get("/write/").content.decode().splitlines()
    assert before.split()[0].startswith("replica")
    assert after == "default pinned"


# Reads leave the primary.


def selects(queries: list[Query], alias: str) -> int:
    return sum(query.alias == alias and query.sql.lstrip().upper().startswith("SELECT") for query in queries)


# By time: then nothing is asked of the servers but what the user asks.
@override_settings(REPLICANT={"default": {**HOWEVER_LATE["default"], "CONSISTENCY": "time", "PROBE_SECONDS": None}})
def test_statements_counted_at_the_cursor_agree_with_the_servers_own_counters(servers: Cluster):
    servers.wait_until_caught_up()
    aliases = ["default", "replica1", "replica2"]
    for alias in aliases:
        # Opening a connection asks the server some things of its own.
        connections[alias].ensure_connection()
        Item.objects.using(alias).count()
    # An earlier test may have promoted a server that is not the first one made.
    nodes = (servers.primary, *servers.replicas)
    before = {alias: node.statements() for alias, node in zip(aliases, nodes, strict=True)}
    with record_queries() as queries:
        for number in range(30):
            with request_scope():
                Item.objects.count()
                list(Item.objects.all()[:3])
                if number % 5 == 0:
                    Item.objects.create(name=f"counted {number}")
                    list(Item.objects.all()[:3])
                with transaction.atomic():
                    Item.objects.count()
    after = {alias: node.statements() for alias, node in zip(aliases, nodes, strict=True)}
    counted = {alias: selects(queries, alias) for alias in aliases}
    assert {alias: after[alias] - before[alias] for alias in aliases} == counted
    assert counted["default"] == 36
    assert counted["replica1"] + counted["replica2"] == 60
    assert min(counted.values()) > 0


def test_a_write_is_refused_by_a_replicas_session_even_where_the_server_would_take_it(servers: Cluster, database: str):
    # The alias of a replica in front of the primary: nothing but the session stands in the way.
    connections.settings["replica1"] = {**connections.settings["default"], "TEST": {"MIRROR": "default"}}
    connections["replica1"].settings_dict.update(connections.settings["replica1"])
    connections["replica1"].close()
    before = Item.objects.using("default").count()
    with pytest.raises(ReplicaWriteError, match="'replica1' is a replica"):
        Item.objects.using("replica1").create(name="x")
    with pytest.raises(ReplicaWriteError, match="'replica1' is a replica"), transaction.atomic(using="replica1"):
        Item.objects.using("replica1").update(name="x")
    with pytest.raises(ReplicaWriteError, match="'replica1' is a replica"), transaction.atomic("replica1"):
        list(Item.objects.db_manager("replica1").raw("SELECT * FROM app_item FOR UPDATE"))
    assert Item.objects.using("default").count() == before
    with override_settings(REPLICANT={}):
        Item.objects.using("replica1").create(name="x")
    assert Item.objects.using("default").count() == before + 1


def test_a_replicas_session_is_made_read_only_behind_the_users_query_log(servers: Cluster):
    question = (
        "SHOW default_transaction_read_only" if servers.engine == "postgresql" else "SELECT @@transaction_read_only"
    )
    if servers.engine == "mariadb":
        question = "SELECT @@tx_read_only"
    connections["replica1"].close()
    with CaptureQueriesContext(connections["replica1"]) as captured, connections["replica1"].cursor() as cursor:
        cursor.execute(question)
        assert cursor.fetchone()[0] in (1, "on")
    assert not [query for query in captured.captured_queries if "ONLY" in query["sql"]]
    with connections["default"].cursor() as cursor:
        cursor.execute(question)
        assert cursor.fetchone()[0] in (0, "off")


def test_iterators_and_server_side_cursors_read_from_the_replica(servers: Cluster):
    Item.objects.bulk_create([Item(name=f"many {number}") for number in range(50)])
    servers.wait_until_caught_up()
    with request_scope(), record_queries() as queries:
        assert sum(1 for _ in Item.objects.filter(name__startswith="many").iterator(chunk_size=10)) == 50
    assert {query.alias for query in queries} <= {"replica1", "replica2"}


def test_migrate_changes_nothing_on_replicas_and_reads_from_the_primary(servers: Cluster):
    from django.core.management import call_command

    pause(servers)
    with record_queries() as queries:
        call_command("migrate", verbosity=0)
        call_command("migrate", verbosity=0)
    assert {query.alias for query in queries} == {"default"}


def test_use_primary_reads_what_replicas_lack(servers: Cluster):
    pause(servers)
    with request_scope():
        item = Item.objects.create(name="fresh")
    with request_scope():
        assert not Item.objects.filter(pk=item.pk).exists()
        with use_primary():
            assert Item.objects.filter(pk=item.pk).exists()
