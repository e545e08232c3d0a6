"""What counts as a write: each way to write pins its scope, and what changed nothing does not; on real servers.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connection, connections, transaction

import replicant
from replicant import request_scope
from tests.app.models import Item, Piece
from tests.connections.paused_replicas import catch_up, looked, pause, read, reason, until, write
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster

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


# What is a write.


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
