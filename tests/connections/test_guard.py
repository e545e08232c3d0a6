"""Nothing unsafe reaches a replica; on servers see ``test_guard_on_servers.py``."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from django.db import DatabaseError, connections, transaction
from django.test import override_settings

from replicant import ReplicaWriteError, allow_functions, use_replica
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.statements import HOSTILE, READS

pytestmark = pytest.mark.usefixtures("site")


def test_a_replicas_session_is_read_only(caplog: pytest.LogCaptureFixture):
    for write in (
        lambda: Item.objects.using("replica1").create(name="x"),
        lambda: connections["replica1"].cursor().execute("DELETE FROM app_item"),
    ):
        with pytest.raises(ReplicaWriteError, match=r"'replica1' is a replica.*(INSERT|DELETE) was refused.*'default'"):
            write()
    assert [record.name for record in caplog.records] == ["replicant"] * 2
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "GUARD": False}}):
        Item.objects.using("replica1").create(name="x")
    with override_settings(REPLICANT={}):
        Item.objects.using("replica1").create(name="x")
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")
    assert Item.objects.using("replica1").count() == 2


def test_a_replicas_next_session_is_read_only_too():
    assert Item.objects.using("replica1").count() == 0
    connections["replica1"].close()
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")


def test_a_guard_that_cannot_be_set_inside_a_transaction_is_set_after_it():
    with override_settings(REPLICANT={}), transaction.atomic(using="replica1"):
        Item.objects.using("replica1").create(name="x")
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
            assert Item.objects.using("replica1").count() == 1
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")


def content_of(site: Path) -> list[str]:
    """All that the file of replica1 holds. Raises if a lock is held on it."""
    with closing(sqlite3.connect(site / "replica1.sqlite3", timeout=0)) as other:
        other.execute("BEGIN EXCLUSIVE")
        return [
            *other.iterdump(),
            *(str(other.execute(f"PRAGMA {name}").fetchone()) for name in ("user_version", "journal_mode")),
        ]


def test_no_hostile_statement_changes_or_locks_anything(site: Path):
    statements = HOSTILE["sqlite"]
    assert len(statements) >= 60
    before = content_of(site)
    with connections["replica1"].cursor() as cursor:
        for statement in statements:
            with pytest.raises(ReplicaWriteError, match=r"'replica1' is a replica.* was refused"):
                pytest.fail(f"executed: {cursor.execute(statement)} {statement!r}")
            assert content_of(site) == before, statement
        assert cursor.execute("PRAGMA query_only").fetchone() == (1,)
        assert not cursor.execute("SELECT 1 FROM sqlite_temp_master").fetchall()


def test_no_read_is_refused():
    statements = READS["sqlite"]
    assert len(statements) >= 60
    with connections["replica1"].cursor() as cursor:
        for statement in statements:
            try:
                cursor.execute(statement).fetchall()
            except DatabaseError as error:
                pytest.fail(f"{statement!r}: {error}")


def test_a_refused_statement_is_not_sent():
    with record_queries() as queries, pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").update(name="x")
    assert queries == []


def test_a_transaction_goes_on_after_a_refusal():
    with transaction.atomic(using="replica1"), connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError):
            cursor.execute("DELETE FROM app_item")
        assert Item.objects.using("replica1").count() == 0


def test_a_replica_that_is_put_in_force_inside_a_transaction_refuses_at_once():
    with override_settings(REPLICANT={}), transaction.atomic(using="replica1"):
        Item.objects.using("replica1").create(name="x")
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}), pytest.raises(ReplicaWriteError):
            Item.objects.using("replica1").create(name="x")


def test_without_a_guard_nothing_is_refused():
    with (
        override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "GUARD": False}}),
        connections["replica1"].cursor() as cursor,
    ):
        cursor.execute("CREATE TEMPORARY TABLE x (a int)")
        cursor.execute("PRAGMA query_only")
        assert cursor.fetchone() == (0,)


def test_a_script_is_refused_unless_it_is_one_read():
    with connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError, match="DELETE was refused"):
            cursor.executescript("DELETE FROM app_item")
        with pytest.raises(ReplicaWriteError, match="several statements was refused"):
            cursor.executescript("SELECT 1; SELECT 1")
        cursor.executescript("SELECT 1")
        with pytest.raises(ReplicaWriteError, match="INSERT was refused"):
            cursor.executemany("INSERT INTO app_item (name) VALUES (%s)", [["x"], ["y"]])


def test_what_is_no_text_is_refused():
    with connections["replica1"].cursor() as cursor:
        for statement in (object(), b"SELECT \xff"):
            with pytest.raises(ReplicaWriteError, match="a statement that is a"):
                cursor.execute(statement)  # type: ignore[arg-type]


def test_how_the_user_begins_sqlites_transactions_is_not_refused():
    connections["replica1"].transaction_mode = "IMMEDIATE"
    with transaction.atomic(using="replica1"):
        assert Item.objects.using("replica1").count() == 0
    with pytest.raises(ReplicaWriteError), connections["replica1"].cursor() as cursor:
        cursor.execute("BEGIN EXCLUSIVE")


def add_function(alias: str, name: str) -> None:
    connections[alias].ensure_connection()
    connections[alias].connection.create_function(name, 1, lambda value: value * 2)


def test_functions_are_allowed_inside_a_block_alone():
    add_function("replica1", "twice")
    question: Any = ("SELECT twice(%s)", [2])
    with connections["replica1"].cursor() as cursor:
        for _ in range(2):
            with pytest.raises(ReplicaWriteError, match=r"twice\(\) was refused.*allow_functions\('twice'\)"):
                cursor.execute(*question)
            with pytest.raises(ZeroDivisionError), allow_functions("TWICE"):
                with allow_functions("other"):
                    assert cursor.execute(*question).fetchone() == (4,)
                assert cursor.execute(*question).fetchone() == (4,)
                raise ZeroDivisionError


def test_functions_are_allowed_in_async_code():
    async def twice() -> tuple[int, ...]:
        async with allow_functions("twice"):
            return await asyncio.to_thread(ask)

    def ask() -> tuple[int, ...]:
        add_function("replica1", "twice")
        with closing(connections["replica1"]), connections["replica1"].cursor() as cursor:
            return cursor.execute("SELECT twice(%s)", [2]).fetchone()

    assert asyncio.run(twice()) == (4,)


@pytest.mark.parametrize("names", [(), (1,), (test_functions_are_allowed_in_async_code,)])
def test_only_names_can_be_allowed(names: tuple[Any, ...]):
    with pytest.raises(TypeError, match="names of functions"):
        allow_functions(*names)


def test_every_lookup_and_every_database_function_of_django_is_a_read():
    from django.db.models import Value, functions
    from django.db.models.functions import Cast, Length

    lookups = ("exact", "iexact", "contains", "icontains", "startswith", "endswith", "regex", "iregex", "gt", "in")
    with use_replica("replica1"):
        for lookup in lookups:
            list(Item.objects.filter(**{f"name__{lookup}": "a'%_\\"}))
        for function in (functions.Lower, functions.MD5, functions.SHA256, functions.Reverse, functions.Trim, Length):
            list(Item.objects.annotate(x=function("name")).values("x"))
        list(Item.objects.annotate(x=functions.Concat("name", Value("a"), "name", Value("b"))).values("x"))
        list(
            Item.objects.annotate(
                x=functions.Now(), y=functions.TruncMonth("x"), z=Cast("id", Item._meta.get_field("name"))
            )
        )
