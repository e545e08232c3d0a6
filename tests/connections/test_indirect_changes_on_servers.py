"""Sessions of the primary that are changed by statements whose text does not show the change.

What EXECUTE, CALL, DO and their like run stands in a string, in a prepared statement or on the server. On real servers,
with Django's own engines and with ours.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import DatabaseError, connection

from replicant import allow_functions
from replicant.connections.tracked import session_differs
from tests.connections.session_state import execute, reason, shop
from tests.servers import Cluster

__all__ = ["shop"]

_SET_CONFIG = "set_config('app.tenant', '7', false)"

#: Statements, one after another, that give the tenant of the session the value 7.
INDIRECT = {
    "postgresql": {
        "prepared": [f"PREPARE choose AS SELECT {_SET_CONFIG}", "EXECUTE choose", "DEALLOCATE choose"],
        "explained": [
            f"PREPARE choose AS SELECT {_SET_CONFIG}",
            "EXPLAIN ANALYZE EXECUTE choose",
            "DEALLOCATE ALL",
        ],
        "created": [
            f"PREPARE choose AS SELECT {_SET_CONFIG}",
            "CREATE TABLE chosen AS EXECUTE choose",
            "DEALLOCATE choose",
            "DROP TABLE chosen",
        ],
        "block": ["DO $$ BEGIN SET\tapp.tenant TO '7'; END $$"],
        "block that executes": ["DO $a$ BEGIN EXECUTE 'S' || 'ET app.tenant TO 7'; END $a$"],
        "block in a string": ["DO E'BEGIN S\\105T app.tenant TO 7; END'"],
        "block that calls": ["DO $$ BEGIN CALL choose(); END $$"],
        "procedure": ["CALL choose()"],
        "escaped name": ["SELECT U&\"\\0073et_config\"('app.tenant', '7', false)"],
        "view of settings": ["UPDATE pg_settings SET setting = '7' WHERE name = 'search_path'"],
        "several": ["SELECT 1; CALL choose()"],
    },
    "mysql": {
        "prepared": ["PREPARE choose FROM 'SET @tenant = 7'", "EXECUTE choose", "DEALLOCATE PREPARE choose"],
        "comment": ["/*!50000 SET @tenant = 7 */"],
        "comment without a space": ["/*!50000SET @tenant = 7*/"],
        "comment at the end": ["SELECT 7 /*! INTO @tenant */"],
        "procedure": ["CALL choose()"],
        "diagnostics": ["DO 7", "GET DIAGNOSTICS @tenant = ROW_COUNT"],
    },
    "mariadb": {
        "immediate": ["EXECUTE IMMEDIATE 'SET @tenant = 7'"],
        "immediate and composed": ["EXECUTE IMMEDIATE CONCAT('SET @ten', 'ant = 7')"],
        "comment of MariaDB": ["/*M!100000 SET @tenant = 7 */"],
        "statement with settings": ["SET STATEMENT max_statement_time = 1 FOR SET @tenant = 7"],
        "immediate with settings": ["SET STATEMENT max_statement_time = 1 FOR EXECUTE IMMEDIATE 'SET @tenant = 7'"],
        "block": ["BEGIN NOT ATOMIC IF 1 THEN SET @tenant = 7; END IF; END"],
        "condition": ["IF 1 THEN SET @tenant = 7; END IF"],
        "loop": ["FOR i IN 7..7 DO SET @tenant = i; END FOR"],
    },
}
NAMES = sorted({name for statements in INDIRECT.values() for name in statements})


@pytest.fixture
def procedure(shop: Cluster, database: str) -> Iterator[None]:
    body = "SET @tenant = 7"
    if shop.engine == "postgresql":
        body = f"LANGUAGE plpgsql AS $$ BEGIN PERFORM {_SET_CONFIG}; END $$"
    shop.primary.query(f"CREATE PROCEDURE choose() {body}", database)
    yield
    shop.primary.query("DROP PROCEDURE choose", database)


def tenant(setting: str = "app.tenant") -> str:
    """The tenant in the session with the primary."""
    question = f"current_setting('{setting}', true)" if connection.vendor == "postgresql" else "@tenant"
    with connection.cursor() as cursor:
        cursor.execute(f"SELECT {question}")
        return str(cursor.fetchone()[0])


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("procedure")
def test_a_change_that_the_text_does_not_show_keeps_reads_on_the_primary(shop: Cluster, name: str):
    known = INDIRECT[shop.engine]
    if shop.engine == "mariadb":
        known = {**INDIRECT["mysql"], **known}
    if name not in known:
        pytest.skip("another engine's statement")
    assert reason() == "balanced"
    for statement in known[name]:
        execute(statement)
    # The view has no row for a setting of the user's own.
    setting = "search_path" if name == "view of settings" else "app.tenant"
    assert tenant(setting) == ("0" if name == "diagnostics" else "7")
    assert reason() == "session_state"
    assert session_differs(connection)
    connection.close()
    assert reason() == "balanced"


@pytest.mark.usefixtures("procedure")
def test_a_procedure_that_is_called_by_name_may_have_changed_the_session(shop: Cluster):
    if shop.engine == "postgresql":
        pytest.skip("callproc() calls functions there")
    with connection.cursor() as cursor:
        cursor.callproc("choose")
    assert tenant() == "7"
    assert reason() == "session_state"


@pytest.mark.usefixtures("procedure")
def test_a_procedure_that_is_said_to_only_read_keeps_no_read(shop: Cluster):
    with allow_functions("choose"):
        execute("CALL choose()")
        assert reason() != "session_state"
        if shop.engine != "postgresql":
            with connection.cursor() as cursor:
                cursor.callproc("choose")
            assert reason() != "session_state"
    execute("CALL choose()")
    assert reason() == "session_state"


def test_an_indirect_change_that_failed_counts_all_the_same(shop: Cluster):
    with pytest.raises(DatabaseError):
        execute("EXECUTE nothing_of_the_kind")
    assert reason() == "session_state"


def test_blocks_and_comments_that_change_no_session_keep_no_read(shop: Cluster):
    statements = ["SELECT /*! STRAIGHT_JOIN */ 1 LIMIT 1 OFFSET 0"]
    if shop.engine == "postgresql":
        statements = ["DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); END $$", "DROP TYPE mood"]
    for statement in statements:
        execute(statement)
    assert reason() != "session_state"
