"""A session of the primary that was changed: its reads stay there, or the change is copied to the replicas' sessions.

On real servers, with Django's own engines and with ours.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import DatabaseError, connection, connections, transaction
from django.db.backends.signals import connection_created
from django.test import override_settings

from replicant import _core, request_scope, use_replica
from replicant.connections.tracked import session_differs
from replicant.monitor import cluster_monitor
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.connections.session_state import execute, reason, settings
from tests.connections.session_state import shop as shop
from tests.databases import ours, use_databases
from tests.servers import Cluster

MYSQL, POSTGRESQL = ["mysql", "mariadb"], ["postgresql"]
ITEMS = Item._meta.db_table
#: The application's account may use databases of such names.
ACME = "test_test_session_state_on_servers_acme"


@pytest.fixture
def acme(cluster: Cluster, database: str) -> Iterator[str]:
    """Another tenant: a schema, or a database, whose table of items has a row that the first one lacks."""
    primary = cluster.primary
    if cluster.engine == "postgresql":
        primary.query(f"CREATE SCHEMA {ACME}", database)
        primary.query(f"CREATE TABLE {ACME}.{ITEMS} (LIKE {ITEMS} INCLUDING ALL)", database)
        primary.query(f"GRANT ALL ON SCHEMA {ACME} TO PUBLIC", database)
        primary.query(f"GRANT ALL ON {ACME}.{ITEMS} TO PUBLIC", database)
    else:
        primary.query(f"CREATE DATABASE {ACME}")
        primary.query(f"CREATE TABLE {ACME}.{ITEMS} LIKE {database}.{ITEMS}", database)
    primary.query(f"INSERT INTO {ACME}.{ITEMS} (id, name) VALUES (7, 'of acme')", database)
    cluster.wait_until_caught_up()
    yield ACME
    kind = "SCHEMA" if cluster.engine == "postgresql" else "DATABASE"
    cascade = "CASCADE" if cluster.engine == "postgresql" else ""
    primary.query(f"DROP {kind} {ACME} {cascade}", database if cascade else None)
    cluster.wait_until_caught_up()


@pytest.fixture
def carrying(cluster: Cluster, database: str) -> Iterator[Cluster]:
    """Our engines, which copy the schema or the database, a setting of the user's and the time zone."""
    names = (
        ["search_path", "app.tenant", "TimeZone"]
        if cluster.engine == "postgresql"
        else ["database", "@tenant", "time_zone"]
    )
    with use_databases(ours(cluster.databases(database)), REPLICANT=settings(SESSION_STATE=names)):
        yield cluster
        cluster_monitor.stop()


def names() -> tuple[str, list[str]]:
    """Where the router sends a read, and what is found there."""
    with record_queries() as queries:
        found = list(Item.objects.order_by("pk").values_list("name", flat=True))
    return queries[-1].alias, found


def choose(cluster: Cluster, tenant: str) -> None:
    execute(f"SET search_path TO {tenant}" if cluster.engine == "postgresql" else f"USE {tenant}")


# Reads stay on the primary.

