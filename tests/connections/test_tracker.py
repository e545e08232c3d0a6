"""A write is known when it happens, whatever sent it; on servers in ``tests/core/test_writes_on_servers.py``."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time

import pytest
from django.core.management import call_command
from django.db import IntegrityError, OperationalError, connection, connections, transaction
from django.db.models import F
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

import replicant
from replicant import _core, explain, request_scope, use_replica
from tests.app.models import Account, Item, Piece, Tag

pytestmark = pytest.mark.usefixtures("site")


def reason() -> str | None:
    return explain(Item).reason


def is_pinned() -> bool:
    return reason() == "pinned"


def toolbars_cursor():
    """As django-debug-toolbar makes one: of a class derived from that of the cursor it found."""
    cursor = connection.cursor()
    return type("Logging", (type(cursor),), {})(cursor.cursor, connection)


WRITES = {
    "create": lambda: Item.objects.create(name="x"),
    "save": lambda: Item(name="x").save(),
    "bulk_create": lambda: Item.objects.bulk_create([Item(name="x"), Item(name="y")]),
    "get_or_create": lambda: Item.objects.get_or_create(name="x"),
    "update_or_create": lambda: Account.objects.update_or_create(owner="x", defaults={"balance": 3}),
    "update": lambda: Account.objects.update(balance=F("balance") + 1),
    "delete": lambda: Account.objects.all().delete(),
    "many to many": lambda: Item.objects.create(name="x").tags.add(Tag.objects.create(name="t")),
    "cursor": lambda: connection.cursor().execute("INSERT INTO app_tag (name) VALUES ('x')"),
    "executemany": lambda: connection.cursor().executemany("INSERT INTO app_tag (name) VALUES (%s)", [["x"], ["y"]]),
    "executescript": lambda: connection.cursor().executescript("INSERT INTO app_tag (name) VALUES ('x')"),
    "executescript of a toolbar's": lambda: toolbars_cursor().executescript("INSERT INTO app_tag (name) VALUES ('x')"),
    "returning": lambda: list(Tag.objects.using("default").raw("INSERT INTO app_tag (name) VALUES ('x') RETURNING *")),
    "hidden by a comment": lambda: connection.cursor().execute("/* SELECT */ DELETE FROM app_tag"),
    "schema": lambda: connection.cursor().execute("CREATE TABLE more (id int)"),
    "truncate": lambda: call_command("flush", interactive=False, verbosity=0),
}


@pytest.mark.parametrize("name", WRITES)
@pytest.mark.parametrize("debug", [False, True])
def test_every_way_to_write_is_seen(name: str, debug: bool):
    with request_scope():
        Account.objects.create(owner="there", balance=1)
        Tag.objects.create(name="there")
    with request_scope(), override_settings(DEBUG=debug):
        assert not is_pinned()
        with CaptureQueriesContext(connection) if debug else connection.execute_wrapper(lambda run, *args: run(*args)):
            WRITES[name]()
        assert is_pinned()


NO_WRITES = {
    "update": lambda: Item.objects.filter(pk=-1).update(name="x"),
    "delete": lambda: connection.cursor().execute("DELETE FROM app_tag WHERE id = -1"),
    "in a transaction": lambda: transaction.atomic(Item.objects.filter(pk=-1).update)(name="x"),
    "foreign key assigned": lambda: Piece(item=Item(pk=1)),
}


@pytest.mark.parametrize("name", NO_WRITES)
def test_what_changes_no_row_is_no_write_but_may_reveal_others(name: str):
    connection.ensure_connection()
    with request_scope():
        NO_WRITES[name]()
        # That there is no such row is what others have written.
        reveals = name != "foreign key assigned"
        assert is_pinned() is reveals
        assert bool(replicant.token()) is reveals


READS = {
    "get": lambda: Item.objects.using("default").first(),
    "aggregate": lambda: list(Item.objects.using("default").values("name").annotate(n=F("id") + 1)),
    "cursor": lambda: connection.cursor().execute("SELECT COUNT(*) FROM app_item").fetchall(),
    "pragma": lambda: connection.introspection.get_table_list(connection.cursor()),
    "foreign key assigned": lambda: Piece(item=Item(pk=1)),
    "atomic": lambda: transaction.atomic().__enter__() or transaction.set_rollback(True),
}


@pytest.mark.parametrize("name", [name for name in READS if name != "atomic"])
def test_what_writes_nothing_pins_nothing(name: str):
    connection.ensure_connection()
    with request_scope():
        READS[name]()
        assert not is_pinned()


def test_asking_where_a_write_would_go_is_no_write():
    with request_scope():
        from django.db import router

        router.db_for_write(Item)
        assert not is_pinned()


# Transactions.


def test_a_transaction_counts_when_it_commits():
    with request_scope():
        with transaction.atomic():
            Item.objects.create(name="x")
            assert reason() == "transaction"
            with transaction.atomic():
                Item.objects.create(name="y")
            assert reason() == "transaction"
        assert is_pinned()


def test_a_transaction_that_rolled_back_wrote_nothing():
    with request_scope():
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Item.objects.create(name="x")
            raise ZeroDivisionError
        assert reason() == "balanced"
        with transaction.atomic():
            Item.objects.create(name="x")
            transaction.set_rollback(True)
        assert reason() == "balanced"
        # And the next transaction is not blamed for it.
        with transaction.atomic():
            list(Item.objects.using("default").all())
        assert reason() == "balanced"


def test_a_transaction_that_only_read_wrote_nothing():
    with request_scope(), transaction.atomic():
        list(Item.objects.all())
    with request_scope():
        with transaction.atomic():
            list(Item.objects.all())
        assert not is_pinned()


def test_a_callback_on_commit_sees_the_write_whenever_it_was_registered():
    seen = []
    with request_scope(), transaction.atomic():
        transaction.on_commit(lambda: seen.append(reason()))
        Item.objects.create(name="x")
        transaction.on_commit(lambda: seen.append(reason()))
    assert seen == ["pinned", "pinned"]


def test_watching_adds_no_callback_and_no_query():
    with CaptureQueriesContext(connection) as captured, transaction.atomic():
        Item.objects.create(name="x")
        assert connection.run_on_commit == []
    assert len(captured) == 3  # BEGIN, INSERT, COMMIT


def test_a_write_counts_for_the_scope_of_its_statement_and_for_the_one_that_commits():
    outer = request_scope()
    with outer:
        with transaction.atomic():
            with request_scope():
                Item.objects.create(name="x")
                inner = _core.scope_variable.get()
            assert reason() == "transaction"
        assert is_pinned()
        _core.scope_variable.set(inner)
        assert is_pinned()
        _core.scope_variable.set(None)
    assert not is_pinned()


def test_manual_transactions():
    with request_scope():
        transaction.set_autocommit(False)
        try:
            assert reason() == "transaction"
            Item.objects.create(name="x")
            transaction.rollback()
            transaction.set_autocommit(True)
            assert not is_pinned()
            transaction.set_autocommit(False)
            Item.objects.create(name="x")
            transaction.commit()
            assert reason() == "transaction"
        finally:
            transaction.set_autocommit(True)
        assert is_pinned()


def test_turning_autocommit_on_commits():
    with request_scope():
        transaction.set_autocommit(False)
        Item.objects.create(name="x")
        transaction.set_autocommit(True)
        assert is_pinned()
        assert Item.objects.using("default").count() == 1


def test_transactions_sent_as_text():
    cursor = connection.cursor()
    with request_scope():
        cursor.execute("BEGIN")
        assert reason() == "transaction"
        Item.objects.create(name="x")
        cursor.execute("SAVEPOINT s")
        cursor.execute("ROLLBACK TO s")
        assert reason() == "transaction"
        cursor.execute("ROLLBACK")
        assert reason() == "balanced"
        cursor.execute("  /* hello */ begin immediate")
        Item.objects.create(name="x")
        cursor.execute("end transaction")
        assert is_pinned()
    with request_scope():
        cursor.execute("SAVEPOINT outermost")
        assert reason() == "transaction"
        Item.objects.create(name="y")
        cursor.execute("RELEASE outermost")
        assert is_pinned()


def test_a_transaction_sent_as_text_ends_with_its_connection():
    with request_scope():
        connection.cursor().execute("BEGIN")
        Item.objects.create(name="x")
        connection.close()
        assert reason() == "balanced"
        Item.objects.using("default").count()
        assert reason() == "balanced"


def test_a_write_that_failed_may_have_been_carried_out():
    with request_scope():
        with pytest.raises(OperationalError):
            connection.cursor().execute("INSERT INTO nowhere VALUES (1)")
        assert is_pinned()


def test_a_lost_answer_to_a_commit_counts_as_a_commit():
    connection.ensure_connection()
    commit = connection.connection.commit

    class Lossy:
        def __init__(self, real):
            self.real = real

        def __getattr__(self, name):
            return getattr(self.real, name)

        def commit(self):
            commit()
            raise connection.Database.OperationalError("lost")

    wrapper = connections["default"]
    with request_scope():
        with pytest.raises(OperationalError, match="lost"), transaction.atomic():
            Item.objects.create(name="x")
            wrapper.connection = Lossy(wrapper.connection)
        assert is_pinned()


def test_integrity_errors_inside_get_or_create_do_not_confuse_it():
    item = Item.objects.create(pk=1, name="x")
    with request_scope():
        with pytest.raises(IntegrityError), transaction.atomic():
            Item.objects.create(pk=item.pk, name="y")
        # Nothing was written, and the row that stood in the way must be found.
        assert is_pinned()


def test_an_inner_savepoint_does_not_publish_what_the_outer_one_may_take_back():
    cursor = connection.cursor()
    with request_scope():
        cursor.execute("SAVEPOINT a")
        Item.objects.create(name="x")
        cursor.execute("SAVEPOINT b")
        cursor.execute("RELEASE b")
        assert reason() == "transaction"
        cursor.execute("ROLLBACK")
        assert not is_pinned()


def test_a_transaction_begun_together_with_its_write_counts_when_it_commits():
    settings = {"default": {"REPLICAS": ["replica1"], "PIN_SECONDS": 0.3}}
    for begin in ("BEGIN; INSERT INTO app_tag (name) VALUES ('x')", "BEGIN"):
        with override_settings(REPLICANT=settings):
            cursor = connection.cursor()
            cursor.executescript(begin)
            assert reason() == "transaction"
            cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")
            time.sleep(0.4)
            cursor.execute("COMMIT")
            assert is_pinned()


def test_what_is_sent_to_a_replica_pins_nobody():
    with request_scope():
        connections["replica1"].cursor().executescript("SELECT 1;")
        assert not is_pinned()
        _core.record().wrote("replica1")
        assert not is_pinned()


def test_connections_that_were_tracked_leave_no_transaction_behind():
    def open_one():
        connection.cursor().execute("BEGIN")
        assert _core.text_transaction() == before + 1
        connection.close()
        del connections["default"]

    explain(Item)
    before = _core.text_transaction()
    thread = threading.Thread(target=open_one)
    thread.start()
    thread.join()
    gc.collect()
    assert _core.text_transaction() == before


WITHOUT_THE_APP = """
import os, sys, django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
    DATABASES=dict.fromkeys(["default", "replica1"], {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}),
    DATABASE_ROUTERS=["replicant.ReplicaRouter"],
    REPLICANT={"default": {"REPLICAS": ["replica1"]}},
)
django.setup()
from django.contrib.auth.models import Group
from django.db import connection, connections
from replicant import ReplicaWriteError, explain, request_scope

