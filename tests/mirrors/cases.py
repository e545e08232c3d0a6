"""Test cases as users of the package write them: ``tests/patches/test_test_runner.py`` runs them in other processes."""

from __future__ import annotations

import threading
from contextlib import ExitStack
from typing import ClassVar
from urllib.request import urlopen

from asgiref.sync import sync_to_async
from django.db import connections, router, transaction
from django.test import LiveServerTestCase, SimpleTestCase, TestCase, TransactionTestCase, override_settings
from django.test.testcases import DatabaseOperationForbidden

import replicant
from replicant import _core, use_replica
from replicant.monitor import cluster_monitor
from tests.app.models import Item

REPLICAS = ("replica1", "replica2")
NOBODY = ("default", "unavailable", ())


def names(alias: str | None = None) -> list[str]:
    return sorted(Item.objects.using(alias).values_list("name", flat=True))


def reason() -> str | None:
    return replicant.explain(Item).reason


class Checks:
    def assert_read_from(self, *aliases: str) -> None:
        with use_replica():
            assert Item.objects.order_by("pk").last()._state.db in aliases
            assert router.db_for_read(Item) in aliases


class ListsAll(Checks, TestCase):
    databases = "__all__"

    @classmethod
    def setUpTestData(cls):
        Item.objects.create(name="of the class")
        assert names() == ["of the class"]

    def setUp(self):
        Item.objects.create(name="of the test")

    def test_replicas_serve_what_is_not_committed(self):
        assert replicant.explain(Item).eligible == REPLICAS
        assert reason() == "balanced"
        for alias in ("default", *REPLICAS):
            assert names(alias) == ["of the class", "of the test"]
        self.assert_read_from(*REPLICAS)

    def test_one_test_does_not_see_anothers_rows(self):
        assert names() == ["of the class", "of the test"]
        Item.objects.create(name="of this test alone")

    def test_nor_the_other_way_round(self):
        assert names() == ["of the class", "of the test"]
        Item.objects.create(name="of this test alone")

    def test_nothing_is_pinned(self):
        Item.objects.create(name="another")
        assert reason() == "balanced"
        assert replicant.token() == ""
        assert not _core.has_written()

    def test_what_others_hang_on_an_alias_stays_there(self):
        connections["default"]._instrumented = True
        assert not hasattr(connections["replica1"], "_instrumented")
        connections["replica2"]._instrumented = True
        del connections["default"]._instrumented
        assert connections["replica2"]._instrumented
        del connections["replica2"]._instrumented

    def test_ones_own_transaction_counts(self):
        with transaction.atomic():
            assert reason() == "transaction"
            assert router.db_for_read(Item) == "default"
        with transaction.atomic(durable=True):
            assert reason() == "transaction"
        assert reason() == "balanced"

    def test_a_transaction_on_a_replica_is_none_on_the_primary(self):
        with transaction.atomic("replica1"):
            assert reason() == "balanced"
            with transaction.atomic():
                assert reason() == "transaction"

    def test_what_is_rolled_back_is_gone_everywhere(self):
        with transaction.atomic():
            Item.objects.create(name="rolled back")
            assert "rolled back" in names("replica1")
            transaction.set_rollback(True)
        assert "rolled back" not in names("replica1") + names("default")

    def test_writes_and_locks_on_a_replica_are_refused(self):
        for work in (
            lambda: Item.objects.using("replica1").create(name="x"),
            lambda: Item.objects.using("replica1").update(name="x"),
            lambda: connections["replica1"].cursor().execute("DELETE FROM app_item"),
        ):
            with self.assertRaisesMessage(replicant.ReplicaWriteError, "'replica1' is a replica"), transaction.atomic():
                work()
        Item.objects.create(name="the primary takes them")
        assert names("replica1") == ["of the class", "of the test", "the primary takes them"]

    def test_queries_are_counted_by_the_alias_asked(self):
        for asked in ("default", *REPLICAS):
            with ExitStack() as counts:
                for alias in ("default", *REPLICAS):
                    counts.enter_context(self.assertNumQueries(int(alias == asked), using=alias))
                names(asked)

    def test_callbacks_are_captured_on_either_alias(self):
        called = []
        for using in ("default", "replica1"):
            with self.captureOnCommitCallbacks(using=using, execute=True) as callbacks:
                transaction.on_commit(lambda: called.append(1))
            assert len(callbacks) == 1
        assert len(called) == 2

    def test_a_replica_keeps_its_alias_and_its_settings(self):
        mirror, primary = connections["replica1"], connections["default"]
        assert mirror is connections["replica1"] is not primary
        assert mirror.alias == "replica1"
        assert mirror.connection is primary.connection is not None
        assert mirror.settings_dict is connections.settings["replica1"]
        assert mirror.settings_dict["NAME"] == primary.settings_dict["NAME"]
        assert isinstance(mirror, type(mirror.copy()))
        assert mirror.copy().connection is None

    def test_closing_a_replica_leaves_the_tests_transaction_open(self):
        connections["replica1"].close()
        connections["replica1"].close_if_unusable_or_obsolete()
        assert names() == ["of the class", "of the test"]

    def test_iterators_on_both_aliases_do_not_meet(self):
        Item.objects.bulk_create(Item(name=f"{number:04}") for number in range(50))
        iterators = [Item.objects.using(alias).iterator(chunk_size=2) for alias in ("default", *REPLICAS)]
        for one, other, third in zip(*iterators, strict=True):
            assert one == other == third

    def test_requests_read_from_replicas(self):
        body = self.client.get("/read/").content.decode().splitlines()
        assert body[0].endswith(" balanced")
        assert body[1].endswith(" sticky")
        response = self.client.post("/class/")
        assert response.content.decode().split()[1] == "balanced"
        assert not response.cookies

    async def test_coroutines_read_from_replicas(self):
        assert await Item.objects.acount() == 2
        await Item.objects.acreate(name="more")
        assert await sync_to_async(reason)() == "balanced"
        async with use_replica("replica2"):
            assert (await Item.objects.alast())._state.db == "replica2"

    def test_other_settings_take_effect_at_once(self):
        for policy in ("error", "replica"):
            cluster = {"REPLICAS": {"replica1": 0, "replica2": 0}, "ON_UNAVAILABLE": policy}
            with override_settings(REPLICANT={"default": cluster}):
                assert replicant.explain(Item) == NOBODY


