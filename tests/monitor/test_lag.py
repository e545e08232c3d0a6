"""Replicas that are behind: the same tests with ``lag()`` and no replica at all, and on servers that are truly late."""

from __future__ import annotations

import contextvars
import sqlite3
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import DatabaseError, connections
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path

import replicant
from replicant import request_scope, use_primary, use_replica
from replicant.monitor import cluster_monitor
from replicant.testing import assert_reads, count_queries, lag, use_real_lag
from replicant.testing.lagging import _histories
from replicant.testing.snapshots import _copy
from tests.app.models import Item
from tests.databases import use_databases
from tests.monitoring import watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

#: Seconds that anything may take.
AMPLE = 15.0
SETTINGS = watching(0.05, WAIT_SECONDS=0, PIN_SECONDS=0.5)


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), AMPLE, what)


def name() -> str:
    return Item.objects.get().name


def reads_from() -> str | None:
    """Where a read goes. Explaining would not do: it never asks a server."""
    with count_queries() as sent:
        name()
    return sent.queries[-1].alias


def rename(to: str) -> None:
    item = Item.objects.using("default").get()
    item.name = to
    item.save()


def lags() -> dict[str, float | None]:
    members = replicant.status()["clusters"]["default"]["members"]
    return {member["alias"]: member["lag"] for member in members}


def naive_view(request: HttpRequest) -> HttpResponse:
    """Saves and reads again, and thinks nothing of it."""
    rename(request.GET["name"])
    with use_replica(stale_ok=True):
        return HttpResponse(name())


@use_replica
def consistent_view(request: HttpRequest) -> HttpResponse:
    rename(request.GET["name"])
    return HttpResponse(name())


def show(request: HttpRequest) -> HttpResponse:
    return HttpResponse(name())


urlpatterns = [path("naive/", naive_view), path("consistent/", consistent_view), path("show/", show)]


class Late:
    """What holds under any lag. A subclass says what it runs on, in its fixture ``shop``: one item, named "old"."""

    @pytest.fixture
    def shop(self) -> None:
        raise NotImplementedError

    @pytest.fixture(autouse=True)
    def urls(self, shop: None) -> Iterator[None]:
        with override_settings(ROOT_URLCONF=__name__):
            yield

    def test_a_view_that_reads_its_write_from_a_replica_shows_the_old_row(self) -> None:
        with lag(commits=1):
            assert Client().post("/naive/?name=new").content == b"old"

    def test_a_consistent_view_shows_its_own_write(self) -> None:
        with lag(commits=1), assert_reads("default"):
            assert Client().post("/consistent/?name=new").content == b"new"

    def test_who_names_a_replica_reads_what_it_has(self) -> None:
        with lag(commits=1):
            rename("new")
            assert Item.objects.using("replica1").get().name == "old"
            assert Item.objects.using("default").get().name == "new"

    def test_a_client_sees_what_it_wrote_and_others_do_not_yet(self) -> None:
        writer, other = Client(), Client()
        with lag(commits=1):
            writer.post("/consistent/?name=new")
            with assert_reads("default"):
                assert writer.get("/show/").content == b"new"
            with assert_reads("replica"):
                assert other.get("/show/").content == b"old"

    def test_who_wrote_is_pinned_and_who_did_not_is_not(self) -> None:
        with lag(commits=1):
            with request_scope():
                rename("new")
                assert reads_from() == "default"
            with request_scope():
                assert reads_from() in ("replica1", "replica2")

    def test_the_status_shows_how_late_the_replicas_are(self) -> None:
        with lag():
            rename("new")
            # The monitor begins with the first read.
            reads_from()
            until(lambda: all((lags()[alias] or 0) > 0.2 for alias in ("replica1", "replica2")), "both are late")
            assert lags()["default"] == 0

    def test_a_write_arrives_when_its_time_has_come(self) -> None:
        with lag(seconds=1), request_scope():
            rename("new")
            assert reads_from() == "default"
            with use_replica(stale_ok=True):
                assert name() == "old"
            until(lambda: reads_from() != "default", "a replica has the write")
            with assert_reads("replica"):
                assert name() == "new"

    def test_at_the_end_the_replicas_have_everything(self) -> None:
        with request_scope():
            with lag(commits=1):
                rename("new")
            until(lambda: reads_from() != "default", "a replica has the write")
            with assert_reads("replica"):
                assert name() == "new"

    def test_a_replica_that_is_late_takes_no_writes(self) -> None:
        with lag(commits=1), pytest.raises(replicant.ReplicaWriteError):
            Item.objects.using("replica1").update(name="new")
        assert Item.objects.using("default").get().name == "old"


class TestOnDelayedServers(Late):
    """``lag()`` delays replication."""

    @pytest.fixture
    def shop(self, cluster: Cluster, database: str) -> Iterator[None]:
        with use_databases(cluster.databases(database), REPLICANT=SETTINGS), use_real_lag(delayed(cluster)):
            add_the_item()
            cluster.wait_until_caught_up()
            look()
            yield
            cluster_monitor.stop()


def delayed(cluster: Cluster) -> Callable[..., Any]:
    @contextmanager
    def late(aliases: list[str], *, commits: int | None, seconds: float | None) -> Iterator[None]:
        cluster.wait_until_caught_up()
        replicas = [cluster.replicas[int(alias.removeprefix("replica")) - 1] for alias in aliases]
        for replica in replicas:
            replica.pause_replication() if seconds is None else replica.delay(seconds)
        try:
            yield
        finally:
            for replica in replicas:
                replica.resume_replication() if seconds is None else replica.delay(0)
            cluster.wait_until_caught_up()

    return late


def add_the_item() -> None:
    def add() -> None:
        with use_primary():
            Item.objects.using("default").all().delete()
            Item.objects.using("default").create(name="old")

    # In a context of its own: the tests' thread must not remember it.
    contextvars.Context().run(add)