CHANGES = {
    "search_path": ("postgresql", "SET search_path TO public, pg_catalog", "RESET search_path"),
    "session search_path": ("postgresql", "SET SESSION search_path = public", "SET search_path TO DEFAULT"),
    "time zone": ("postgresql", "SET TIME ZONE 'Asia/Tokyo'", "RESET TIME ZONE"),
    "role": ("postgresql", "SET ROLE application", "RESET ROLE"),
    "own setting": ("postgresql", "SET app.tenant = '7'", "RESET app.tenant"),
    "set_config": ("postgresql", "SELECT set_config('app.tenant', '7', false)", "RESET ALL"),
    "discarded": ("postgresql", "SELECT set_config('app.tenant', '7', false)", "DISCARD ALL"),
    "temporary": ("postgresql", "CREATE TEMPORARY TABLE own (id int)", "DISCARD TEMP"),
    "into temp": ("postgresql", "SELECT 1 AS one INTO TEMP own2", "DISCARD ALL"),
    "advisory lock": ("postgresql", "SELECT pg_advisory_lock(7)", "SELECT pg_advisory_unlock(7)"),
    "two locks": ("postgresql", "SELECT pg_advisory_lock(7), pg_advisory_lock(8)", "SELECT pg_advisory_unlock_all()"),
    "prepared": ("postgresql", "PREPARE one AS SELECT 1", "DEALLOCATE one"),
    "use": ("mysql", "USE information_schema", None),
    "mode": ("mysql", "SET sql_mode = 'ANSI_QUOTES'", None),
    "session mode": ("mysql", "SET SESSION sql_mode = 'ANSI_QUOTES'", "SET sql_mode = DEFAULT"),
    "zone": ("mysql", "SET @@SESSION.time_zone = '+09:00'", "SET time_zone = DEFAULT"),
    "user variable": ("mysql", "SET @tenant = 7", None),
    "assigned in a query": ("mysql", "SELECT @tenant := 7", None),
    "into a variable": ("mysql", "SELECT 7 INTO @tenant", None),
    "temporary table": ("mysql", "CREATE TEMPORARY TABLE own (id int)", None),
    "named lock": ("mysql", "SELECT GET_LOCK('session_state', 1)", "SELECT RELEASE_LOCK('session_state')"),
    "all locks": ("mysql", "DO GET_LOCK('session_state', 1)", "DO RELEASE_ALL_LOCKS()"),
    "lock tables": ("mysql", f"LOCK TABLES {ITEMS} READ", "UNLOCK TABLES"),
    "prepared of mysql": ("mysql", "PREPARE one FROM 'SELECT 1'", "DEALLOCATE PREPARE one"),
    "handler": ("mysql", f"HANDLER {ITEMS} OPEN", f"HANDLER {ITEMS} CLOSE"),
    "charset": ("mysql", "SET NAMES latin1", None),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_session_is_read_from_the_primary_until_it_is_reset_or_closed(shop: Cluster, name: str):
    engine, change, undo = CHANGES[name]
    if (engine == "postgresql") is not (shop.engine == "postgresql"):
        pytest.skip("another engine's statement")
    connection.ensure_connection()
    assert reason() == "balanced"
    assert not session_differs(connection)
    for ends in (undo, None):
        execute(change)
        assert reason() == "session_state"
        assert session_differs(connection)
        with use_replica("replica1"):
            assert reason() == "session_state"
        with request_scope():
            assert reason() == "session_state"
        if ends is None:
            connection.close()
        else:
            execute(ends)
        assert reason() == "balanced"
        assert not session_differs(connection)
    assert _core.session_changed() == 0


def test_the_rows_of_the_chosen_tenant_are_read(shop: Cluster, acme: str):
    choose(shop, acme)
    with request_scope():
        assert names() == ("default", ["of acme"])
    connection.close()
    assert names()[1] == []


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_a_statement_composed_by_the_driver_is_read_too(shop: Cluster, acme: str):
    from psycopg import sql

    with connection.cursor() as cursor:
        cursor.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(acme)))
    assert names() == ("default", ["of acme"])


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_what_ends_with_a_transaction_is_over_then(shop: Cluster):
    with transaction.atomic():
        execute("SET LOCAL app.tenant = '7'")
        execute("SELECT set_config('app.tenant', '8', true)")
        assert reason() == "transaction"
    assert reason() == "balanced"


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_a_rollback_takes_a_setting_back_and_a_commit_does_not(shop: Cluster):
    with transaction.atomic():
        execute("SET app.tenant = '7'")
        transaction.set_rollback(True)
    assert reason() == "balanced"
    for begin, end, expected in (("BEGIN", "ROLLBACK", "balanced"), ("BEGIN", "COMMIT", "session_state")):
        execute(begin)
        execute("SET app.tenant = '7'")
        execute(end)
        assert reason() == expected
    with transaction.atomic():
        execute("RESET app.tenant")
        transaction.set_rollback(True)
    assert reason() == "session_state"
    with transaction.atomic():
        execute("RESET app.tenant")
    assert reason() == "balanced"


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_after_a_rollback_to_a_savepoint_nothing_is_believed_that_it_may_have_undone(shop: Cluster):
    execute("SET app.tenant = '7'")
    with transaction.atomic(), pytest.raises(ZeroDivisionError), transaction.atomic():
        execute("RESET app.tenant")
        raise ZeroDivisionError
    # The server has undone the reset.
    assert reason() == "session_state"
    with connection.cursor() as cursor:
        cursor.execute("SHOW app.tenant")
        assert cursor.fetchone() == ("7",)


