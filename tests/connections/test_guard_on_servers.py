"""Nothing unsafe reaches a replica: tables of statements, and mutations of them, on real servers."""

from __future__ import annotations

import contextlib
import io
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.management import call_command
from django.db import DatabaseError, connections
from django.test import override_settings
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from replicant import ReplicaWriteError, allow_functions
from tests.app.models import Item
from tests.servers import Cluster, Node
from tests.statements import HOSTILE, READS
from tests.statements.field import FUNCTIONS, NAMES

_FOR_READS = [
    "CREATE TABLE app_default (a INT DEFAULT 5)",
    "GRANT EXECUTE ON sys.* TO 'application'@'127.0.0.1'",
]
_OBJECTS = {
    "mysql": [
        *_FOR_READS,
        "CREATE PROCEDURE app_delete() DELETE FROM app_item",
        "CREATE FUNCTION app_delete_all() RETURNS INT DETERMINISTIC BEGIN DELETE FROM app_item; RETURN 1; END",
        "CREATE FUNCTION app_double(a INT) RETURNS INT DETERMINISTIC RETURN a * 2",
    ],
    "mariadb": [
        *_FOR_READS,
        "CREATE PROCEDURE app_delete() DELETE FROM app_item",
        "CREATE FUNCTION app_delete_all() RETURNS INT DETERMINISTIC BEGIN DELETE FROM app_item; RETURN 1; END",
        "CREATE FUNCTION app_double(a INT) RETURNS INT DETERMINISTIC RETURN a * 2",
        "CREATE SEQUENCE app_sequence",
    ],
    "postgresql": [
        "CREATE PROCEDURE app_delete() LANGUAGE sql AS 'DELETE FROM app_item'",
        "CREATE FUNCTION app_delete_all() RETURNS SETOF bigint LANGUAGE sql AS 'DELETE FROM app_item RETURNING id'",
        "CREATE FUNCTION app_double(a int) RETURNS int LANGUAGE sql AS 'SELECT a * 2'",
    ],
}
_MYSQL_STATE = [
    "CHECKSUM TABLE app_item, app_piece",
    "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = DATABASE()",
    "SELECT IS_USED_LOCK('guard'), @@GLOBAL.max_connections, @@GLOBAL.read_only",
    "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_rows_locked > 0",
]
_STATE = {
    "mysql": [*_MYSQL_STATE, "SELECT @@GLOBAL.gtid_executed"],
    "mariadb": [*_MYSQL_STATE, "SELECT @@GLOBAL.gtid_current_pos", "SELECT next_not_cached_value FROM app_sequence"],
    # In one round trip; temporary tables are in pg_class, too.
    "postgresql": [
        """
        SELECT (SELECT md5(string_agg(t::text, ',' ORDER BY id)) FROM app_item t), (SELECT COUNT(*) FROM pg_class),
            (SELECT last_value FROM app_item_id_seq), (SELECT COUNT(*) FROM pg_largeobject_metadata),
            (SELECT COUNT(*) FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE backend_type = 'client backend'
                AND pid <> pg_backend_pid() AND locktype <> 'virtualxid' AND mode <> 'AccessShareLock'),
            pg_is_in_recovery()
        """,
    ],
}


@pytest.fixture(scope="module")
def objects(cluster: Cluster, database: str) -> None:
    """What hostile statements call."""
    functions = [FUNCTIONS[cluster.engine].format(name) for name in NAMES[cluster.engine]]
    for statement in (*_OBJECTS[cluster.engine], *functions):
        cluster.primary.query(statement, database)
    names = ", ".join(f"('item {number}')" for number in range(3))
    cluster.primary.query(f"INSERT INTO app_item (name) VALUES {names}", database)
    cluster.wait_until_caught_up()


@pytest.fixture
def state(servers: Cluster, database: str, objects: None) -> Callable[[], Any]:
    """Asks both servers what a hostile statement would change, lock or coordinate."""

    def of(node: Node) -> list[Any]:
        return [node.query(question, database) for question in _STATE[servers.engine]]

    return lambda: (of(servers.primary), of(servers.replicas[0]))


def session_is_read_only(engine: str) -> bool:
    """Whether the session of replica1, asked behind our own back, is read-only and has no table of its own."""
    connection = connections["replica1"]
    question = {
        "mysql": "SELECT @@session.transaction_read_only",
        "mariadb": "SELECT @@session.tx_read_only",
        "postgresql": "SHOW default_transaction_read_only",
    }[engine]
    with connection.connection.cursor() as cursor:
        cursor.execute(question)
        read_only = cursor.fetchone()[0]
        with pytest.raises(connection.Database.Error):
            cursor.execute("SELECT 1 FROM app_new")
    if engine == "postgresql":
        connection.connection.rollback()
    return read_only in (1, "on")