def look() -> None:
    """Have the monitor see which servers are there: in the test before, others answered to the same aliases."""
    contextvars.Context().run(name)
    until(lambda: cluster_monitor.latest().keys() >= {"default", "replica1", "replica2"}, "the monitor has seen all")


class Virtual(Late):
    """What is only to be had where commits can be counted: nothing is late but for ``lag()``."""

    def test_a_replica_lacks_the_last_commits(self) -> None:
        shown = []
        with lag(commits=2):
            for number in range(4):
                rename(f"name {number}")
                shown.append(Item.objects.using("replica1").get().name)
        assert shown == ["old", "old", "name 0", "name 1"]

    def test_who_wrote_is_free_when_enough_others_have_committed(self) -> None:
        with lag(commits=2), request_scope():
            rename("new")
            for number in range(2):
                assert reads_from() == "default"
                contextvars.Context().run(rename, f"name {number}")
            assert reads_from() in ("replica1", "replica2")
            with assert_reads("replica"):
                assert name() == "new"

    def test_many_commits_do_not_take_many_sessions(self) -> None:
        for late in (lag(), lag(seconds=60)):
            with late:
                for number in range(5):
                    rename(f"name {number}")
                assert len(_histories["default"]._versions) == 2
                rename("old")

    def test_async_code_can_be_late_too(self) -> None:
        @lag(commits=1)
        async def check() -> None:
            await Item.objects.using("default").aupdate(name="new")
            assert (await Item.objects.using("replica1").aget()).name == "old"
            async with request_scope(), assert_reads("replica"):
                assert (await Item.objects.aget()).name == "old"

        async_to_sync(check)()

    def test_a_thread_reads_the_same(self) -> None:
        def check() -> str:
            try:
                return Item.objects.using("replica1").get().name
            finally:
                connections.close_all()

        with lag(commits=1), ThreadPoolExecutor(1) as pool:
            rename("new")
            assert pool.submit(check).result() == "old"

    def test_a_read_that_fails_does_not_take_the_others_with_it(self) -> None:
        with lag(commits=1):
            rename("new")
            with pytest.raises(DatabaseError):
                list(Item.objects.using("replica1").extra(select={"wrong": "nowhere"}))
            assert Item.objects.using("replica1").get().name == "old"

    def test_rows_that_are_still_read_stay_there_while_others_commit(self) -> None:
        with lag(commits=1):
            Item.objects.using("default").bulk_create([Item(name=f"{number}") for number in range(300)])
            rows = iter(Item.objects.using("replica1").order_by("pk").iterator(chunk_size=10))
            assert next(rows).name == "old"
            for _ in range(3):
                Item.objects.using("default").create(name="more")
            assert len(list(rows)) == 0
            rows = iter(Item.objects.using("replica1").order_by("pk").iterator(chunk_size=10))
            next(rows)
            for _ in range(3):
                Item.objects.using("default").create(name="more")
            assert len(list(rows)) == 302

    def test_a_cluster_cannot_be_behind_twice(self) -> None:
        with lag(commits=1), pytest.raises(RuntimeError, match="does not nest"), lag(commits=2):
            pass

    def test_only_the_replicas_named_are_late(self) -> None:
        with lag("replica2", commits=1), request_scope():
            rename("new")
            assert Item.objects.using("replica1").get().name == "new"
            assert Item.objects.using("replica2").get().name == "old"
            with assert_reads("replica1"):
                assert name() == "new"


class TestWithNoReplica(Virtual):
    """SQLite: every alias leads to one file."""

    @pytest.fixture
    def shop(self, site: Path) -> Iterator[None]:
        one = {alias: {**connections.settings["default"]} for alias in ("default", "replica1", "replica2")}
        with use_databases(one, REPLICANT=SETTINGS):
            add_the_item()
            look()
            yield
            cluster_monitor.stop()


class TestOnServersWithNoReplica(Virtual):
    """Every alias leads to the primary."""

    @pytest.fixture
    def shop(self, cluster: Cluster, database: str) -> Iterator[None]:
        primary = cluster.databases(database)["default"]
        one = {alias: {**primary} for alias in ("default", "replica1", "replica2")}
        with use_databases(one, REPLICANT=SETTINGS):
            add_the_item()
            look()
            yield
            cluster_monitor.stop()


@pytest.mark.parametrize("serializes", [True, False], ids=["serialize", "iterdump"])
def test_a_copy_has_the_uncommitted_rows_of_its_connection_and_nothing_later(serializes: bool) -> None:
    class Old:
        """What Python 3.10 has."""

        def __init__(self, connection: sqlite3.Connection) -> None:
            self.execute, self.iterdump = connection.execute, connection.iterdump

    with (
        closing(sqlite3.connect("file:source?mode=memory&cache=shared", uri=True, isolation_level=None)) as source,
        closing(sqlite3.connect(":memory:", isolation_level=None)) as copy,
    ):
        source.execute("CREATE TABLE child (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES parent (id))")
        source.execute("CREATE TABLE parent (id INTEGER PRIMARY KEY)")
        source.execute("BEGIN")
        source.execute("INSERT INTO parent VALUES (1)")
        source.execute("INSERT INTO child VALUES (1, 1)")
        with closing(source.execute("INSERT INTO parent VALUES (2) RETURNING id")) as pending:
            _copy(source if serializes else Old(source), copy)
            assert pending.fetchall() == [(2,)]
        source.execute("INSERT INTO parent VALUES (3)")
        assert copy.execute("SELECT id FROM parent ORDER BY id").fetchall() == [(1,), (2,)]
        assert copy.execute("SELECT * FROM child").fetchall() == [(1, 1)]