connection.cursor().execute("CREATE TABLE one (id int)")
with request_scope():
    assert explain(Group).reason == "balanced"
    connection.cursor().execute("CREATE TABLE two (id int)")
    assert explain(Group).reason == "pinned", explain(Group)
try:
    connections["replica1"].cursor().execute("CREATE TABLE one (id int)")
except ReplicaWriteError:
    print("guarded")
"""


def test_without_the_app_in_installed_apps_the_router_sees_to_it_all():
    command = [sys.executable, "-X", "dev", "-c", WITHOUT_THE_APP]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.stdout, result.returncode) == ("guarded\n", 0), result.stderr


# Who remembers.


def test_the_pin_of_a_thread_ends_and_begins_with_the_commit():
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PIN_SECONDS": 0.3}}):
        with transaction.atomic():
            Item.objects.create(name="x")
            time.sleep(0.4)
        assert is_pinned()


def test_another_thread_is_not_pinned():
    Item.objects.create(name="x")
    seen = []
    thread = threading.Thread(target=lambda: seen.append(reason()))
    thread.start()
    thread.join()
    assert seen == ["balanced"]


def test_async_writes_pin_the_request_that_awaits_them():
    async def main():
        async with request_scope():
            assert not is_pinned()
            await Item.objects.acreate(name="x")
            assert is_pinned()

    asyncio.run(main())


def test_a_reconnect_in_the_middle_pins_nothing():
    with request_scope():
        connections["default"].close()
        list(Item.objects.using("default").all())
        assert not is_pinned()


def test_the_pinned_read_finds_the_row_and_the_replicas_read_does_not():
    with request_scope():
        item = Item.objects.create(name="x")
        assert Item.objects.get(pk=item.pk) == item
        with use_replica(stale_ok=True), pytest.raises(Item.DoesNotExist):
            Item.objects.get(pk=item.pk)


def test_a_connection_opened_inside_of_execute_wrapper_is_watched_after_it(site):
    def theirs(execute, *args):
        return execute(*args)

    connection.close()
    del connections["default"]
    with connection.execute_wrapper(theirs):
        Item.objects.using("default").exists()
    assert theirs not in connection.execute_wrappers
    Item.objects.create(name="x")
    assert explain(Item).reason == "pinned"