def test_no_hostile_statement_changes_locks_or_coordinates_anything(servers: Cluster, state: Callable[[], Any]):
    statements = HOSTILE[servers.engine]
    assert len(statements) >= 60
    before = state()
    with connections["replica1"].cursor() as cursor:
        cursor.execute("SELECT 1")
        for statement in statements:
            for sql in (statement, statement.encode()):
                with pytest.raises(ReplicaWriteError, match=r"'replica1' is a replica.* was refused.*'default'"):
                    pytest.fail(f"executed: {cursor.execute(sql)} {statement!r}")
            assert state() == before, statement
    assert session_is_read_only(servers.engine)


def test_no_read_is_refused(servers: Cluster, state: Callable[[], Any]):
    statements = READS[servers.engine]
    assert len(statements) >= 60
    before = state()
    failed = []
    connections["replica1"].close()
    with connections["replica1"].cursor() as cursor:
        for statement in statements:
            try:
                if statement.startswith("COPY"):
                    with cursor.copy(statement) as copied:
                        list(copied)
                    continue
                cursor.execute(statement)
                while cursor.description:
                    cursor.fetchall()
                    if not cursor.nextset():
                        break
            except DatabaseError as error:
                failed.append((statement, str(error)))
    assert failed == []
    assert state() == before
    connections["replica1"].close()


def test_django_may_look_at_the_tables_of_a_replica(servers: Cluster):
    found = {}
    for alias in ("default", "replica1"):
        output = io.StringIO()
        call_command("inspectdb", database=alias, stdout=output)
        found[alias] = output.getvalue()
        with connections[alias].cursor() as cursor:
            assert connections[alias].introspection.get_primary_key_column(cursor, Item._meta.db_table) == "id"
    # It would leave out, with a comment, what it is refused.
    assert found["replica1"] == found["default"]


_SPACES = [" ", "\n", "\t", "  ", "/**/", " /* a */ ", " /* ' */ ", ' /* " */ ', " -- a\n", " -- '\n", " /* -- */\n"]
_OF_ENGINE = {
    "mysql": [" # a\n", " #'\n", "/*!*/", " /*!50000 */ ", " --\t\n"],
    "mariadb": [" # a\n", " #'\n", "/*!*/", " /*M! */ ", " --\t\n"],
    "postgresql": [" /* a /* b */ ' */ ", " --'\r", "--\n", "\f"],
}
_BEFORE = ["", "(", "WITH z AS (SELECT 1) ", "SELECT 'a''b'; ", "SELECT '\\\\', ", "; ", "EXPLAIN ANALYZE ", "SELECT ("]
_AFTER = ["", ")", ";", "; SELECT 1", " -- '", " /* a */", " LIMIT 1"]


@st.composite
def mutated(draw: st.DrawFn, engine: str) -> str:
    """A hostile statement, disguised; it may no longer be SQL."""
    spaces = st.sampled_from(_SPACES + _OF_ENGINE[engine])
    change_case = st.sampled_from([str, str.upper, str.lower, str.title, str.swapcase])
    words = re.split(r"(\s+|[(),;])", draw(st.sampled_from(HOSTILE[engine])))
    pieces = []
    for word in words:
        if not word.isspace():
            pieces.append(draw(change_case)(word) if "'" not in word and '"' not in word else word)
        elif draw(st.integers(0, 3)) == 0:
            pieces.append(draw(spaces))
        else:
            pieces.append(word)
        if word in ("(", ")", ",") and draw(st.integers(0, 5)) == 0:
            pieces.append(draw(spaces))
    return draw(st.sampled_from(_BEFORE)) + "".join(pieces) + draw(st.sampled_from(_AFTER))


def test_no_disguise_of_a_hostile_statement_changes_locks_or_coordinates_anything(
    servers: Cluster, state: Callable[[], Any]
):
    before = state()

    @settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(statement=mutated(servers.engine))
    def let_through(statement: str) -> None:
        with connections["replica1"].cursor() as cursor:
            try:
                cursor.execute(statement)
            except ReplicaWriteError:
                return
            except DatabaseError:
                # Sent, and not SQL for this server.
                pass
            assert state() == before
        assert session_is_read_only(servers.engine)
        # With whatever transaction the statement began.
        connections["replica1"].close()

    let_through()