@pytest.mark.parametrize("cluster", MYSQL, indirect=True)
def test_a_rollback_takes_nothing_back_on_mysql(shop: Cluster):
    with transaction.atomic():
        execute("SET @tenant = 7")
        transaction.set_rollback(True)
    assert reason() == "session_state"


NO_CHANGES = {
    "postgresql": [
        "SET statement_timeout = 5000",
        "SET CONSTRAINTS ALL IMMEDIATE",
        "SELECT pg_advisory_xact_lock(7)",
        "SELECT set_config('app.tenant', '7', true)",
        "LISTEN something",
    ],
    "mysql": ["SET foreign_key_checks = 1", "SET SESSION wait_timeout = 100", "SET SESSION TRANSACTION READ WRITE"],
}


def test_what_changes_no_meaning_keeps_no_read_on_the_primary(shop: Cluster):
    for statement in NO_CHANGES["postgresql" if shop.engine == "postgresql" else "mysql"]:
        execute(statement)
        assert reason() == "balanced", statement
    assert session_differs(connection)


def test_what_is_sent_while_connecting_does_not_count(shop: Cluster):
    change = "SET app.tenant = '7'" if shop.engine == "postgresql" else "SET @tenant = 7"

    def receiver(*, connection: Any, **kwargs: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute(change)

    connection_created.connect(receiver)
    try:
        for _ in range(2):
            # The second time our own receiver is not the one that begins to watch.
            connection.close()
            connection.ensure_connection()
            assert reason() == "balanced"
            assert not session_differs(connection)
    finally:
        connection_created.disconnect(receiver)
    execute(change)
    assert reason() == "session_state"


def test_a_change_concerns_its_own_thread_alone(shop: Cluster):
    choose(shop, "public" if shop.engine == "postgresql" else "information_schema")
    found: list[str | None] = []

    def ask() -> None:
        found.append(reason())
        connection.close()

    thread = threading.Thread(target=ask)
    thread.start()
    thread.join()
    assert (reason(), found) == ("session_state", ["balanced"])


def test_a_statement_that_failed_is_taken_to_have_changed_the_session(shop: Cluster):
    with contextlib.suppress(DatabaseError):
        execute("SET search_path = acme, " if shop.engine == "postgresql" else "SET sql_mode = 'nothing of the kind'")
    assert reason() == "session_state"


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_a_pool_hands_a_changed_session_to_another_thread(cluster: Cluster, database: str):
    databases = cluster.databases(database)
    for alias in databases:
        databases[alias]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1}}
    with use_databases(databases, REPLICANT=settings()):
        execute("SET app.tenant = '7'")
        connection.close()
        found: list[Any] = []

        def ask() -> None:
            connection.ensure_connection()
            found.append(reason())
            execute("RESET ALL")
            found.append(reason())
            connection.close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert found == ["session_state", "balanced"]
        cluster_monitor.stop()
        for alias in databases:
            connections[alias].close()
            connections[alias].close_pool()


# The change is copied.


def tenant(alias: str) -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(
            "SELECT current_setting('app.tenant', true)" if connection.vendor == "postgresql" else "SELECT @tenant"
        )
        return cursor.fetchone()[0]


def test_the_named_settings_are_copied_to_the_session_of_each_replica(carrying: Cluster, acme: str):
    for alias in ("replica1", "replica2"):
        with use_replica(alias):
            assert names() == (alias, [])
    choose(carrying, acme)
    for alias in ("replica1", "replica2"):
        with use_replica(alias):
            assert names() == (alias, ["of acme"])
            assert list(Item.objects.values_list("pk", flat=True).iterator()) == [7]
    # Also on a session that is opened only now.
    connections["replica1"].close()
    with use_replica("replica1"):
        assert names() == ("replica1", ["of acme"])
    connection.close()
    for alias in ("replica1", "replica2"):
        with use_replica(alias):
            assert names() == (alias, [])


