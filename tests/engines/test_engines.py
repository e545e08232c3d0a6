"""What each engine can tell of writes and of replicas, on real servers."""

from __future__ import annotations

import contextlib
import functools
import importlib
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction
from django.db.backends.mysql import base
from django.test import override_settings

from replicant import _core
from replicant._core import Position
from replicant.connections import causality
from replicant.engines import NOTHING, UNKNOWN, engine_of, query
from replicant.engines import mysql as engine
from tests.app.models import Account, Item, Tag
from tests.databases import ours, use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.servers import Cluster, start

#: Beyond what was asked for, a wait takes a round trip, on a machine that does other things as well.
SLACK_SECONDS = 0.4
NO_REPLICAS: Any = {"default": {"REPLICAS": []}}


def engine_for(alias: str) -> Any:
    connections[alias].ensure_connection()
    return engine_of(connections[alias])


def driver_query(alias: str, sql: str) -> Any:
    with connections[alias].connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def position_of(cluster: Cluster) -> Position:
    """What the primary has written so far, by its administrator's word."""
    text = cluster.primary.position()
    if cluster.engine == "postgresql":
        file = cluster.primary.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        text = f"{int(file[:8], 16)}:{text}"
    return Position(cluster.engine, text)


# What was written, by the answers of MySQL and MariaDB


