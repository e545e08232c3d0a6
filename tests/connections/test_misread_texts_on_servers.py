"""Statements on a primary whose session reads them otherwise than they look: ``SET NAMES gbk``.

With GBK and Big5 the server takes the last byte of a character with the backtick or the backslash that follows it for
another character. So a statement that looks like a read may write, lock or change the session. On MySQL and MariaDB,
with Django's own engines and with ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connection, connections

from replicant import explain, request_scope, use_primary
from replicant.connections.tracker import track
from replicant.engines.encoding import is_ascii
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.monitoring import watching
from tests.servers import Cluster

SETTINGS = watching(0.05, WAIT_SECONDS=0)
ON_MYSQL = pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)
#: Of both the server takes `中 with the backtick after it for one name, which ends at the next backtick.
CHARACTER_SETS = ["gbk", "big5"]


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=SETTINGS):
        Item.objects.using("default").get_or_create(pk=1, defaults={"name": "one"})
        connection.close()
        cluster.wait_until_caught_up()
        yield cluster
        for replica in cluster.replicas:
            replica.resume_replication()
        cluster_monitor.stop()


@pytest.fixture
def function(cluster: Cluster, database: str) -> Iterator[None]:
    cluster.primary.query(
        "CREATE FUNCTION add_item() RETURNS INT DETERMINISTIC MODIFIES SQL DATA "
        "BEGIN INSERT INTO app_item (name) VALUES ('hidden'); RETURN 1; END",
        database,
    )
    yield
    cluster.primary.query("DROP FUNCTION add_item", database)


def hidden(expression: str, rest: str = "") -> str:
    """A statement that looks like a read of two columns, and evaluates ``expression`` in such a session."""
    return f"SELECT 1 AS `中`, `, {expression} {rest}-- `"


def execute(sql: str | bytes, params: list[object] | None = None) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql, params)
        cursor.fetchall()


def is_locked_by_name(cluster: Cluster) -> bool:
    return str(cluster.primary.query("SELECT IS_FREE_LOCK('a')")[0][0]) == "0"


def reason() -> str | None:
    return explain(Item).reason


def known_by_the_driver(character_set: str) -> None:
    """Open a session whose driver knows the character set."""
    connection.close()
    connection.settings_dict["OPTIONS"] = {**connection.settings_dict["OPTIONS"], "charset": character_set}
    connection.ensure_connection()


@ON_MYSQL
@pytest.mark.parametrize("name", CHARACTER_SETS)
@pytest.mark.usefixtures("function")
def test_a_write_that_the_text_hides_is_waited_for(shop: Cluster, name: str):
    for replica in shop.replicas:
        replica.pause_replication()
    count = Item.objects.using("default").filter(name="hidden").count()
    with request_scope():
        execute(f"SET NAMES {name}")
        execute(hidden("add_item() "))
        # The session that was changed is gone; the write is not.
        connection.close()
        assert Item.objects.using("default").filter(name="hidden").count() == count + 1
        connection.close()
        assert reason() == "pinned"


@ON_MYSQL
@pytest.mark.parametrize("name", CHARACTER_SETS)
def test_a_lock_and_a_variable_that_the_text_hides_are_found(shop: Cluster, name: str):
    for expression in ("GET_LOCK(0x61, 0)", "@tenant := 7"):
        for text in (hidden(expression), hidden(expression).encode()):
            with request_scope():
                execute(f"SET NAMES {name}")
                # The tracker forgets this change here, so that the text alone is left to tell.
                tracker = track(connections["default"])
                tracker.session = None
                tracker.consider_session()
                assert reason() == "balanced"
                execute(text)
                assert is_locked_by_name(shop) is expression.startswith("GET_LOCK")
                assert reason() == "session_state"
                connection.close()


@ON_MYSQL
def test_rows_that_are_locked_by_what_the_text_hides_are_seen_by_the_reads_that_follow(shop: Cluster):
    for replica in shop.replicas:
        replica.pause_replication()
    with request_scope():
        assert reason() == "balanced"
        shop.primary.query("UPDATE app_item SET name = 'theirs' WHERE id = 1", connection.settings_dict["NAME"])
        execute("SET NAMES gbk")
        execute("SELECT id AS `中`, ` FROM app_item FOR UPDATE -- `")
        connection.close()
        assert reason() == "pinned"


@ON_MYSQL
@pytest.mark.parametrize("driver", DRIVERS)
def test_a_parameter_that_the_driver_quotes_for_another_character_set_may_be_code(shop: Cluster, driver: str):
    for replica in shop.replicas:
        replica.pause_replication()
    with mysql_driver(driver), request_scope():
        shop.primary.query("UPDATE app_item SET name = 'theirs' WHERE id = 1", connection.settings_dict["NAME"])
        execute("SET NAMES gbk")
        execute("SELECT %s", ["中\\' , GET_LOCK(0x61, 0) -- "])
        # The library of mysqlclient hears of the character set from the server.
        assert is_locked_by_name(shop) is (driver == "PyMySQL")
        connection.close()
        assert reason() == "pinned"
        connections.close_all()


@ON_MYSQL
def test_ascii_and_other_sessions_are_read_as_before(shop: Cluster):
    with request_scope():
        execute("SELECT 'é', '中'")
        execute("SELECT %s", ["é"])
        assert reason() == "balanced"
        execute("SET NAMES gbk")
        execute("SELECT %s", ["plain"])
        connection.close()
        assert reason() == "balanced"
        known_by_the_driver("gbk")
        execute("SELECT 'plain', %s", ["中"])
        assert reason() == "balanced"
        execute("SELECT '中'")
        assert reason() == "session_state"


@ON_MYSQL
def test_the_server_is_asked_once_for_each_state_of_the_session(shop: Cluster):
    with use_primary():
        execute("SELECT 'é'")
        before = shop.primary.statements()
        for _ in range(3):
            execute("SELECT 'é'")
        assert shop.primary.statements() - before == 3


def test_parameters_beyond_ascii_are_told_from_others():
    for params in (None, [], ["a", 1, None, b"a"], {"a": "b"}, ("x",)):
        assert is_ascii(params)
    for params in (["é"], {"a": "é"}, [b"\xe4"], [bytearray(b"\xe4")], ["a", ("é",)]):
        assert not is_ascii(params)
