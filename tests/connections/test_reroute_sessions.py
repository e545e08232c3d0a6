"""What stands in the way when a read is to be executed again: the sessions here and there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connections, router

from replicant import _core
from replicant.connections import observations
from tests.app.models import Item
from tests.connections.failing_replicas import SECONDS, end_session, names, session_of, state, stocked
from tests.databases import ours, use_databases
from tests.monitoring import NEVER, watching
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

ITEMS = Item._meta.db_table


@pytest.fixture
def reading(servers: Cluster, database: str) -> Iterator[Cluster]:
    """Our engines, and three items on every member."""
    with stocked(servers, database), use_databases(ours(servers.databases(database)), REPLICANT=watching(NEVER)):
        router.db_for_read(Item)
        yield servers


def execute(sql: str) -> tuple[object, ...]:
    with connections["replica1"].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_the_primarys_connection_may_have_ended_unnoticed_before_it_stands_in(reading: Cluster):
    end_session(reading.primary, session_of("default"))
    for node in reading.replicas:
        node.kill()
    assert names() == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_the_primarys_connection_is_not_opened_anew_where_that_would_hide_the_end_of_a_transaction(reading: Cluster):
    session = session_of("default")
    with connections["default"].cursor() as cursor:
        cursor.execute("BEGIN")
    end_session(reading.primary, session)
    for node in reading.replicas:
        node.kill()
    with pytest.raises(DatabaseError):
        names()
    connections["default"].close()


@pytest.mark.parametrize("cluster", ["mysql", "postgresql"], indirect=True)
def test_to_explain_a_query_changes_nothing_in_a_session(reading: Cluster):
    assert Item.objects.using("replica1").explain()
    execute("SHOW search_path" if connections["replica1"].vendor == "postgresql" else "SHOW TABLES")
    end_session(reading.replicas[0], session_of("replica1"))
    assert names() == ["0", "1", "2"]


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_a_session_with_a_variable_of_its_own_is_not_exchanged_for_another(reading: Cluster):
    assert execute("SELECT @tenant := 1") == (1,)
    end_session(reading.replicas[0], session_of("replica1"))
    with pytest.raises(DatabaseError):
        execute(f"SELECT count(*) FROM {ITEMS} WHERE @tenant = 1")


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_what_the_statement_before_has_found_is_not_asked_of_another_session(reading: Cluster):
    assert execute(f"SELECT SQL_CALC_FOUND_ROWS name FROM {ITEMS} LIMIT 1") is not None
    with connections["replica1"].cursor() as cursor:
        end_session(reading.replicas[0], str(connections["replica1"].connection.thread_id()))
        with pytest.raises(DatabaseError):
            cursor.execute("SELECT FOUND_ROWS()")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_rows_that_still_come_are_read_to_the_end_though_their_replica_was_taken_out_of_service(reading: Cluster):
    items = iter(Item.objects.using("replica1").order_by("name").iterator(chunk_size=1))
    assert next(items).name == "0"
    observations.report("replica1", "gone")
    _core.set_state("replica1", "up")
    before = connections["replica1"].connection
    assert names() == ["0", "1", "2"]
    assert [item.name for item in items] == ["1", "2"]
    assert names() == ["0", "1", "2"]
    assert connections["replica1"].connection is not before


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_whoever_tries_to_connect_finds_a_replica_gone_for_all(reading: Cluster):
    connections["replica1"].close()
    reading.replicas[0].kill()
    # As when it is asked how far it is.
    with pytest.raises(DatabaseError):
        connections["replica1"].ensure_connection()
    assert state("replica1") == "down"


@contextlib.contextmanager
def impatient(node: Node) -> Iterator[None]:
    """A standby that applies at once what it has received, whoever still reads."""
    node.query("ALTER SYSTEM SET max_standby_streaming_delay = 0")
    node.query("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        node.query("ALTER SYSTEM RESET max_standby_streaming_delay")
        node.query("SELECT pg_reload_conf()")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_read_that_a_standby_cancels_for_what_it_applies_is_answered_by_another(reading: Cluster, database: str):
    node = reading.replicas[0]
    found: list[object] = []
    rows = f"generate_series(1, CASE current_setting('port') WHEN '{node.port}' THEN 1000000000 ELSE 1 END)"

    def read() -> None:
        try:
            found.append(execute(f"SELECT count(*) FROM {ITEMS}, {rows}"))
        except DatabaseError as error:
            found.append(error)
        finally:
            connections.close_all()

    running = (
        f"SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE '%{ITEMS}, generate_series%'"
    )
    with impatient(node):
        thread = threading.Thread(target=read)
        thread.start()
        wait_until(lambda: node.value(f"{running} AND pid <> pg_backend_pid()") == "1", SECONDS, "it is read")
        reading.primary.query(f"DO $$ BEGIN LOCK TABLE {ITEMS} IN ACCESS EXCLUSIVE MODE; END $$", database)
        thread.join()
    assert found == [(3,)]
    assert state("replica1") == "up"