@pytest.fixture(params=DRIVERS)
def binlog(cluster: Cluster, database: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster behind our engines, on each driver; replicating when the test is over."""
    with mysql_driver(request.param), use_databases(ours(cluster.databases(database))):
        Item.objects.using("default").count()
        yield cluster


on_both = pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


@contextlib.contextmanager
def autocommit_off() -> Iterator[None]:
    connection.set_autocommit(False)
    try:
        yield
    finally:
        connection.rollback()
        connection.set_autocommit(True)


def in_atomic(action: Callable[[], Any]) -> Callable[[], None]:
    def run() -> None:
        with transaction.atomic():
            action()

    return run


def commit_by_hand() -> None:
    connection.set_autocommit(False)
    Tag.objects.create(name="x")
    connection.commit()


def autocommit_on_again() -> None:
    connection.set_autocommit(False)
    Tag.objects.create(name="x")
    connection.set_autocommit(True)


def roll_back() -> None:
    with contextlib.suppress(ZeroDivisionError), transaction.atomic():
        Tag.objects.create(name="x")
        raise ZeroDivisionError


def roll_back_to_a_savepoint() -> None:
    with transaction.atomic():
        roll_back()


@contextlib.contextmanager
def captures() -> Iterator[list[Any]]:
    """What is captured at the moments that count: after a COMMIT, and after what is no read in autocommit."""
    seen: list[Any] = []
    wrapper = connections["default"]

    def look(many: bool = False) -> None:
        seen.append(engine.captured(wrapper, many=many))

    def after(method: Callable[..., Any]) -> Callable[..., None]:
        def wrapped(*args: Any, **kwargs: Any) -> None:
            method(*args, **kwargs)
            look()

        return wrapped

    def statement(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        try:
            return execute(sql, params, many, context)
        finally:
            if wrapper.get_autocommit() and _core.analyse(sql, "mysql"):
                look(many)

    originals = wrapper._commit, wrapper._set_autocommit
    wrapper._commit, wrapper._set_autocommit = map(after, originals)  # type: ignore[method-assign]
    try:
        with wrapper.execute_wrapper(statement):
            yield seen
    finally:
        del wrapper.__dict__["_commit"], wrapper.__dict__["_set_autocommit"]


def published(action: Callable[[], Any]) -> Position | None:
    """All that was captured while `action` ran; it must have been known at once. None for nothing."""
    with captures() as seen:
        action()
    assert seen
    assert UNKNOWN not in seen
    positions = [each for each in seen if each is not NOTHING]
    return functools.reduce(Position.union, positions) if positions else None


PUBLISH = {
    "create": lambda: Tag.objects.create(name="x"),
    "create with a number given": lambda: Tag.objects.create(pk=int(time.time() * 1e3), name="x"),
    "save": lambda: Item(name="x").save(),
    # In batches, for Django 6.0 sends a single batch in autocommit, where MariaDB answers it with a result set.
    "bulk_create": lambda: Tag.objects.bulk_create([Tag(name="x"), Tag(name="y")], batch_size=1),
    "update": lambda: Tag.objects.update(name=f"{time.monotonic_ns()}"),
    "delete": lambda: Tag.objects.all().delete(),
    "insert": lambda: execute("INSERT INTO app_tag (name) VALUES ('x')"),
    "several rows": lambda: execute("INSERT INTO app_tag (name) VALUES ('x'), ('y')"),
    "atomic": in_atomic(lambda: Tag.objects.create(name="x")),
    "atomic that reads last": in_atomic(lambda: [Tag.objects.create(name="x"), Tag.objects.count()]),
    "commit": commit_by_hand,
    "autocommit on": autocommit_on_again,
    "begin and commit as text": lambda: [execute("BEGIN"), Tag.objects.create(name="x"), execute("COMMIT")],
    "create a table": lambda: execute(f"CREATE TABLE t{time.monotonic_ns()} (id int)"),
    "truncate": lambda: execute("TRUNCATE TABLE app_item_tags"),
}
PUBLISH_NOTHING = {
    "rollback": roll_back,
    "rollback to a savepoint": roll_back_to_a_savepoint,
    "an empty transaction": in_atomic(lambda: None),
    "a transaction that reads": in_atomic(lambda: Tag.objects.count()),
    "an update that matches nothing": lambda: Tag.objects.filter(pk=-1).update(name="x"),
    "an update that changes nothing": lambda: Account.objects.filter(owner="nobody").update(balance=0),
    "a transaction whose update matches nothing": in_atomic(lambda: Tag.objects.filter(pk=-1).update(name="x")),
    "a delete that matches nothing": lambda: Tag.objects.filter(pk=-1)._raw_delete("default"),
}


@on_both
@pytest.mark.parametrize("name", PUBLISH)
def test_the_answer_to_a_commit_says_how_far_it_came(binlog: Cluster, name: str):
    Tag.objects.create(name="there")
    before = position_of(binlog)
    captured = published(PUBLISH[name])
    assert captured is not None
    after = position_of(binlog)
    # All of it, and nothing else.
    assert not before.contains(captured)
    assert before.union(captured) == after
    connection.set_autocommit(True)
    later = published(lambda: Tag.objects.create(name="later"))
    assert later is not None
    assert not captured.contains(later)


@on_both
@pytest.mark.parametrize("name", PUBLISH_NOTHING)
def test_what_published_nothing_is_known_to_have_published_nothing(binlog: Cluster, name: str):
    Account.objects.update_or_create(owner="nobody", defaults={"balance": 0})
    before = position_of(binlog)
    assert published(PUBLISH_NOTHING[name]) is None
    assert position_of(binlog) == before


@on_both
def test_knowing_costs_no_statement(binlog: Cluster):
    def statements() -> int:
        return int(driver_query("default", "SHOW SESSION STATUS LIKE 'Questions'")[1])

    def work() -> None:
        Tag.objects.create(name="x")
        with transaction.atomic():
            Tag.objects.create(name="y")

    taken = {}
    for look in (False, True):
        before = statements()
        if look:
            assert published(work) is not None
        else:
            work()
        taken[look] = statements() - before
    # create; SET autocommit, create, COMMIT, SET autocommit; and the question itself.
    assert taken == {False: 6, True: 6}


@on_both
def test_connecting_costs_no_statement_more_than_with_djangos_engine(cluster: Cluster, database: str):
    def statements(databases: dict[str, Any], **settings: Any) -> int:
        with use_databases(databases, **settings):
            connection.ensure_connection()
            # Django asks for the version once per connection object.
            connection.close()
            connection.ensure_connection()
            return int(driver_query("default", "SHOW SESSION STATUS LIKE 'Questions'")[1])

    for driver in DRIVERS:
        with mysql_driver(driver):
            plain = statements(cluster.databases(database), REPLICANT={})
            assert statements(ours(cluster.databases(database))) == plain


@on_both
def test_the_session_is_otherwise_as_django_would_have_it(cluster: Cluster, database: str):
    def settings(databases: dict[str, Any], **options: Any) -> Any:
        databases["default"]["OPTIONS"] = options
        with use_databases(databases):
            connection.ensure_connection()
            level = "tx_isolation" if cluster.engine == "mariadb" else "transaction_isolation"
            found = driver_query("default", f"SELECT @@{level}, @@autocommit, @@sql_mode, @@session_track_schema")
            return found, connection.isolation_level

    for driver in DRIVERS:
        with mysql_driver(driver):
            for options in (
                {},
                {"isolation_level": "repeatable read"},
                {"isolation_level": None},
                {"init_command": "SET sql_mode = 'ANSI', SESSION session_track_schema = OFF"},
            ):
                theirs = settings(cluster.databases(database), **options)
                assert settings(ours(cluster.databases(database)), **options) == theirs
    assert theirs[0][2:] != settings(cluster.databases(database))[0][2:]


@on_both
@pytest.mark.parametrize("tracked", ["", "*", "autocommit,last_insert_id,time_zone"])
def test_what_the_session_tracked_before_it_still_tracks(cluster: Cluster, database: str, tracked: str):
    if cluster.engine == "mariadb":
        tracked = tracked.replace(",last_insert_id", "")
    databases = ours(cluster.databases(database))
    databases["default"]["OPTIONS"] = {"init_command": f"SET session_track_system_variables = '{tracked}'"}
    for driver in DRIVERS:
        with mysql_driver(driver), use_databases(databases):
            Tag.objects.create(name="x")
            assert isinstance(engine.captured(connection), Position)
            names = driver_query("default", "SELECT @@session_track_system_variables")[0].split(",")
            assert set(names) >= set(filter(None, tracked.split(",")))


@on_both
def test_several_statements_at_once_are_not_judged_by_the_last_answer(binlog: Cluster):
    first = Tag.objects.create(name="x")
    with connection.cursor() as cursor:
        # The last one matches nothing.
        cursor.executemany("UPDATE app_tag SET name = %s WHERE id = %s", [["z", first.pk], ["z", -1]])
        assert engine.captured(connection, many=True) is UNKNOWN
    asked = engine.ask_position(connection)
    assert asked is not None
    assert asked.contains(position_of(binlog))


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_an_insert_that_returns_more_than_its_number_has_to_ask(binlog: Cluster):
    before = position_of(binlog)
    assert list(Tag.objects.using("default").raw("INSERT INTO app_tag (name) VALUES ('x') RETURNING *"))
    assert engine.captured(connection) is UNKNOWN
    asked = engine.ask_position(connection)
    assert asked is not None
    assert not before.contains(asked)
    assert asked == position_of(binlog)


@on_both
def test_an_older_answer_is_not_taken_for_the_last_one(binlog: Cluster):
    made = Tag.objects.create(name="x")
    assert isinstance(engine.captured(connection), Position)
    # A result set.
    Tag.objects.using("default").count()
    assert engine.captured(connection) is UNKNOWN
    # An error.
    Tag.objects.create(name="y")
    with captures() as seen, pytest.raises(DatabaseError):
        Tag.objects.create(pk=made.pk, name="again")
    assert seen == [UNKNOWN]
    # The first of several answers.
    with connection.connection.cursor() as cursor:
        sql = "INSERT INTO app_tag (name) VALUES ('x'); INSERT INTO app_tag (name) VALUES ('y')"
        with contextlib.suppress(DatabaseError, connection.Database.Error):
            cursor.execute(sql)  # PyMySQL refuses several statements
        assert engine.captured(connection) is UNKNOWN
    # Another session.
    Tag.objects.create(name="z")
    connection.close()
    assert engine.captured(connection) is UNKNOWN
    connection.ensure_connection()
    assert engine.captured(connection) in (NOTHING, UNKNOWN)


@on_both
def test_a_connection_closed_behind_our_back_is_not_read(binlog: Cluster):
    Tag.objects.create(name="x")
    connection.connection.close()
    assert engine.captured(connection) is UNKNOWN
    # Django would stumble over it.
    connections["default"].connection = None


@on_both
def test_an_answer_that_was_lost_is_not_taken_for_nothing(binlog: Cluster):
    Tag.objects.create(name="x")
    number = connection.connection.thread_id()
    binlog.primary.query(f"KILL {number}")
    with captures() as seen, pytest.raises(OperationalError) as lost:
        Tag.objects.create(name="y")
    assert engine.is_gone(lost.value)
    assert seen == [UNKNOWN]


@on_both
def test_a_procedure_is_judged_by_what_it_wrote(binlog: Cluster):
    execute("DROP PROCEDURE IF EXISTS writes")
    execute(
        "CREATE PROCEDURE writes() BEGIN INSERT INTO app_tag (name) VALUES ('1'); "
        "INSERT INTO app_tag (name) VALUES ('2'); END"
    )
    with connection.cursor() as cursor:
        cursor.callproc("writes")
        captured = engine.captured(connection)
    if captured is UNKNOWN:
        captured = engine.ask_position(connection)
    assert isinstance(captured, Position)
    assert captured.contains(position_of(binlog)) or binlog.engine == "mysql"
    before = position_of(binlog)
    with connection.cursor() as cursor:
        cursor.execute("CALL writes()")
        captured = engine.captured(connection)
    assert isinstance(captured, Position)
    assert before.union(captured).contains(position_of(binlog))


@on_both
@pytest.mark.skipif("mysqlclient" not in DRIVERS, reason="the reports are mysqlclient's")
def test_djangos_own_engine_asks_for_reports_once_per_session(cluster: Cluster, database: str):
    # No cluster: the tracker would have asked for them already.
    with use_databases(cluster.databases(database), REPLICANT={}):
        connection.ensure_connection()
        assert engine.captured(connection) is UNKNOWN
        before = int(driver_query("default", "SHOW SESSION STATUS LIKE 'Questions'")[1])
        engine.prepare_capture(connection)
        engine.prepare_capture(connection)
        assert int(driver_query("default", "SHOW SESSION STATUS LIKE 'Questions'")[1]) - before == 2
        Tag.objects.update(name=f"{time.monotonic_ns()}")
        Tag.objects.create(name="x")
        if cluster.engine == "mysql":
            assert isinstance(engine.captured(connection), Position)
        assert published(in_atomic(lambda: Tag.objects.create(name="x"))) is not None
    # PyMySQL must be told when it connects.
    with mysql_driver("PyMySQL"), use_databases(cluster.databases(database)):
        connection.ensure_connection()
        engine.prepare_capture(connection)
        Tag.objects.create(name="x")
        assert engine.captured(connection) is UNKNOWN
        asked = engine.ask_position(connection)
        assert asked is not None
        assert asked.contains(position_of(cluster))


def test_what_is_not_mysqlclient_is_refused_and_not_followed():
    pytest.importorskip("MySQLdb._mysql")
    code = """
from replicant import _core
import MySQLdb._mysql, sys
class Fake:
    def _get_native_connection(self): return self.capsule
fake = Fake()
try:
    _core.mysql_session_state(fake)
except RuntimeError as error:
    print(error)
# Nowhere, a file that is no library, one that is not loaded, a loaded one without the functions.
paths = ["/nowhere", "\\0", sys.executable, _core.__file__]
print([_core.load_mysql_client(path) for path in paths])
print(_core.load_mysql_client(MySQLdb._mysql.__file__))
import datetime
for fake.capsule in (None, 1, datetime.datetime_CAPI):
    try:
        _core.mysql_session_state(fake)
    except ValueError as error:
        print("refused")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    expected = ["no client library was loaded", "[False, False, False, False]", "True", *["refused"] * 3]
    assert (done.returncode, done.stderr, done.stdout.splitlines()) == (0, "", expected)


def test_a_server_without_gtids_is_not_believed_to_publish_nothing():
    with start("mysql", replicas=0) as cluster:
        cluster.create_database("plain")
        for mode in ("ON_PERMISSIVE", "OFF_PERMISSIVE"):
            cluster.primary.query(f"SET GLOBAL gtid_mode = {mode}")
        for driver in DRIVERS:
            with mysql_driver(driver), use_databases(ours(cluster.databases("plain")), REPLICANT=NO_REPLICAS):
                execute("CREATE TABLE IF NOT EXISTS t (id int)")
                execute("INSERT INTO t VALUES (1)")
                assert engine.captured(connection) is UNKNOWN
                assert engine.ask_position(connection) is None
                assert engine.position(connection) is None
        with use_databases(ours(cluster.databases("plain")), REPLICANT=NO_REPLICAS):
            # Back on, for sessions that begin from then on.
            cluster.primary.query("SET GLOBAL gtid_mode = ON_PERMISSIVE")
            execute("INSERT INTO t VALUES (1)")
            assert isinstance(engine.captured(connection), Position)


def test_tagged_gtids_are_captured_and_waited_for(request: pytest.FixtureRequest):
    with start("mysql", replicas=1) as cluster:
        cluster.create_database("tagged")
        for grant in ("TRANSACTION_GTID_TAG", "SYSTEM_VARIABLES_ADMIN", "REPLICATION_APPLIER"):
            cluster.primary.query(f"GRANT {grant} ON *.* TO application@127.0.0.1")
        for driver in DRIVERS:
            with (
                mysql_driver(driver),
                use_databases(ours(cluster.databases("tagged")), REPLICANT={"default": {"REPLICAS": ["replica1"]}}),
            ):
                execute("CREATE TABLE IF NOT EXISTS t (id int)")
                execute("SET SESSION gtid_next = 'AUTOMATIC:tag'")
                execute("INSERT INTO t VALUES (1)")
                captured = engine.captured(connection)
                assert isinstance(captured, Position)
                assert ":tag:" in str(captured)
                reached = engine_for("replica1").wait(connections["replica1"], captured, 5.0)
                assert reached is not None
                assert reached.contains(captured)


# What was written, by asking


def test_a_question_after_the_commit_says_how_far_it_came(servers: Cluster):
    for autocommit in (True, False):
        connection.ensure_connection()
        connection.set_autocommit(autocommit)
        for _ in range(20):
            before = position_of(servers)
            Tag.objects.create(name="x")
            if not autocommit:
                connection.commit()
            asked = engine_for("default").ask_position(connection)
            assert asked is not None
            assert not before.contains(asked)
            if not autocommit and servers.engine == "postgresql":
                assert not engine_for("default").in_transaction(connection)
            for alias in ("replica1", "replica2"):
                assert engine_for(alias).wait(connections[alias], asked, 5.0)
                assert Tag.objects.using(alias).count() == Tag.objects.using("default").count()
            if not autocommit:
                connection.rollback()
        connection.set_autocommit(True)


@on_both
@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_still_to_be_read_are_not_lost_to_a_question(cluster: Cluster, database: str, driver: str):
    databases = ours(cluster.databases(database))
    known = position_of(cluster)
    with mysql_driver(driver):
        module = base.DatabaseWrapper.Database.__name__
        databases["default"]["OPTIONS"] = {"cursorclass": importlib.import_module(f"{module}.cursors").SSCursor}
        with use_databases(databases):
            Tag.objects.all().delete()
            Tag.objects.bulk_create([Tag(name=f"{number}") for number in range(1000)])
            with connection.cursor() as cursor:
                cursor.execute("SELECT name FROM app_tag ORDER BY id")
                rows = [cursor.fetchone()]
                assert causality.ask("default") is None
                assert causality.position("default") is None
                assert causality.wait("default", known, 0.1) is None
                rows += cursor.fetchall()
            assert [name for (name,) in rows] == [f"{number}" for number in range(1000)]
            # PyMySQL tells when all were read.
            assert (causality.ask("default") is None) is (driver == "mysqlclient")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_question_does_not_wait_for_rows_that_its_own_thread_is_to_read(servers: Cluster):
    pytest.importorskip("psycopg", reason="psycopg 2 cannot stream")
    known = write()
    with connection.connection.cursor() as cursor:
        rows = cursor.stream("SELECT generate_series(1, 1000)")
        read = [next(rows)]
        assert causality.ask("default") is None
        assert causality.position("default") is None
        assert causality.wait("default", known, 0.1) is None
        read += rows
    assert len(read) == 1000
    assert causality.ask("default") is not None


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_connection_lost_just_after_an_answer_is_an_error_of_djangos(
    servers: Cluster, monkeypatch: pytest.MonkeyPatch
):
    def ask_and_lose(wrapper: Any, sql: str) -> Any:
        row = query.ask(wrapper, sql)
        number = wrapper.connection.info.backend_pid
        servers.primary.query(f"SELECT pg_terminate_backend({number}, 5000)")
        return row

    monkeypatch.setattr("replicant.engines.postgresql.ask", ask_and_lose)
    connection.ensure_connection()
    connection.set_autocommit(False)
    with pytest.raises(OperationalError):
        engine_for("default").ask_position(connection)
    connection.close()


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_start_of_a_block_is_no_place_to_wait_for(servers: Cluster):
    """Insert positions behind a block's header are never replayed up to, until something more is written."""
    seen = 0
    for number in range(4000):
        size = 50 + number * 7 % 300
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_logical_emit_message(true, 'x', repeat('x', %s)), 1", [size])
        inserted = connection_lsn()
        if inserted % 8192 in (24, 40):
            asked = engine_for("default").ask_position(connection)
            if connection_lsn() == inserted:
                seen += 1
                assert engine_for("replica1").wait(connections["replica1"], asked, 5.0)
        if seen == 3:
            break
    assert seen


def connection_lsn() -> int:
    text = driver_query("default", "SELECT pg_current_wal_insert_lsn()")[0]
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_segments_of_the_usual_size_are_measured_too(servers: Cluster):
    from replicant.engines.postgresql import _end_of_record

    kib, mib = 1024, 1024**2
    for segment in (mib, 16 * mib, 1024 * mib):
        assert _end_of_record(segment + 40, 8 * kib, segment) == segment
        assert _end_of_record(segment + 8 * kib + 24, 8 * kib, segment) == segment + 8 * kib
        assert _end_of_record(segment + 8 * kib + 40, 8 * kib, segment) == segment + 8 * kib + 40
        assert _end_of_record(segment + 48, 8 * kib, segment) == segment + 48
    # With 16 MiB, the start of the second MiB is that of a block only.
    assert _end_of_record(17 * mib + 24, 8 * kib, 16 * mib) == 17 * mib
    assert _end_of_record(17 * mib + 24, 8 * kib, mib) == 17 * mib


# What matched nothing


NOTHING_CHANGED = [
    "UPDATE app_tag SET name = 'x' WHERE id = -1",
    "  update app_tag set name = upper('x') where id in (-1, -2)",
    "DELETE FROM app_tag WHERE id = -1",
]
SOMETHING_CHANGED = [
    "INSERT INTO app_tag (name) VALUES ('x')",
    "UPDATE app_tag SET name = 'changed'",
    "CREATE TABLE some_table (id int)",
    "DROP TABLE some_table",
]


def changed_nothing(sql: str, alias: str = "default") -> bool:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return bool(engine_of(connections[alias]).changed_nothing(connections[alias], cursor, sql))


def test_an_update_that_matched_nothing_is_told_from_one_that_changed_something(servers: Cluster):
    Tag.objects.create(name="x")
    assert [sql for sql in NOTHING_CHANGED if not changed_nothing(sql)] == []
    assert [sql for sql in SOMETHING_CHANGED if changed_nothing(sql)] == []


@pytest.mark.usefixtures("site")
@override_settings(REPLICANT={})  # The tracker would ask first, and be told.
def test_sqlite_counts_the_rows_that_change():
    Tag.objects.create(name="x")
    changed_nothing("SELECT 1")
    extra = [
        "INSERT INTO app_tag (name) SELECT name FROM app_tag WHERE id = -1",
        "WITH none AS (SELECT -1 AS id) DELETE FROM app_tag WHERE id IN (SELECT id FROM none)",
    ]
    assert [sql for sql in [*NOTHING_CHANGED, *extra] if not changed_nothing(sql)] == []
    assert [sql for sql in SOMETHING_CHANGED if changed_nothing(sql)] == []
    execute("CREATE VIEW tags AS SELECT * FROM app_tag")
    execute(
        "CREATE TRIGGER tagging INSTEAD OF INSERT ON tags "
        "BEGIN INSERT INTO app_tag (name) VALUES (new.name || '!'); END"
    )
    assert not changed_nothing("INSERT INTO tags (name) VALUES ('by a trigger')")
    # Not told in between: then it is not sure.
    execute("INSERT INTO app_tag (name) VALUES ('unseen')")
    assert not changed_nothing(NOTHING_CHANGED[0])
    connection.close()
    assert changed_nothing(NOTHING_CHANGED[0])


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_what_acts_without_a_row_is_never_taken_for_nothing(servers: Cluster):
    execute("CREATE TABLE log (at timestamptz DEFAULT now())")
    for table in ("triggered", "ruled", "plain"):
        execute(f"CREATE TABLE {table} (id int, name text)")
    execute(
        "CREATE FUNCTION logs() RETURNS trigger LANGUAGE plpgsql AS "
        "$$ BEGIN INSERT INTO log DEFAULT VALUES; RETURN NULL; END $$"
    )
    execute("CREATE TRIGGER t AFTER UPDATE ON triggered FOR EACH STATEMENT EXECUTE FUNCTION logs()")
    execute("CREATE RULE r AS ON DELETE TO ruled DO ALSO INSERT INTO log DEFAULT VALUES")
    execute("CREATE VIEW seen AS SELECT * FROM triggered")
    execute("CREATE FUNCTION writes() RETURNS int LANGUAGE sql AS $$ INSERT INTO log DEFAULT VALUES RETURNING 1 $$")
    execute('CREATE SCHEMA other; CREATE TABLE other."odd name" (id int)')
    acts = [
        "UPDATE triggered SET name = 'x' WHERE id = -1",
        "UPDATE ONLY public.\"triggered\" SET name = 'x' WHERE id = -1",
        "DELETE FROM ruled WHERE id = -1",
        "UPDATE seen SET name = 'x' WHERE id = -1",
        "UPDATE plain SET name = 'x' WHERE id = writes() AND id = -1",
        "WITH more AS (INSERT INTO log DEFAULT VALUES) UPDATE plain SET name = 'x' WHERE id = -1",
        "INSERT INTO log DEFAULT VALUES; UPDATE plain SET name = 'x' WHERE id = -1",
        "UPDATE plain SET name = 'x' WHERE id = (SELECT nextval('app_tag_id_seq'))",
    ]
    assert [sql for sql in acts if changed_nothing(sql)] == []
    quiet = [
        "UPDATE plain SET name = 'x' WHERE id = -1",
        "DELETE FROM ONLY public.plain WHERE id = -1",
        'DELETE FROM other."odd name" WHERE id = -1',
    ]
    assert [sql for sql in quiet if not changed_nothing(sql)] == []


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_table_is_looked_up_once_per_session(servers: Cluster):
    before = servers.primary.statements()
    for _ in range(5):
        assert changed_nothing(NOTHING_CHANGED[0])
    assert servers.primary.statements() - before == 1


@pytest.mark.parametrize("reported", [b"\xff", b"no position"])
def test_a_report_that_cannot_be_read_fails_no_write(reported: bytes):
    driver = object()
    session = engine._Session(driver, "mysql", lambda variable=None: reported)
    assert engine.captured(SimpleNamespace(connection=driver, _replicant_session=session)) is UNKNOWN


# What has arrived


def write() -> Position:
    Tag.objects.create(name="x")
    position = engine_for("default").ask_position(connection)
    assert position is not None
    return position


def wait(alias: str, position: Position, seconds: float) -> tuple[Position | None, float]:
    """What waiting gave, and how long it took."""
    waiter = engine_for(alias)
    start = time.monotonic()
    reached = waiter.wait(connections[alias], position, seconds)
    return reached, time.monotonic() - start


def test_a_replica_that_has_it_answers_with_what_it_has(servers: Cluster):
    position = write()
    reached, _ = wait("replica1", position, 5.0)
    assert reached is not None
    assert reached.kind == servers.engine
    assert reached.contains(position)
    again = engine_for("replica1").position(connections["replica1"])
    assert again is not None
    assert again.contains(position)
    for seconds in (0, 0.000_01, 0.02):
        reached, took = wait("replica1", position, seconds)
        assert reached is not None
        assert took < SLACK_SECONDS


@pytest.mark.parametrize("seconds", [0, 0.000_01, 0.0123, 0.25])
def test_a_wait_that_times_out_takes_no_longer_than_asked(servers: Cluster, seconds: float):
    servers.replicas[0].pause_replication()
    position = write()
    reached, took = wait("replica1", position, seconds)
    assert reached is None
    assert seconds * 0.9 <= took < seconds + SLACK_SECONDS


def test_a_wait_ends_when_the_change_arrives(servers: Cluster):
    servers.replicas[0].pause_replication()
    position = write()
    assert wait("replica1", position, 0)[0] is None
    resume = threading.Timer(0.2, servers.replicas[0].resume_replication)
    resume.start()
    reached, took = wait("replica1", position, 20.0)
    resume.join()
    assert reached is not None
    assert reached.contains(position)
    assert 0.1 < took < 10.0
    assert Tag.objects.using("replica1").count() == Tag.objects.using("default").count()


def test_a_wait_is_one_statement(servers: Cluster):
    position = write()
    for seconds in (0, 5.0):
        engine_for("replica1")
        before = servers.replicas[0].statements()
        wait("replica1", position, seconds)
        assert servers.replicas[0].statements() - before == 1


def test_a_wait_begins_no_transaction(servers: Cluster):
    servers.replicas[0].pause_replication()
    there = connections["replica1"]
    there.ensure_connection()
    there.set_autocommit(False)
    position = write()
    assert wait("replica1", position, 0.02)[0] is None
    servers.replicas[0].resume_replication()
    assert wait("replica1", position, 10.0)[0] is not None
    # No snapshot of before stands in the way.
    assert Tag.objects.using("replica1").count() == Tag.objects.using("default").count()
    there.rollback()
    there.set_autocommit(True)


def test_the_wait_of_one_thread_lets_the_others_run(servers: Cluster):
    servers.replicas[0].pause_replication()
    position = write()
    engine_for("replica1")
    ticks, done = 0, threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not done.wait(0.005):
            ticks += 1

    ticking = threading.Thread(target=tick)
    ticking.start()
    wait("replica1", position, 0.4)
    done.set()
    ticking.join()
    assert ticks > 20


def test_a_primary_never_makes_anybody_wait_for_what_it_has(servers: Cluster):
    position = write()
    reached, took = wait("default", position, 5.0)
    assert reached is not None
    assert took < SLACK_SECONDS


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_a_primary_is_not_waited_for_at_all(servers: Cluster):
    # MySQL alone can wait there, and knows when the position is its own.
    write()
    future = Position(servers.engine, {"mariadb": "0-1-99999999", "postgresql": "1:FFFF/0"}[servers.engine])
    reached, took = wait("default", future, 3.0)
    assert reached is None
    assert took < SLACK_SECONDS


def test_a_position_of_another_kind_is_reached_by_nobody(servers: Cluster):
    foreign = {"mysql": "mariadb", "mariadb": "postgresql", "postgresql": "mysql"}[servers.engine]
    text = {"mysql": f"{'0' * 8}-0000-0000-0000-{'0' * 12}:1", "mariadb": "0-1-1", "postgresql": "1:0/1"}[foreign]
    reached, took = wait("replica1", Position(foreign, text), 3.0)
    assert reached is None
    assert took < SLACK_SECONDS


def test_a_server_lost_during_the_wait_is_an_operational_error(servers: Cluster):
    replica = servers.replicas[0]
    replica.pause_replication()
    position = write()
    engine_for("replica1")
    kill = threading.Timer(0.2, replica.kill)
    kill.start()
    try:
        with pytest.raises(OperationalError) as lost:
            wait("replica1", position, 20.0)
        assert engine_of(connections["replica1"]).is_gone(lost.value)
        kill.join()
        connections["replica1"].close()
        with pytest.raises(OperationalError) as refused:
            connections["replica1"].ensure_connection()
        assert engine_of(connections["replica1"]).is_gone(refused.value)
    finally:
        kill.join()
        replica.restart()


def test_an_error_of_the_statement_says_nothing_of_the_server(servers: Cluster):
    with pytest.raises(DatabaseError) as wrong:
        execute("SELECT nonsense")
    assert not engine_for("default").is_gone(wrong.value)


@pytest.fixture(params=["mysql", "mariadb", "postgresql"])
def own_cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A cluster whose roles may change."""
    with start(request.param, replicas=2) as cluster:
        cluster.create_database("own")
        yield cluster


def test_positions_go_on_after_a_promotion(own_cluster: Cluster):
    with use_databases(own_cluster.databases("own")):
        execute("CREATE TABLE t (id int)")
        before = engine_for("default").ask_position(connection)
        assert before is not None
        for alias in ("replica1", "replica2"):
            assert wait(alias, before, 5.0)[0] is not None
    own_cluster.promote(own_cluster.replicas[0])
    databases = own_cluster.databases("own")
    with use_databases(databases, REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        execute("INSERT INTO t VALUES (1)")
        after = engine_for("default").ask_position(connection)
        assert after is not None
        assert after.comparable(before) == (own_cluster.engine != "postgresql")
        assert not before.contains(after)
        if own_cluster.engine == "postgresql":
            # An ordinary user learns of the new timeline at the standby's next restartpoint, and is told "no" until
            # then; one who may read statistics learns it at once.
            own_cluster.wait_until_caught_up()
            assert wait("replica1", after, 0.1)[0] is None
            own_cluster.primary.query("GRANT pg_monitor TO application")
            own_cluster.wait_until_caught_up()
            assert wait("replica1", after, 5.0)[0] is not None
            own_cluster.primary.query("REVOKE pg_monitor FROM application")
            own_cluster.primary.query("CHECKPOINT")
            own_cluster.wait_until_caught_up()
            own_cluster.replicas[0].query("CHECKPOINT")
        reached, _ = wait("replica1", after, 5.0)
        assert reached is not None
        assert reached.contains(after)
        assert reached.contains(before) == (own_cluster.engine != "postgresql")
        # The new primary itself, which was a replica, is not waited for.
        reached, took = wait("default", after, 3.0)
        assert reached is not None
        assert took < SLACK_SECONDS


def test_psycopgs_own_errors_are_known_by_their_state():
    psycopg = pytest.importorskip("psycopg")
    judge = engine_of(type("Connection", (), {"vendor": "postgresql"})())  # type: ignore[arg-type]
    gone = [psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow]
    gone += [psycopg.errors.ConnectionFailure, psycopg.OperationalError]
    here = [psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable, psycopg.errors.TooManyConnections]
    here += [psycopg.errors.SerializationFailure, psycopg.errors.InvalidPassword]
    assert [error for error in gone if not judge.is_gone(error("x"))] == []
    assert [error for error in here if judge.is_gone(error("x"))] == []
