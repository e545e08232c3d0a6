"""The position of a write as MySQL and MariaDB report it with the answer to a COMMIT."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connection, connections, transaction

from replicant import _core
from replicant._core import Position
from replicant.engines import NOTHING, UNKNOWN
from replicant.engines import mysql as engine
from tests.app.models import Account, Item, Tag
from tests.databases import ours, use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.engines.positions import driver_query, engine_for, execute, on_both, position_of
from tests.servers import Cluster, start

NO_REPLICAS: Any = {"default": {"REPLICAS": []}}


@pytest.fixture(params=DRIVERS)
def binlog(cluster: Cluster, database: str, request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """The cluster behind our engines, on each driver; replicating when the test is over."""
    with mysql_driver(request.param), use_databases(ours(cluster.databases(database))):
        Item.objects.using("default").count()
        yield cluster


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


@pytest.mark.servers
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


@pytest.mark.servers
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


@pytest.mark.parametrize("reported", [b"\xff", b"no position"])
def test_a_report_that_cannot_be_read_fails_no_write(reported: bytes):
    driver = object()
    session = engine._Session(driver, "mysql", lambda variable=None: reported)
    assert engine.captured(SimpleNamespace(connection=driver, _replicant_session=session)) is UNKNOWN
