"""Every way to write pins, whatever sends the statement; on MySQL, MariaDB and PostgreSQL."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import io
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.backends.postgresql.base import Database
from django.test import override_settings
from pymysql.constants import CLIENT

from replicant import ReplicaWriteError, request_scope, use_replica
from tests.app.models import Item, Tag
from tests.core.paused import EXEMPT, pause, reason
from tests.servers import Cluster


def sql_insert() -> None:
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")


def procedure() -> None:
    with connection.cursor() as cursor:
        cursor.callproc("add_tag")


def copy() -> None:
    command = "COPY app_tag (name) FROM STDIN"
    with connection.cursor() as cursor:
        if Database.__name__ == "psycopg2":
            cursor.copy_expert(command, io.StringIO("x\n"))
            return
        with cursor.copy(command) as copying:
            copying.write_row(["x"])


def several_statements() -> None:
    if getattr(connection, "Database", None) is pymysql:
        # It refuses them unless it is told otherwise.
        connection.close()
        connection.settings_dict["OPTIONS"]["client_flag"] = CLIENT.MULTI_STATEMENTS | CLIENT.FOUND_ROWS
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1; INSERT INTO app_tag (name) VALUES ('x')")


def executed_comment() -> None:
    with connection.cursor() as cursor:
        cursor.execute("/*! INSERT INTO app_tag (name) VALUES ('x') */")


def a_function_that_writes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT write_tag()")
        cursor.fetchall()


def a_cte_that_writes() -> None:
    with connection.cursor() as cursor:
        cursor.execute("WITH x AS (INSERT INTO app_tag (name) VALUES ('x') RETURNING id) SELECT * FROM x")


MYSQL = [procedure, several_statements, executed_comment, a_function_that_writes]
WAYS = {
    "mysql": MYSQL,
    "mariadb": MYSQL,
    "postgresql": [procedure, copy, several_statements, a_function_that_writes, a_cte_that_writes],
}


def test_another_thread_of_a_request_sees_what_was_written(servers: Cluster):
    def read() -> bool:
        try:
            return Item.objects.filter(pk=item.pk).exists()
        finally:
            connections.close_all()

    pause(servers)
    with request_scope(), ThreadPoolExecutor(1) as pool:
        item = Item.objects.create(name="x")
        assert pool.submit(contextvars.copy_context().run, read).result()


def test_what_was_written_is_seen_over_another_connection(servers: Cluster):
    pause(servers)
    with request_scope():
        item = Item.objects.create(name="x")
        connection.close()
        assert Item.objects.filter(pk=item.pk).exists()


@pytest.fixture
def routines(servers: Cluster, database: str):
    if servers.engine == "postgresql":
        body = "LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app_tag (name) VALUES ('x'); RETURN 1; END $$"
        made = [f"CREATE FUNCTION {name}() RETURNS int {body}" for name in ("add_tag", "write_tag")]
    else:
        insert = "INSERT INTO app_tag (name) VALUES ('x');"
        made = [
            f"CREATE PROCEDURE add_tag() BEGIN {insert} END",
            f"CREATE FUNCTION write_tag() RETURNS INT DETERMINISTIC MODIFIES SQL DATA BEGIN {insert} RETURN 1; END",
        ]
    for sql in made:
        servers.primary.query(sql, database)
    yield
    servers.primary.query("DROP FUNCTION write_tag", database)
    kind = "FUNCTION" if servers.engine == "postgresql" else "PROCEDURE"
    servers.primary.query(f"DROP {kind} add_tag", database)


def composed(text: str) -> Any:
    """A statement as the driver of PostgreSQL composes it."""
    return importlib.import_module(f"{Database.__name__}.sql").SQL(text)


def composed_insert() -> None:
    with connection.cursor() as cursor:
        cursor.execute(composed("INSERT INTO app_tag (name) VALUES ('x')"))


def stream() -> None:
    with connection.cursor() as cursor:
        list(cursor.stream("INSERT INTO app_tag (name) VALUES ('x') RETURNING id"))


def bytes_insert() -> None:
    with connection.cursor() as cursor:
        cursor.execute(b"INSERT INTO app_tag (name) VALUES ('x')")


def hidden_behind_a_carriage_return() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1 -- x\r; INSERT INTO app_tag (name) VALUES ('x')")


def set_statement() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET STATEMENT max_statement_time=5 FOR INSERT INTO app_tag (name) VALUES ('x')")


def not_atomic() -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN NOT ATOMIC INSERT INTO app_tag (name) VALUES ('x'); END")


def a_second_begin() -> None:
    with connection.cursor() as cursor:
        cursor.execute("START TRANSACTION")
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")
        cursor.execute("START TRANSACTION")
        cursor.execute("ROLLBACK")


def a_begin_inside_atomic() -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")
        cursor.execute("BEGIN")
        raise ZeroDivisionError


def after_an_implicit_commit() -> None:
    with connection.cursor() as cursor:
        cursor.execute("BEGIN")
        cursor.execute("CREATE TABLE passing (id int)")
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")
        cursor.execute("DROP TABLE passing")


def after_django_took_autocommit_back() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET autocommit = 0")
        with transaction.atomic():
            pass
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")


def autocommit_by_a_value_that_cannot_be_read() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SET @old = @@autocommit, autocommit = 0")
        cursor.execute("INSERT INTO app_tag (name) VALUES ('x')")
        cursor.execute("SET autocommit = @old")


MYSQL += [
    a_second_begin,
    a_begin_inside_atomic,
    after_an_implicit_commit,
    after_django_took_autocommit_back,
    autocommit_by_a_value_that_cannot_be_read,
]
WAYS["mariadb"] = [*MYSQL, set_statement, not_atomic]
WAYS["postgresql"] += [composed_insert, bytes_insert, hidden_behind_a_carriage_return]
if Database.__name__ == "psycopg":
    WAYS["postgresql"].append(stream)


@pytest.mark.usefixtures("routines")
@pytest.mark.parametrize("debug", [False, True])
def test_every_way_to_write_pins(servers: Cluster, debug: bool):
    with override_settings(DEBUG=debug):
        for way in [sql_insert, *WAYS[servers.engine]]:
            with request_scope():
                assert reason() == "balanced"
                tags = Tag.objects.using("default").count()
                way()
                # Where a driver leaves results behind, they are of no interest here.
                connection.close()
                assert Tag.objects.using("default").count() == tags + 1, way.__name__
                assert reason() == "pinned", way.__name__


def test_new_connections_pin_nothing(servers: Cluster):
    with request_scope():
        for _ in range(2):
            connection.close()
            list(Item.objects.using("default").all()[:1])
            assert reason() == "balanced"


def test_transactions_sent_as_text(servers: Cluster):
    with connection.cursor() as cursor, request_scope():
        cursor.execute("START TRANSACTION" if servers.engine != "postgresql" else "BEGIN ISOLATION LEVEL SERIALIZABLE")
        assert reason() == "transaction"
        Tag.objects.create(name="x")
        cursor.execute("ROLLBACK AND CHAIN")
        assert reason() == "transaction"
        cursor.execute("ROLLBACK")
        assert reason() == "balanced"
        cursor.execute("BEGIN")
        Tag.objects.create(name="x")
        cursor.execute("COMMIT")
        assert reason() == "pinned"


def test_transactions_sent_as_something_else_than_text(servers: Cluster):
    begin = composed("BEGIN") if servers.engine == "postgresql" else b"BEGIN"
    with use_replica(stale_ok=True), connection.cursor() as cursor:
        cursor.execute(begin)
        assert reason() == "transaction"
        cursor.execute("ROLLBACK")
        assert reason() == "balanced"


def test_a_guard_set_inside_a_transaction_would_end_with_it(servers: Cluster):
    connections["replica1"].settings_dict.update(connections.settings["default"])
    connections["replica1"].close()
    with override_settings(REPLICANT={}), transaction.atomic(using="replica1"):
        Tag.objects.using("replica1").create(name="x")
        with override_settings(REPLICANT=EXEMPT):
            Tag.objects.using("replica1").count()
            transaction.set_rollback(True, using="replica1")
    with pytest.raises(ReplicaWriteError):
        Tag.objects.using("replica1").create(name="x")


def test_a_session_without_autocommit_is_read_only_after_a_rollback(servers: Cluster):
    wrapper = connections["replica1"]
    wrapper.settings_dict.update({**connections.settings["default"], "AUTOCOMMIT": False})
    wrapper.close()
    Tag.objects.using("replica1").count()
    wrapper.rollback()
    with pytest.raises(ReplicaWriteError):
        Tag.objects.using("replica1").create(name="x")
    wrapper.rollback()


def test_what_the_server_commits_by_itself_is_visible_at_once(servers: Cluster):
    if servers.engine == "postgresql":
        with request_scope(), contextlib.suppress(ZeroDivisionError), transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE by_itself (id int)")
            raise ZeroDivisionError
        assert "by_itself" not in connection.introspection.table_names()
        return
    with request_scope():
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            tag = Tag.objects.create(name="kept")
            with connection.cursor() as cursor:
                cursor.execute("CREATE TABLE by_itself (id int)")
            raise ZeroDivisionError
        # MySQL commits before a change of schema: the rollback took nothing back, and the scope must know.
        assert Tag.objects.using("default").filter(pk=tag.pk).exists()
        assert reason() == "pinned"
    with connection.cursor() as cursor:
        cursor.execute("DROP TABLE by_itself")


def test_autocommit_turned_off_by_text(servers: Cluster):
    if servers.engine == "postgresql":
        with pytest.raises(DatabaseError), connection.cursor() as cursor:
            cursor.execute("SET autocommit = 0")
        return
    with request_scope(), connection.cursor() as cursor:
        cursor.execute("SET autocommit = 0")
        assert reason() == "transaction"
        Tag.objects.create(name="x")
        cursor.execute("ROLLBACK")
        assert reason() == "transaction"
        cursor.execute("SET autocommit = 1")
        assert reason() == "balanced"
        cursor.execute("SET autocommit = 0")
        Tag.objects.create(name="x")
        cursor.execute("SET autocommit = 1")
        assert reason() == "pinned"


def test_a_rollback_writes_nothing_and_a_commit_does(servers: Cluster):
    with request_scope():
        with contextlib.suppress(ZeroDivisionError), transaction.atomic():
            Item.objects.create(name="x")
            raise ZeroDivisionError
        assert reason() == "balanced"
        with transaction.atomic():
            Item.objects.create(name="x")
        assert reason() == "pinned"
