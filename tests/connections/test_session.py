"""Session guarantees by replication position, from outside, on real servers whose replicas stand still or are late.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth.models import User
from django.core.cache import caches
from django.db import connection, connections, router, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

import replicant
from replicant import _core, explain, request_scope, tokens, use_primary, use_replica
from replicant._core import Position
from replicant.connections.causality import Causality
from replicant.monitor import cluster_monitor
from replicant.tracing import record_queries
from tests.app.models import Account, Item, Piece, Tag
from tests.databases import migrate, ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

#: Seconds: short, so that what depends on a look at the servers comes soon.
PROBE_SECONDS = 0.05
#: Seconds that anything may take.
AMPLE = 15.0
BOTH = {"replica1", "replica2"}


def settings(**keys: Any) -> dict[str, Any]:
    return watching(keys.pop("PROBE_SECONDS", PROBE_SECONDS), **{"WAIT_SECONDS": 0, **keys})


def using(**keys: Any) -> Any:
    """Other keys of the cluster, for a block or a test."""
    return override_settings(REPLICANT=settings(**keys))


def weights(**replicas: float) -> Any:
    """Other weights of the replicas; 0 keeps reads away."""
    return override_settings(REPLICANT={"default": {**settings()["default"], "REPLICAS": replicas}})


@contextmanager
def out_of_service(alias: str) -> Iterator[None]:
    """Keep reads away from a replica that is a member all the time: one that joins waits for its floor first."""
    _core.set_state(alias, "down")
    try:
        yield
    finally:
        _core.set_state(alias, "up")


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The cluster, with Django on it. Afterwards it replicates again."""
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings()):
        yield cluster
        cluster_monitor.stop()
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


@pytest.fixture
def paused(shop: Cluster) -> Cluster:
    """Both replicas have everything so far, and will not have what comes."""
    shop.wait_until_caught_up()
    pause(shop)
    return shop


def pause(shop: Cluster) -> None:
    for replica in shop.replicas:
        replica.pause_replication()


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), AMPLE, what)


def catch_up(shop: Cluster, *replicas: Node) -> None:
    """Let replicas (both, if none is named) move again, until they have all there is."""
    position = shop.primary.position()
    for replica in replicas or shop.replicas:
        replica.resume_replication()
        assert replica.reached(position, AMPLE)


def write() -> Any:
    """The number of a new row."""
    return Item.objects.create(name="written").pk


def reason() -> str | None:
    return explain(Item).reason


