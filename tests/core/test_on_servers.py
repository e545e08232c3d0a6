"""The promise, on real primaries and replicas. Every test runs on MySQL, MariaDB and PostgreSQL."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import io
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pymysql
import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.backends.postgresql.base import Database
from django.test import Client, override_settings
from django.test.utils import CaptureQueriesContext
from pymysql.constants import CLIENT

from replicant import ReplicaWriteError, checks, explain, request_scope, use_primary, use_replica
from replicant.checks import check_servers
from replicant.tracing import Query, record_queries
from tests.app.models import Account, Item, Tag
from tests.databases import HOWEVER_LATE
from tests.naive import NaiveRouter
from tests.servers import Cluster, Node

#: Of each kind; elsewhere fewer will do.
PAIRS = {"mysql": 500, "mariadb": 100, "postgresql": 100}
NAIVE_PAIRS = 50
EXEMPT = {"default": {**HOWEVER_LATE["default"], "PRIMARY_ONLY": ["app.Account"]}}


def reason() -> str | None:
    return explain(Item).reason


def pause(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        replica.pause_replication()


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


# Writes, whoever sends them.


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


@contextlib.contextmanager
def taking_turns(nodes: Sequence[Node]) -> Iterator[int]:
    """A port behind which the servers answer in turn, a connection each: a balancer, or a reader endpoint."""
    sockets = [socket.create_server(("127.0.0.1", 0))]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def listen() -> None:
        with contextlib.suppress(OSError):
            for node in itertools.cycle(nodes):
                client, _ = sockets[0].accept()
                server = socket.create_connection((node.host, node.port))
                sockets.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield sockets[0].getsockname()[1]
    finally:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_w015_several_servers_behind_one_alias(servers: Cluster):
    aliases = ["default", "replica1", "replica2"]
    assert check_servers(None, databases=aliases) == []
    with taking_turns(servers.replicas) as port:
        connections.settings["replica1"] = {**connections.settings["replica1"], "PORT": port}
        (told,) = check_servers(None, databases=aliases)
        assert told.id == "replicant.W015"
        assert "'replica1'" in told.msg
        assert check_servers(None, databases=["default"]) == []


def test_w015_a_server_that_is_restarted_between_two_looks_is_one_server(
    servers: Cluster, monkeypatch: pytest.MonkeyPatch
):
    looks: list[str] = []

    def look(alias: str) -> str:
        if len(looks) == 2:
            servers.replicas[0].restart()
        looks.append(server_of(alias))
        return looks[-1]

    server_of = checks._server
    monkeypatch.setattr(checks, "_server", look)
    assert check_servers(None, databases=["replica1"]) == []
    assert len(looks) == 4
    assert len(set(looks)) == 1
    assert looks[0]
