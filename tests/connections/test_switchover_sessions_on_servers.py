"""A planned switchover, and the sessions that are open: what another session lacks is not replaced in silence."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import OperationalError, close_old_connections, connections

from replicant.connections.session_changes import changes_of
from tests.app.models import Item
from tests.monitor.promotion import SECONDS, becomes, follows, port_of, site
from tests.servers import Cluster
from tests.servers.machine import wait_until

__all__ = ["site"]

#: What leaves something in a session, by the vendor that knows it.
STATE = {
    "mysql": (
        "SET @tenant = 1",
        "SELECT @tenant := 1",
        "SELECT 1 INTO @tenant",
        "SELECT GET_LOCK('leader', 1)",
        "CREATE TEMPORARY TABLE replicant_scratch (number int)",
        "SET SESSION sql_mode = 'ANSI'",
        "PREPARE later FROM 'SELECT 1'",
    ),
    "postgresql": (
        "SET app.tenant = '1'",
        "SELECT set_config('app.tenant', '1', false)",
        "SELECT pg_advisory_lock(1)",
        "SELECT pg_try_advisory_lock_shared(1)",
        "CREATE TEMPORARY TABLE replicant_scratch (number int)",
        "SELECT 1 AS number INTO TEMP replicant_scratch",
        "PREPARE later AS SELECT 1",
        "LISTEN news",
    ),
}
#: What leaves nothing.
NO_STATE = {
    "mysql": ("SELECT 1", "INSERT INTO app_item (name) VALUES ('plain')", "SET TRANSACTION READ WRITE"),
    "postgresql": ("SELECT 1", "INSERT INTO app_item (name) VALUES ('plain')", "SELECT pg_advisory_xact_lock(1)"),
}


def execute(sql: str, alias: str = "default") -> Any:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone() if cursor.description else None


@pytest.mark.parametrize("is_request_over", [False, True])
def test_a_session_with_state_of_its_own_ends_with_an_error(
    site: Cluster, monkeypatch: pytest.MonkeyPatch, is_request_over: bool
):
    monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", None)
    connections["default"].close()
    lock = "pg_advisory_lock(1)" if connections["default"].vendor == "postgresql" else "GET_LOCK('leader', 1)"
    execute(f"SELECT {lock}")
    site.promote(site.replicas[0])
    follows()
    if is_request_over:
        close_old_connections()
    with pytest.raises(OperationalError, match="a lock, or a temporary table"):
        Item.objects.create(name="under a lock that is gone")
    # Its caller knows, and begins anew.
    Item.objects.create(name="after")
    assert port_of("default") == site.primary.port
    assert [item.name for item in Item.objects.using("default")] == ["after"]


def test_a_session_without_state_is_replaced_unnoticed(site: Cluster):
    for sql in NO_STATE[connections["default"].vendor]:
        execute(sql)
    site.promote(site.replicas[0])
    follows()
    Item.objects.create(name="after")
    assert port_of("default") == site.primary.port


def test_a_held_cursor_sends_nothing_to_the_former_primary(site: Cluster, database: str):
    old = site.primary
    with connections["default"].cursor() as cursor:
        cursor.execute("INSERT INTO app_item (name) VALUES ('before')")
        site.promote(site.replicas[0])
        follows()
        # As if nothing had happened: the old primary takes writes again.
        if connections["default"].vendor == "postgresql":
            old.query("ALTER SYSTEM RESET default_transaction_read_only")
            old.query("SELECT pg_reload_conf()")
            wait_until(lambda: old.value("SHOW default_transaction_read_only") == "off", SECONDS, "it takes writes")
        else:
            old.query("SET GLOBAL read_only = 0")
        with pytest.raises(Exception, match=r"clos|2006|ended|gone"):
            cursor.execute("INSERT INTO app_item (name) VALUES ('lost')")
    assert old.query("SELECT name FROM app_item WHERE name = 'lost'", database) == []
    Item.objects.create(name="after")
    assert port_of("default") == site.primary.port


def test_state_on_a_replica_that_is_promoted_ends_with_an_error_too(site: Cluster):
    execute(STATE[connections["default"].vendor][0], "replica1")
    site.promote(site.replicas[0])
    follows()
    with pytest.raises(OperationalError, match="a variable"):
        execute("SELECT 1", "replica1")


def test_rows_that_come_one_by_one_from_a_replica_come_to_the_end_though_it_is_promoted(site: Cluster):
    Item.objects.bulk_create(Item(name=f"{number}") for number in range(10))
    site.wait_until_caught_up()
    rows = Item.objects.using("replica1").order_by("pk").iterator(chunk_size=2)
    seen = [next(rows).name]
    new = site.replicas[0]
    site.promote(new)
    follows()
    for row in rows:
        seen.append(row.name)
        # On the same alias, in between.
        assert Item.objects.using("replica1").get(pk=row.pk).name == row.name
    assert seen == [f"{number}" for number in range(10)]
    # Then the alias leads where it belongs.
    site.rejoin(next(node for node in site.nodes if node.role == "former"))
    Item.objects.create(name="to be replicated")
    becomes("replica1", "up")
    assert port_of("replica1") != new.port


@pytest.mark.parametrize("vendor", STATE)
def test_what_leaves_something_in_a_session(vendor: str):
    assert [sql for sql in STATE[vendor] if not changes_of(sql, vendor)] == []
    assert [sql for sql in NO_STATE[vendor] if changes_of(sql, vendor)] == []
    for sql in ("SELECT 1; SET @a = 1", "/* a comment */ SET @a = 1"):
        assert changes_of(sql, vendor)
    for sql in ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "SELECT 1;", "CREATE TABLE a (b int)"):
        assert not changes_of(sql, vendor)