def read(pk: Any = None) -> tuple[str, bool]:
    """Read, by way of the router: from where, and whether the row was there."""
    with record_queries() as queries:
        found = Item.objects.filter(pk=pk).exists()
    return queries[-1].alias, found


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call it as somebody else, who has neither written nor read anything."""
    return contextvars.Context().run(function)


def looked() -> None:
    """Wait until the monitor has looked at every member since now, and told of it."""
    elsewhere(lambda: router.db_for_read(Item))
    for _ in range(2):
        now = time.monotonic_ns()
        until(
            lambda now=now: (
                len(cluster_monitor.latest()) >= 3
                and all(one.asked_at > now for one in cluster_monitor.latest().values())
            ),
            "the monitor has looked",
        )


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """How many seconds the block took."""
    start = time.monotonic()
    seconds = 0.0
    yield lambda: seconds
    seconds = time.monotonic() - start


# A write pins until a replica has it.


def test_after_a_write_reads_go_to_exactly_the_replica_that_has_it(paused: Cluster):
    with request_scope():
        looked()
        first = write()
        assert read(first) == ("default", True)
        looked()
        assert [read(first) for _ in range(5)] == [("default", True)] * 5
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert {read(first) for _ in range(20)} == {("replica2", True)}
        # And again with the next write.
        paused.replicas[1].pause_replication()
        second = write()
        assert read(second) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        assert {read(second) for _ in range(20)} == {("replica1", True)}


@using(STICKY=False, WAIT_SECONDS=0)
def test_one_that_has_caught_up_lets_nobody_read_from_the_other(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        looked()
        assert {read(pk) for _ in range(40)} == {("replica1", True)}
        assert {use_replica("replica2")(read)(pk) for _ in range(3)} == {("replica1", True)}
        catch_up(paused)
        looked()
        assert {read(pk) for _ in range(40)} == {("replica1", True), ("replica2", True)}


def test_a_replica_asked_for_by_name_that_lacks_the_position_moves_nobody(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        # And of the other one it is known that it lacks it: otherwise it is asked, once.
        looked()
        with use_replica("replica1"):
            assert read(pk) == ("replica2", True)
            for _ in range(5):
                # Sticky, and not pinned: nobody is to be asked first.
                assert explain(Item)[:2] == ("replica2", "sticky")
                assert read(pk) == ("replica2", True)
        catch_up(paused)
        until(lambda: use_replica("replica1")(read)(pk) == ("replica1", True), "replica1 is known to have it")


def test_who_is_eligible_is_told(paused: Cluster):
    with request_scope():
        looked()
        assert set(explain(Item).eligible) == BOTH
        pk = write()
        assert explain(Item).eligible == ()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert explain(Item).eligible == ("replica2",)
        with use_replica(stale_ok=True):
            assert set(explain(Item).eligible) == BOTH


def test_the_record_ends_when_every_replica_that_reads_may_go_to_has_it(paused: Cluster):
    with weights(replica1=0, replica2=1), request_scope():
        looked()
        write()
        assert replicant.token()
        catch_up(paused, paused.replicas[1])
        until(lambda: replicant.token() == "", "nothing is left to be seen")
    pause(paused)
    with request_scope():
        looked()
        write()
        catch_up(paused, paused.replicas[1])
        looked()
        assert replicant.token()
        catch_up(paused)
        until(lambda: replicant.token() == "", "nothing is left to be seen")


def test_a_thread_without_a_scope_is_held_to_what_it_wrote(paused: Cluster):
    pk = write()
    assert read(pk) == ("default", True)
    assert elsewhere(read)[0] in BOTH
    with use_replica("replica1"):
        assert read(pk) == ("default", True)
    catch_up(paused, paused.replicas[0])
    until(lambda: reason() != "pinned", "replica1 is known to have it")
    assert {read(pk) for _ in range(10)} == {("replica1", True)}


def test_a_scope_that_leaves_its_replica_forgets_no_write(paused: Cluster):
    """With no request open a scope remembers where it reads, and the thread what it wrote."""
    looked()
    with use_replica():
        read()
        pk = write()
        assert [read(pk) for _ in range(5)] == [("default", True)] * 5
        looked()
        assert [read(pk) for _ in range(5)] == [("default", True)] * 5
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert {read(pk) for _ in range(20)} == {("replica2", True)}


# Waiting.


def soon(action: Callable[[], Any], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer


@using(WAIT_SECONDS=AMPLE)
def test_a_read_waits_for_the_replica_it_would_go_to(paused: Cluster):
    with request_scope():
        read()
        pk = write()
        resumed = soon(lambda: catch_up(paused))
        with timed() as seconds:
            alias, found = read(pk)
        resumed.join()
        assert (alias in BOTH, found) == (True, True)
        assert 0.2 < seconds() < AMPLE


@using(WAIT_SECONDS=0.4)
def test_a_read_waits_no_longer_and_only_once_for_each_write(paused: Cluster):
    with request_scope():
        for _ in range(2):
            # Replicas that have stood still for longer than a read waits are not waited for.
            catch_up(paused)
            looked()
            pause(paused)
            looked()
            pk = write()
            with timed() as seconds:
                assert read(pk) == ("default", True)
            assert 0.35 < seconds() < 1.5
            with timed() as seconds:
                assert [read(pk) for _ in range(10)] == [("default", True)] * 10
            assert seconds() < 0.35


@using(WAIT_SECONDS=0.6)
def test_what_was_waited_is_counted_together_until_the_next_write(paused: Cluster):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = write()
        resumed = soon(lambda: catch_up(paused, one), 0.4)
        with timed() as seconds:
            alias, found = read(pk)
        resumed.join()
        # It waited for one of the two; if that was the other one, until the end.
        assert found
        if alias == "default":
            assert 0.5 < seconds() < 1.7
        else:
            assert alias == "replica1"
            with transaction.atomic(using="replica1"):
                # This one is of no use now, and for the other there is only the rest of the time.
                Item.objects.using("replica1").exists()
                with timed() as seconds:
                    assert read(pk) == ("default", True)
                assert seconds() < 0.5


@using(WAIT_SECONDS=0)
def test_with_no_time_to_wait_nobody_waits(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        with timed() as seconds:
            assert [read(pk) for _ in range(10)] == [("default", True)] * 10
        assert seconds() < 1


@using(WAIT_SECONDS=AMPLE)
def test_a_thread_that_runs_an_event_loop_waits_for_nobody(paused: Cluster):
    async def main() -> None:
        async with request_scope():
            await Item.objects.acreate(name="written")
            # The router itself is asked on the loop's thread by whatever builds a query there.
            with timed() as seconds:
                assert router.db_for_read(Item) == "default"
            assert seconds() < 1
            assert reason() == "pinned"

    asyncio.run(main())


@using(WAIT_SECONDS=AMPLE)
def test_to_explain_waits_for_nobody(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        with timed() as seconds:
            assert reason() == "pinned"
        assert seconds() < 1
        # And took nothing from what a read may wait.
        resumed = soon(lambda: catch_up(paused))
        assert read(pk)[0] in BOTH
        resumed.join()


@using(WAIT_SECONDS=AMPLE)
def test_nobody_waits_where_the_read_stays_on_the_primary_anyway(paused: Cluster):
    with request_scope():
        looked()
        item = Item.objects.create(name="written")
        with timed() as seconds, use_primary():
            assert read(item.pk) == ("default", True)
        with transaction.atomic():
            assert read(item.pk) == ("default", True)
        # Loaded from the primary: what it hangs on is read from there.
        assert list(Item.objects.using("default").get(pk=item.pk).pieces.all()) == []
        assert seconds() < 1


# An open snapshot stays as old as it is.


@using(WAIT_SECONDS=0.3)
@pytest.mark.parametrize("alias", ["replica1", "replica2"])
def test_a_replica_is_of_no_use_while_a_transaction_is_open_there(paused: Cluster, alias: str):
    replica = paused.replicas[int(alias[-1]) - 1]
    with request_scope():
        looked()
        with transaction.atomic(using=alias):
            Item.objects.using(alias).count()
            pk = write()
            catch_up(paused, replica)
            looked()
            with use_replica(alias):
                assert [read(pk) for _ in range(3)] == [("default", True)] * 3
            assert read(pk) == ("default", True)
        until(lambda: reason() != "pinned", "the transaction is over")
        assert read(pk) == (alias, True)


def test_a_transaction_there_counts_that_was_begun_by_a_statement(paused: Cluster):
    replica = paused.replicas[0]
    with request_scope(), connections["replica1"].cursor() as cursor:
        looked()
        cursor.execute("BEGIN")
        cursor.execute("SELECT COUNT(*) FROM app_item")
        pk = write()
        catch_up(paused, replica)
        looked()
        with use_replica("replica1"):
            assert read(pk) == ("default", True)
        cursor.execute("ROLLBACK")
        until(lambda: reason() != "pinned", "the transaction is over")
        assert read(pk) == ("replica1", True)


def test_a_transaction_on_a_replica_is_no_obstacle_to_who_wrote_nothing(shop: Cluster):
    with request_scope(), transaction.atomic(using="replica1"), use_replica("replica1"):
        assert read()[0] == "replica1"


# Setting positions aside.


def test_stale_rows_may_be_asked_for(paused: Cluster):
    with request_scope():
        pk = write()
        with use_replica(stale_ok=True):
            alias, found = read(pk)
            assert (alias in BOTH, found) == (True, False)
            with transaction.atomic():
                assert read(pk) == ("default", True)
        with use_replica():
            assert read(pk) == ("default", True)
        assert read(pk) == ("default", True)


@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_read_stale_takes_nothing_back_from_what_was_seen(paused: Cluster, at_once: bool):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with out_of_service("replica2"):
            assert read(pk) == ("replica1", True)
        with out_of_service("replica1"):
            assert read(pk) == ("default", True)
            with use_replica(stale_ok=True):
                assert read(pk) == ("replica2", False)
            assert read(pk) == ("default", True)
            looked()
            assert read(pk) == ("default", True)


# What is no write.


def roll_back() -> None:
    with transaction.atomic():
        write()
        transaction.set_rollback(True)


def roll_back_to_a_savepoint() -> None:
    with transaction.atomic():
        roll_back()


def commit_what_only_read() -> None:
    with transaction.atomic():
        Item.objects.count()


def assign() -> None:
    Piece(item=Item(pk=1))


@pytest.mark.parametrize(
    "nothing",
    [
        roll_back,
        commit_what_only_read,
        assign,
        pytest.param(roll_back_to_a_savepoint, id="savepoint"),
    ],
)
def test_what_changed_nothing_is_no_write(paused: Cluster, nothing: Callable[[], None], request):
    with request_scope():
        looked()
        connection.ensure_connection()
        nothing()
        if nothing is roll_back_to_a_savepoint and reason() == "pinned":
            # Counting too much is allowed where the server is not asked.
            pytest.skip("counted where the driver reports nothing")
        assert reason() == "balanced"
        assert replicant.token() == ""


# What is one.


def nested() -> Any:
    with transaction.atomic():
        with transaction.atomic():
            pk = write()
        roll_back_to_a_savepoint()
        assert read(pk) == ("default", True)
    return pk


def bulk() -> Any:
    Item.objects.bulk_create([Item(name="one"), Item(name="two")])
    return Item.objects.using("default").latest("pk").pk


def by_cursor() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO app_item (name) VALUES ('x')")
    return Item.objects.using("default").latest("pk").pk


def by_executemany() -> Any:
    with connection.cursor() as cursor:
        cursor.executemany("INSERT INTO app_item (name) VALUES (%s)", [["x"], ["y"]])
    return Item.objects.using("default").latest("pk").pk


def by_raw() -> Any:
    if connection.vendor == "mysql" and not connection.mysql_is_mariadb:
        return by_cursor()
    return Item.objects.using("default").raw("INSERT INTO app_item (name) VALUES ('x') RETURNING id")[0].pk


def by_text() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("INSERT INTO app_item (name) VALUES ('x')")
        cursor.execute("COMMIT")
    return Item.objects.using("default").latest("pk").pk


def without_autocommit() -> Any:
    transaction.set_autocommit(False)
    try:
        pk = write()
        transaction.commit()
    finally:
        transaction.set_autocommit(True)
    return pk


def several_in_a_row() -> Any:
    for _ in range(3):
        pk = write()
    return pk


WAYS = [write, nested, bulk, by_cursor, by_executemany, by_raw, by_text, without_autocommit, several_in_a_row]


@pytest.mark.parametrize("reconnects", [False, True], ids=["", "reconnects"])
@pytest.mark.parametrize("way", WAYS)
def test_every_write_is_waited_for(paused: Cluster, way: Callable[[], Any], reconnects: bool):
    with request_scope():
        looked()
        pk = way()
        if reconnects:
            connections["default"].close()
        assert [read(pk) for _ in range(3)] == [("default", True)] * 3
        looked()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert {read(pk) for _ in range(5)} == {("replica2", True)}


@pytest.fixture
def procedure(cluster: Cluster, database: str) -> Iterator[None]:
    if cluster.engine == "postgresql":
        kind, body = "FUNCTION", "RETURNS void LANGUAGE sql AS $$ INSERT INTO app_item (name) VALUES ('x') $$"
    else:
        kind, body = "PROCEDURE", "BEGIN INSERT INTO app_item (name) VALUES ('x'); END"
    cluster.primary.query(f"CREATE {kind} add_item() {body}", database)
    yield
    cluster.primary.query(f"DROP {kind} add_item", database)


@pytest.mark.usefixtures("procedure")
def test_a_procedures_write_is_waited_for(paused: Cluster):
    catch_up(paused)
    pause(paused)
    with request_scope():
        looked()
        with connection.cursor() as cursor:
            cursor.callproc("add_item")
        connections["default"].close()
        pk = Item.objects.using("default").latest("pk").pk
        assert read(pk) == ("default", True)
        looked()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        assert read(pk) == ("replica1", True)


def test_what_runs_on_commit_sees_what_was_committed(paused: Cluster):
    seen = []
    with request_scope():
        looked()
        with transaction.atomic():
            pk = write()
            transaction.on_commit(lambda: seen.append(read(pk)))
        assert seen == [("default", True)]


# Who remembers.


def test_a_write_in_a_thread_that_is_awaited_pins_the_request(paused: Cluster):
    def write_and_close() -> Any:
        pk = write()
        connections.close_all()
        return pk

    def read_and_close(pk: Any) -> tuple[str, bool]:
        seen = read(pk)
        connections.close_all()
        return seen

    async def main() -> None:
        for run in (asyncio.to_thread, lambda function, *arguments: sync_to_async(function)(*arguments)):
            async with request_scope():
                pk = await run(write_and_close)
                assert await run(read_and_close, pk) == ("default", True)
                await asyncio.to_thread(looked)
                assert await asyncio.to_thread(read_and_close, pk) == ("default", True)
                assert await sync_to_async(read_and_close)(pk) == ("default", True)

    asyncio.run(main())


def test_with_no_scope_open_a_write_in_another_thread_is_that_threads_own(paused: Cluster):
    async def main() -> None:
        await asyncio.to_thread(lambda: (write(), connections.close_all()))
        assert await asyncio.to_thread(lambda: (reason(), connections.close_all())[0]) == "balanced"

    asyncio.run(main())


def test_a_request_leaves_nothing_behind(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
    assert reason() == "balanced"
    with request_scope():
        assert read(pk)[0] in BOTH


def test_a_write_counts_for_who_made_it_and_for_who_commits_it(paused: Cluster):
    with request_scope():
        looked()
        with transaction.atomic(), request_scope():
            write()
        assert reason() == "pinned"


def test_a_write_to_one_cluster_pins_nobody_in_the_other(paused: Cluster, database: str):
    catch_up(paused)
    paused.create_database(f"{database}_other")
    databases = dict(connections.settings)
    for alias, other in (("default", "other"), ("replica1", "other1"), ("replica2", "other2")):
        mirror = {} if alias == "default" else {"MIRROR": "other"}
        databases[other] = {**connections.settings[alias], "NAME": f"{database}_other", "TEST": mirror}
    clusters = {
        **settings(),
        "other": {**settings()["default"], "REPLICAS": ["other1", "other2"], "MODELS": ["app.Account"]},
    }
    with use_databases(databases, REPLICANT=clusters):
        migrate("other")
        catch_up(paused)
        pause(paused)
        elsewhere(lambda: router.db_for_read(Item))
        with request_scope():
            write()
            assert (explain(Item).reason, explain(Account).reason) == ("pinned", "balanced")
        with request_scope():
            account = Account.objects.create(owner="one")
            assert (explain(Item).reason, explain(Account).reason) == ("balanced", "pinned")
            token = replicant.token()
        with replicant.after(token):
            assert (explain(Item).reason, explain(Account).reason) == ("balanced", "pinned")
            catch_up(paused, paused.replicas[1])
            until(lambda: explain(Account).reason != "pinned", "other2 is known to have it")
            assert Account.objects.get(pk=account.pk)._state.db == "other2"
    catch_up(paused)
    for alias in ("other", "other1", "other2"):
        with use_databases(databases, REPLICANT={}):
            connections[alias].close()


# What was read.


def test_who_loses_their_replica_reads_no_older_state_elsewhere(paused: Cluster):
    one, other = paused.replicas
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with weights(replica1=1, replica2=0):
            assert read(pk) == ("replica1", True)
        with weights(replica1=0, replica2=1):
            assert read(pk) == ("default", True)
            looked()
            assert read(pk) == ("default", True)
            catch_up(paused, other)
            until(lambda: reason() != "pinned", "replica2 is known to have it")
            assert read(pk) == ("replica2", True)


def test_the_member_last_read_is_stayed_with(shop: Cluster):
    looked()
    for _ in range(10):
        with request_scope():
            alias = read()[0]
            token = replicant.token()
        for _ in range(3):
            with replicant.after(token):
                assert read()[0] == alias
                token = replicant.token()


def test_a_replica_asked_for_by_name_is_no_way_back(paused: Cluster):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with out_of_service("replica2"):
            assert read(pk) == ("replica1", True)
        # It reads from replica1, which has more than the other one.
        assert use_replica("replica2")(read)(pk)[1]
        assert read(pk)[1]
    with request_scope():
        with out_of_service("replica1"):
            assert read(pk) == ("replica2", False)
        assert use_replica("replica1")(read)(pk) == ("replica1", True)
        # And it has seen that now.
        assert read(pk)[1]
        assert read(pk)[1]


def test_replicas_that_have_the_same_serve_by_name_and_by_turns(shop: Cluster):
    shop.wait_until_caught_up()
    looked()
    with request_scope():
        alias = read()[0]
        for name in ("replica1", "replica2", "replica1"):
            assert use_replica(name)(read)()[0] == name
        assert read()[0] == alias


def test_who_comes_with_two_tokens_has_seen_what_both_have(paused: Cluster):
    one = paused.replicas[0]

    def reader(alias: str, pk: Any = None) -> tuple[tuple[str, bool], str]:
        with request_scope(), use_replica(alias):
            return read(pk), replicant.token()

    looked()
    pk = elsewhere(write)
    catch_up(paused, one)
    (_, found), fresh = elsewhere(lambda: reader("replica1", pk))
    assert found
    _, stale = elsewhere(lambda: reader("replica2"))
    for first, second in ((fresh, stale), (stale, fresh)):
        with request_scope(), replicant.after(first), replicant.after(second):
            moved_on = replicant.token()
            assert read(pk)[1]
        # Also if it was only passed on.
        with replicant.after(moved_on):
            assert read(pk)[1]


# Across requests.


def add(request: HttpRequest) -> HttpResponse:
    return JsonResponse({"pk": write()})


def shelf(request: HttpRequest, pk: int) -> HttpResponse:
    alias, found = read(pk)
    return JsonResponse({"alias": alias, "found": found})


urlpatterns = [path("add/", add), path("shelf/<int:pk>/", shelf)]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}
SESSIONS = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "replicant.middleware.ReplicaMiddleware",
]


class Visitor:
    """A client with cookies, that sends the header it was sent."""

    def __init__(self) -> None:
        self.client = Client()
        self.headers: dict[str, str] = {}

    def _get(self, url: str) -> Any:
        response = self.client.get(url, headers=self.headers)
        if "Replicant-Token" in response.headers:
            self.headers = {"Replicant-Token": response.headers["Replicant-Token"]}
        return response.json()

    def add(self) -> int:
        return self._get("/add/")["pk"]

    def shelf(self, pk: int) -> tuple[str, bool]:
        answer = self._get(f"/shelf/{pk}/")
        return answer["alias"], answer["found"]


@contextmanager
def web(**more: Any) -> Iterator[None]:
    with override_settings(ROOT_URLCONF=__name__, CACHES=CACHES, ALLOWED_HOSTS=["testserver"], **more):
        yield
        caches["default"].clear()


@pytest.mark.parametrize("store", ["cookie", "header", "cache"])
def test_the_next_page_shows_what_the_last_one_wrote(shop: Cluster, store: str):
    with web(REPLICANT_TOKEN={"STORE": store}, MIDDLEWARE=SESSIONS):
        somebody, other = Visitor(), Visitor()
        if store == "cache":
            for name, visitor in (("one", somebody), ("other", other)):
                user, _ = elsewhere(lambda name=name: User.objects.get_or_create(username=f"{name}{time.time_ns()}"))
                elsewhere(lambda user=user, visitor=visitor: visitor.client.force_login(user))
        shop.wait_until_caught_up()
        pause(shop)
        looked()
        pk = somebody.add()
        for _ in range(3):
            assert somebody.shelf(pk) == ("default", True)
            alias, found = other.shelf(pk)
            assert (alias in BOTH, found) == (True, False)
        catch_up(shop, shop.replicas[1])
        seen = []
        until(lambda: seen.append(somebody.shelf(pk)) or seen[-1][0] != "default", "replica2 serves it")
        assert all(found for _, found in seen)
        assert {somebody.shelf(pk) for _ in range(10)} == {("replica2", True)}


def test_with_two_devices_the_other_one_shows_it_too(shop: Cluster):
    with web(REPLICANT_TOKEN={"STORE": "cache"}, MIDDLEWARE=SESSIONS):
        user, _ = elsewhere(lambda: User.objects.get_or_create(username=f"two{time.time_ns()}"))
        one, other = Visitor(), Visitor()
        elsewhere(lambda: [visitor.client.force_login(user) for visitor in (one, other)])
        shop.wait_until_caught_up()
        pause(shop)
        pk = one.add()
        assert other.shelf(pk) == ("default", True)


def test_a_token_handed_over_is_enough(paused: Cluster):
    def sender() -> tuple[Any, str]:
        with request_scope():
            return write(), replicant.token()

    pk, token = elsewhere(sender)
    looked()
    with replicant.after(token):
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        assert read(pk) == ("replica1", True)
    with using(WAIT_SECONDS=AMPLE), replicant.after(token):
        assert read(pk) == ("replica1", True)


@using(PIN_SECONDS=0.5)
def test_a_token_of_a_write_not_yet_published_reads_from_the_primary(paused: Cluster):
    with request_scope():
        looked()
        with transaction.atomic():
            write()
            token = replicant.token()
    with replicant.after(token):
        assert reason() == "pinned"


def never_written(primary: Node) -> dict[str, Position]:
    """Positions that this primary will not have: of a history that went on after the backup it was restored from, and
    of a server that is none of its sources."""
    text = primary.position()
    if primary.__class__.__name__.startswith("MySQL"):
        uuid = text.partition(":")[0]
        texts = [f"{uuid}:1-1000000", "11111111-2222-3333-4444-555555555555:1-5"]
        kind = "mysql"
    elif primary.__class__.__name__.startswith("Maria"):
        texts, kind = ["0-1-100000000", "77-88-5"], "mariadb"
    else:
        texts, kind = ["1:FFFF/0", "9:0/1"], "postgresql"
    return {"ahead": Position(kind, texts[0]), "unknown": Position(kind, texts[1])}


def forged(position: Position) -> str:
    return tokens.encode([Causality("default", position, None, False, None, None)])


@using(PIN_SECONDS=0.5)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_a_token_that_nobody_can_ever_have_pins_by_time(shop: Cluster, which: str):
    looked()
    with replicant.after(forged(never_written(shop.primary)[which])):
        assert reason() == "pinned"
        with timed() as seconds:
            until(lambda: reason() != "pinned", "it has come to its end")
        assert 0.2 < seconds() < 3
        # And is gone from what is handed on.
        until(lambda: replicant.token() == "" or read()[0] in BOTH, "nothing is left")


@using(PIN_SECONDS=0.5, PROBE_SECONDS=0.3)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_such_a_token_ends_too_where_requests_are_short(shop: Cluster, which: str):
    with web():
        visitor = Visitor()
        elsewhere(lambda: router.db_for_read(Item))
        looked()
        visitor.client.cookies["replicant_token"] = forged(never_written(shop.primary)[which])
        assert visitor.shelf(0)[0] == "default"
        with timed() as seconds:
            until(lambda: visitor.shelf(0)[0] != "default", "it has come to its end")
        assert seconds() < 5


# Nobody looks at the servers from time to time.


@using(PROBE_SECONDS=None, WAIT_SECONDS=AMPLE)
def test_without_a_probe_the_replica_is_asked_when_it_matters(paused: Cluster):
    with request_scope():
        read()
        pk = write()
        resumed = soon(lambda: catch_up(paused))
        alias, found = read(pk)
        resumed.join()
        assert (alias in BOTH, found) == (True, True)
        assert {read(pk) for _ in range(5)} == {(alias, True)}
    assert cluster_monitor.latest() == {}


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.1)
def test_without_a_probe_a_miss_is_not_for_ever(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused)
        until(lambda: read(pk)[0] != "default", "a replica has it")


@using(PROBE_SECONDS=None, WAIT_SECONDS=0)
def test_without_a_probe_and_without_waiting_replicas_are_asked_all_the_same(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused)
        until(lambda: read(pk)[0] != "default", "a replica has it")


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.1)
def test_without_a_probe_what_was_read_is_not_lost(paused: Cluster):
    one = paused.replicas[0]
    cluster = settings(PROBE_SECONDS=None, WAIT_SECONDS=0.1)["default"]
    with request_scope():
        pk = elsewhere(write)
        catch_up(paused, one)
        with override_settings(REPLICANT={"default": {**cluster, "REPLICAS": {"replica1": 1, "replica2": 0}}}):
            assert read(pk) == ("replica1", True)
        # A session that never wrote anything: what it has published says nothing of what others have.
        connections["default"].close()
        with override_settings(REPLICANT={"default": {**cluster, "REPLICAS": {"replica1": 0, "replica2": 1}}}):
            assert read(pk) == ("default", True)
            assert read(pk) == ("default", True)


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.05, PIN_SECONDS=0.5)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_without_a_probe_a_token_that_nobody_can_have_ends_too(shop: Cluster, which: str):
    token = forged(never_written(shop.primary)[which])
    with replicant.after(token):
        assert read()[0] == "default"
        until(lambda: read()[0] != "default", "it has come to its end")


# Settings, transactions, forks.


def test_other_settings_leave_scopes_and_records_as_they_are(paused: Cluster):
    with request_scope():
        looked()
        alias = read()[0]
        with using(MAX_LAG=None):
            assert read()[0] == alias
            pk = write()
        assert read(pk) == ("default", True)
        with using(PIN_SECONDS=1):
            assert read(pk) == ("default", True)
            catch_up(paused)
            until(lambda: reason() != "pinned", "a replica has it")
            assert (read(pk)[0] in BOTH, read(pk)[1]) == (True, True)


def test_a_request_in_one_transaction_reads_from_the_primary_and_the_next_sees_it(paused: Cluster):
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    with web():
        visitor = Visitor()
        pk = visitor.add()
        assert visitor.shelf(pk) == ("default", True)
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False
        looked()
        assert visitor.shelf(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: visitor.shelf(pk)[0] == "replica1", "replica1 serves it")


def test_a_worker_that_was_forked_keeps_the_promise(paused: Cluster):
    looked()
    connections.close_all()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with request_scope():
                looked()
                pk = write()
                seen = [read(pk) for _ in range(3)]
                catch_up(paused, paused.replicas[1])
                until(lambda: reason() != "pinned", "replica2 is known to have it")
                seen += [read(pk) for _ in range(3)]
                os.write(writer, repr(seen).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    answer = os.read(reader, 10_000).decode()
    os.close(reader)
    os.close(writer)
    assert answer == repr([("default", True)] * 3 + [("replica2", True)] * 3)
    # And the parent goes on as before.
    with request_scope():
        pk = write()
        assert read(pk)[1]


# All of it together.


@pytest.mark.parametrize("wait", [0, 0.05])
def test_pages_are_true_while_replicas_lag(shop: Cluster, wait: float):
    """Users on one row each, replicas that stop and go: nobody misses what they wrote on the page before."""
    with using(WAIT_SECONDS=wait), web():
        looked()
        visitors = [Visitor() for _ in range(4)]
        served: dict[str, int] = {}
        for turn in range(12):
            replica = shop.replicas[turn % 2]
            replica.pause_replication() if turn % 4 < 2 else replica.resume_replication()
            for visitor in visitors:
                pk = visitor.add()
                for _ in range(4):
                    alias, found = visitor.shelf(pk)
                    served[alias] = served.get(alias, 0) + 1
                    assert found, (alias, turn)
        assert set(served) <= {"default", *BOTH}


def test_tags_and_pieces_of_a_fresh_row_are_found(paused: Cluster):
    with request_scope():
        item = Item.objects.create(name="with more")
        item.tags.add(Tag.objects.create(name="t"))
        Piece.objects.create(item=item, name="p")
        assert [tag.name for tag in Item.objects.get(pk=item.pk).tags.all()] == ["t"]
        assert Item.objects.prefetch_related("pieces").get(pk=item.pk).pieces.all()[0].name == "p"
