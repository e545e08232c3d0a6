"""A changed session of SQLite is read from the primary. The other engines: test_session_state_on_servers.py."""

from __future__ import annotations

import pytest
from django.db import connection, connections

from replicant import explain
from replicant.connections.tracked import session_differs
from tests.app.models import Item
from tests.databases import ours, use_databases

pytestmark = pytest.mark.usefixtures("site")

CHANGES = {
    "pragma": ("PRAGMA case_sensitive_like = ON", None),
    "attached": ("ATTACH DATABASE ':memory:' AS acme", "DETACH acme"),
    "temporary": ("CREATE TEMPORARY TABLE own (id int)", None),
    "temporary by its schema": ("CREATE TABLE temp.own (id int)", None),
}


@pytest.mark.parametrize("engine", ["django", "replicant"])
@pytest.mark.parametrize("name", CHANGES)
def test_a_changed_session_is_read_from_the_primary(name: str, engine: str, request: pytest.FixtureRequest):
    if engine == "replicant":
        databases = use_databases(ours(connections.settings))
        databases.__enter__()
        request.addfinalizer(lambda: databases.__exit__(None, None, None))
    change, undo = CHANGES[name]
    for ends in (undo, None):
        with connection.cursor() as cursor:
            cursor.execute(change)
            assert explain(Item).reason == "session_state"
            assert session_differs(connection)
            if ends is not None:
                cursor.execute(ends)
        if ends is None:
            connection.close()
        connection.ensure_connection()
        assert explain(Item).reason != "session_state"
        assert not session_differs(connection)


def test_what_schema_changes_send_is_no_change():
    with connection.cursor() as cursor, connection.constraint_checks_disabled():
        cursor.execute("PRAGMA table_info(app_item)")
        cursor.executescript("PRAGMA foreign_key_check(app_item); PRAGMA legacy_alter_table = ON")
    assert explain(Item).reason != "session_state"