def test_a_setting_follows_each_change_and_its_end(carrying: Cluster):
    change = "SET app.tenant = %s" if carrying.engine == "postgresql" else "SET @tenant = %s"
    for value in ("7", "8", "it's"):
        if carrying.engine == "postgresql":
            execute("SELECT set_config('app.tenant', %s, false)", [value])
        else:
            execute(change, [value])
        assert reason() == "balanced"
        assert tenant("replica1") == tenant("default") == value
    connection.close()
    assert tenant("replica1") in (None, "")


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_a_rollback_on_either_side_is_followed(carrying: Cluster):
    execute("SET app.tenant = '7'")
    with transaction.atomic():
        execute("SET app.tenant = '8'")
        transaction.set_rollback(True)
    assert tenant("replica1") == "7"
    execute("SET app.tenant = '9'")
    with transaction.atomic("replica1"):
        assert tenant("replica1") == "9"
        transaction.set_rollback(True, "replica1")
    assert tenant("replica1") == "9"


def test_a_setting_that_is_not_named_keeps_reads_on_the_primary(carrying: Cluster, acme: str):
    choose(carrying, acme)
    assert reason() == "balanced"
    execute("SET DateStyle = 'German'" if carrying.engine == "postgresql" else "SET sql_mode = 'ANSI_QUOTES'")
    assert names() == ("default", ["of acme"])


def test_settings_are_copied_once_for_each_change(carrying: Cluster, acme: str, monkeypatch: pytest.MonkeyPatch):
    from replicant.engines import engine_of

    engine, sent = engine_of(connection), []
    for name in ("session_values", "set_session_values"):
        method = getattr(engine, name)
        monkeypatch.setattr(engine, name, lambda *args, name=name, method=method: sent.append(name) or method(*args))
    with use_replica("replica1"):
        names()
        assert sent == []
        choose(carrying, acme)
        for _ in range(3):
            assert names() == ("replica1", ["of acme"])
    # What the primary has, what the replica had, and the change.
    assert sent == ["session_values", "session_values", "set_session_values"]


def test_what_cannot_be_copied_is_no_reason_to_read_without_it(carrying: Cluster, acme: str):
    with use_replica("replica1"):
        names()
        choose(carrying, acme)
        connection.connection.close()
        with pytest.raises(DatabaseError, match="The settings of the session with 'default' cannot be read"):
            names()
    assert _core.member_state("replica1") == "up"
    # The drivers for MySQL raise an error where a connection is closed twice.
    with contextlib.suppress(DatabaseError):
        connection.close()
    connection.connection = None


@pytest.mark.parametrize("cluster", POSTGRESQL, indirect=True)
def test_a_pool_hands_out_no_other_tenants_settings(cluster: Cluster, database: str, acme: str):
    databases = ours(cluster.databases(database))
    for alias in ("replica1", "replica2"):
        databases[alias]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 1}}
    with use_databases(databases, REPLICANT=settings(SESSION_STATE=["search_path"])):
        choose(cluster, acme)
        with use_replica("replica1"):
            assert names() == ("replica1", ["of acme"])
        connections["replica1"].close()
        found: list[Any] = []

        def ask() -> None:
            with use_replica("replica1"):
                found.append(names())
            for alias in ("default", "replica1"):
                connections[alias].close()

        thread = threading.Thread(target=ask)
        thread.start()
        thread.join()
        assert found == [("replica1", [])]
        cluster_monitor.stop()
        for alias in ("replica1", "replica2"):
            connections[alias].close()
            connections[alias].close_pool()


def test_a_read_that_moves_to_another_replica_takes_the_settings_along(carrying: Cluster, acme: str):
    choose(carrying, acme)
    with use_replica("replica1"):
        assert names() == ("replica1", ["of acme"])
        # The session ends unnoticed: the read is executed again, on a session that is opened for it.
        connections["replica1"].connection.close()
        assert names()[1] == ["of acme"]


def test_other_settings_in_force_are_considered_at_once(carrying: Cluster, acme: str):
    choose(carrying, acme)
    assert reason() == "balanced"
    with override_settings(REPLICANT=settings()):
        assert reason() == "session_state"
    assert reason() == "balanced"