def test_a_known_safe_function_is_allowed_inside_a_block(servers: Cluster, objects: None):
    with connections["replica1"].cursor() as cursor:
        for sql, name in (("SELECT app_double(2)", "app_double"), ("SELECT App_Double (2)", "APP_DOUBLE")):
            with pytest.raises(ReplicaWriteError, match=r"allow_functions\('app_double'\)"):
                cursor.execute(sql)
            with allow_functions("other"), allow_functions(name):
                cursor.execute(sql)
                assert cursor.fetchone() == (4,)
                # Nothing else is.
                with pytest.raises(ReplicaWriteError):
                    cursor.execute("SELECT app_double(2) FROM app_item FOR UPDATE")
                with pytest.raises(ReplicaWriteError):
                    cursor.execute("SELECT other_schema.app_double(2)")
            with pytest.raises(ReplicaWriteError):
                cursor.execute(sql)


def test_what_a_function_that_was_allowed_writes_is_refused_by_the_session(servers: Cluster, state: Callable[[], Any]):
    before = state()
    with allow_functions("app_delete_all"), connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError, match="SELECT was refused"):
            cursor.execute("SELECT app_delete_all()")
        if servers.engine == "postgresql":
            with pytest.raises(ReplicaWriteError, match=r"nextval\(\) was refused"), allow_functions("nextval"):
                cursor.execute("SELECT nextval('app_item_id_seq')")
    assert state() == before


def test_a_procedure_is_refused_unless_it_is_allowed(servers: Cluster, objects: None):
    with connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError, match=r"callproc\('app_double'\) was refused"):
            cursor.callproc("app_double", [2])
        if servers.engine == "postgresql":
            with allow_functions("app_double"):
                cursor.callproc("app_double", [2])
                assert cursor.fetchone() == (4,)


def test_the_guards_of_a_promoted_server_are_off(servers: Cluster, objects: None):
    with connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError):
            cursor.execute("SELECT * FROM app_item FOR UPDATE")
        with override_settings(REPLICANT={"default": {"REPLICAS": {"replica1": 1}, "GUARD": False}}):
            cursor.execute("SELECT app_double(2)")
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}), pytest.raises(ReplicaWriteError):
            cursor.execute("SELECT app_double(2)")


def test_a_session_that_the_settings_make_serializable_can_be_opened_again(servers: Cluster):
    if servers.engine == "postgresql":
        pytest.skip("A standby refuses it.")
    connection = connections["replica1"]
    connection.settings_dict["OPTIONS"] = {**connection.settings_dict["OPTIONS"], "isolation_level": "serializable"}
    for _ in range(2):
        connection.close()
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
            with pytest.raises(ReplicaWriteError):
                cursor.execute("SET SESSION transaction_isolation = 'SERIALIZABLE'")


@pytest.fixture
def composed(servers: Cluster) -> Iterator[Any]:
    if servers.engine != "postgresql":
        pytest.skip("psycopg's")
    from psycopg import sql

    with contextlib.closing(connections["replica1"]):
        yield sql


def test_a_composed_statement_is_judged_by_its_text(composed: Any, objects: None):
    with connections["replica1"].cursor() as cursor:
        cursor.execute(composed.SQL("SELECT name FROM {}").format(composed.Identifier("app_item")))
        assert cursor.fetchall()
        with pytest.raises(ReplicaWriteError, match=r"app_delete_all\(\)"):
            cursor.execute(composed.SQL("SELECT {}()").format(composed.Identifier("app_delete_all")))
        with pytest.raises(ReplicaWriteError, match="DELETE"):
            cursor.execute(composed.SQL("DELETE FROM {}").format(composed.Identifier("app_item")))


def test_what_bypasses_django_is_judged_too(composed: Any, state: Callable[[], Any]):
    before = state()
    with connections["replica1"].cursor() as cursor:
        with pytest.raises(ReplicaWriteError, match=r"COPY \.\.\. FROM"), cursor.copy("COPY app_item FROM STDIN"):
            pass
        with cursor.copy("COPY (SELECT 1) TO STDOUT") as copied:
            assert [row.tobytes() for row in copied] == [b"1\n"]
        with pytest.raises(ReplicaWriteError, match="nextval"):
            list(cursor.stream("SELECT nextval('app_item_id_seq')"))
        assert list(cursor.stream("SELECT 1")) == [(1,)]
    assert state() == before


def test_nothing_is_refused_on_the_primary(servers: Cluster, objects: None):
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT app_double(2)")
        assert cursor.fetchone() == (4,)
    assert Item.objects.using("default").count() == 3