class ListsOne(Checks, TestCase):
    databases: ClassVar = {"default", "replica2"}

    def test_the_one_that_is_listed_serves(self):
        Item.objects.create(name="x")
        assert replicant.explain(Item).eligible == ("replica2",)
        assert {router.db_for_read(Item) for _ in range(20)} == {"replica2"}
        assert names() == ["x"]
        with use_replica("replica1"):
            assert replicant.explain(Item).alias == "replica2"
            assert names() == ["x"]
        states = {member["alias"]: member["state"] for member in _members()}
        assert states == {"default": "up", "replica1": "down", "replica2": "up"}
        with self.assertRaises(DatabaseOperationForbidden):
            names("replica1")


class ListsNone(Checks, TestCase):
    """As most tests are: they were written for one database."""

    def test_the_primary_serves_whatever_the_policy(self):
        item = Item.objects.create(name="x")
        for policy in ("error", "replica", "primary"):
            cluster = {"REPLICAS": REPLICAS, "ON_UNAVAILABLE": policy, "PRIMARY_SPILL": 0}
            with override_settings(REPLICANT={"default": cluster}):
                assert replicant.explain(Item) == NOBODY
                assert replicant.explain(Item, instance=Item(pk=1)) == NOBODY
                for scope in (use_replica(), use_replica("replica1"), use_replica(stale_ok=True)):
                    with scope, self.assertNumQueries(1):
                        assert replicant.explain(Item) == NOBODY
                        assert names() == ["x"]
        item.refresh_from_db()
        assert item._state.db == "default"
        with self.assertRaises(DatabaseOperationForbidden):
            names("replica1")


class ListsAReplicaAlone(TestCase):
    databases: ClassVar = {"replica1"}

    def test_it_serves_and_the_primary_stays_forbidden(self):
        assert reason() == "balanced"
        assert names() == []
        with self.assertRaises(DatabaseOperationForbidden):
            names("default")


class WithoutADatabase(SimpleTestCase):
    def test_every_read_is_forbidden(self):
        assert replicant.explain(Item) == NOBODY
        with use_replica("replica1"):
            assert replicant.explain(Item) == NOBODY
        with self.assertRaises(DatabaseOperationForbidden):
            names()


class Commits(Checks, TransactionTestCase):
    databases = "__all__"

    def test_replicas_serve_what_was_committed_a_moment_ago(self):
        for number in range(5):
            Item.objects.create(name=str(number))
            assert reason() == "balanced"
            assert len(names()) == number + 1
        self.assert_read_from(*REPLICAS)
        assert connections["replica1"].connection is connections["default"].connection
        assert replicant.token() == ""

    def test_the_database_is_empty_again(self):
        assert names() == []

    def test_ones_own_transaction_counts(self):
        with transaction.atomic():
            Item.objects.create(name="x")
            assert reason() == "transaction"
            assert names("replica1") == ["x"]
        with transaction.atomic("replica1"):
            assert reason() == "balanced"
            assert names() == ["x"]
        transaction.set_autocommit(False)
        assert reason() == "transaction"
        transaction.rollback()
        transaction.set_autocommit(True)

    def test_a_session_that_was_closed_is_opened_again(self):
        for alias in ("replica1", "default"):
            connections[alias].close()
            assert names("replica1") == names("default") == []
            assert connections["replica1"].connection is connections["default"].connection

    def test_other_threads_have_sessions_of_their_own(self):
        Item.objects.create(name="x")
        if connections["default"].vendor == "sqlite" and connections["default"].is_in_memory_db():
            # As without replicas: a thread would need the connection of this one.
            return
        seen = []

        def work() -> None:
            seen.extend([reason(), names("replica1")])
            mirror = connections["replica1"].connection
            seen.extend([mirror is connections["default"].connection, mirror is own])
            connections.close_all()

        own = connections["default"].connection
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert seen == ["balanced", ["x"], True, False]

    def test_nobody_asks_a_server(self):
        for _ in range(10):
            Item.objects.create(name="x")
            names()
        assert cluster_monitor.probing() == []
        assert cluster_monitor.latest() == {}
        assert {member["position"] for member in _members()} == {None}


class CommitsAndListsNone(TransactionTestCase):
    def test_the_primary_serves(self):
        Item.objects.create(name="x")
        assert names() == ["x"]
        assert replicant.explain(Item) == NOBODY


class Served(LiveServerTestCase):
    databases = "__all__"

    def test_the_servers_threads_read_from_replicas(self):
        Item.objects.create(name="x")
        with urlopen(f"{self.live_server_url}/read/") as response:
            first, second = response.read().decode().splitlines()
        assert first.split()[0] in REPLICAS
        assert first.endswith(" balanced")
        assert second == first.replace("balanced", "sticky")


def _members() -> list[dict[str, object]]:
    return replicant.status()["clusters"]["default"]["members"]
