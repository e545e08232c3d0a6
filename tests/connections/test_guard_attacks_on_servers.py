"""What the guard knows of the servers' functions and keywords, and attacks on it, on real servers."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from django.db import DatabaseError, connections

from replicant import ReplicaWriteError, _core, allow_functions
from tests.servers import Cluster, Node, QueryError, start
from tests.statements import functions
from tests.statements.disguises import CALLS, disguises, let_through

#: The versions that the lists were taken from: of these they lack nothing.
_TAKEN_FROM = {"mysql": "9.7", "mariadb": "10.11", "postgresql": "15"}
#: Texts for each engine, 10^6 in all; `python -m tests.statements.disguises` reads as many for each.
_TEXTS = 250_000


@pytest.fixture(scope="module", params=list(_TAKEN_FROM))
def server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Node, str]]:
    """A server of its own: thousands of functions are made and dropped on it."""
    with start(request.param, replicas=0) as cluster:
        yield request.param, cluster.primary, cluster.version


def test_the_lists_of_harmless_functions_are_the_servers_own(server: tuple[str, Node, str]):
    engine, node, version = server
    lacking, wrong = functions.compare(engine, node)
    assert wrong == []
    if version.startswith(_TAKEN_FROM[engine]):
        assert lacking == []


def test_no_keyword_is_the_name_of_a_function_that_a_user_can_call(server: tuple[str, Node, str]):
    engine, node, _ = server
    words = functions.keywords(engine)
    assert len(words) > 60
    called = words - {word for word in words if is_keyword(engine, node, word)}
    assert called == set()


def is_keyword(engine: str, node: Node, word: str) -> bool:
    if engine != "postgresql":
        return functions.is_servers_own(node, word)
    node.query(
        f"CREATE OR REPLACE FUNCTION public.\"{word}\"(a int DEFAULT 1) RETURNS int LANGUAGE sql AS 'SELECT 7700'"
    )
    for call in (f"{word}(1)", f"{word} ()"):
        try:
            if node.query(f"SELECT {call}") == [("7700",)]:
                return False
        except QueryError:
            pass
    return True


def test_no_keyword_is_the_name_of_a_function_that_sqlite_calls():
    connection = sqlite3.connect(":memory:")
    called = []
    for word in functions.keywords("sqlite"):
        connection.create_function(word, -1, lambda *_, word=word: called.append(word))
        for call in (f"{word}(1)", f"{word}()", f"{word} (1)"):
            with suppress(sqlite3.Error):
                connection.execute(f"SELECT {call}").fetchall()
    assert called == []


@pytest.mark.slow
@pytest.mark.parametrize("engine", list(CALLS))
def test_no_disguise_of_a_hostile_statement_is_let_through(engine: str):
    assert let_through(engine, _TEXTS) == []


def test_no_disguise_reaches_a_replica(servers: Cluster):
    connection = connections["replica1"]
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        before = servers.replicas[0].statements()
        for text, _ in itertools.islice(disguises(servers.engine, seed=2), 2000):
            for statement in (text, text.encode()):
                with pytest.raises(ReplicaWriteError):
                    pytest.fail(f"executed: {cursor.execute(statement)} {statement!r}")
        assert servers.replicas[0].statements() == before
        cursor.execute("SELECT 1")
        assert servers.replicas[0].statements() == before + 1


@contextmanager
def session(**options: Any) -> Iterator[Any]:
    """A new session of replica1, opened with these OPTIONS besides."""
    connection = connections["replica1"]
    connection.close()
    before = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = {**before, **options}
    try:
        connection.ensure_connection()
        yield connection
    finally:
        connection.close()
        connection.settings_dict["OPTIONS"] = before


@contextmanager
def session_that_the_driver_does_not_know(character_set: str) -> Iterator[Any]:
    """A new session whose character set was changed behind Django's back, as a proxy or a server's setting may do."""
    with session() as connection:
        driver = connection.connection.cursor()
        driver.execute(f"SET NAMES '{character_set}'")
        driver.close()
        if not connection.get_autocommit():
            connection.connection.commit()
        yield connection


_HIDDEN = "SELECT '\\' , ' , '中\\' , GET_LOCK(0x61, 0) -- '"
_HIDDEN_IN_A_NAME = "SELECT 1 AS `中`, `, GET_LOCK(0x61, 0) -- `"


@pytest.mark.parametrize("name", ["gbk", "big5", "sjis", "cp932"])
def test_a_session_whose_character_set_hides_backslashes_takes_no_text_beyond_ascii(servers: Cluster, name: str):
    if servers.engine == "postgresql":
        pytest.skip("see the next test")
    for opened in (session(charset=name), session_that_the_driver_does_not_know(name)):
        with opened as connection, connection.cursor() as cursor:
            cursor.execute("SELECT 'it\\'s', %s", ["x"])
            assert cursor.fetchone() == ("it's", "x")
            for statement in (_HIDDEN, _HIDDEN_IN_A_NAME, "SELECT 'é'", "SELECT 'é'".encode()):
                with pytest.raises(ReplicaWriteError, match="beyond ASCII"):
                    pytest.fail(f"executed: {cursor.execute(statement)} {cursor.fetchall()}")
    with session() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'é', '中'")
        assert cursor.fetchone() == ("é", "中")


@pytest.mark.parametrize("name", ["GBK", "BIG5", "SJIS", "UHC"])
def test_a_session_whose_encoding_hides_backslashes_takes_no_text_beyond_ascii(servers: Cluster, name: str):
    if servers.engine != "postgresql":
        pytest.skip("see the test before")
    hidden = "SELECT E'中\\' , pg_advisory_lock(1) -- '"
    with session_that_the_driver_does_not_know(name) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT %s", ["x"])
        for statement in (hidden, hidden.encode(), "SELECT 'é'"):
            with pytest.raises(ReplicaWriteError, match="beyond ASCII"):
                pytest.fail(f"executed: {cursor.execute(statement)} {cursor.fetchall()}")
    with session() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 'é', '中'")
        assert cursor.fetchone() == ("é", "中")


def test_what_is_known_to_lock_stays_refused_in_quotes_and_as_a_procedure(servers: Cluster):
    lock = {"postgresql": "pg_advisory_lock"}.get(servers.engine, "get_lock")
    arguments = "(77)" if servers.engine == "postgresql" else "('guard', 0)"
    quotes = ['"', "`"] if servers.engine != "postgresql" else ['"']
    with connections["replica1"].cursor() as cursor, allow_functions(lock):
        for quote in quotes:
            with pytest.raises(ReplicaWriteError, match=f"{lock}"):
                cursor.execute(f"SELECT {quote}{lock}{quote}{arguments}")
        with pytest.raises(ReplicaWriteError, match=f"callproc.'{lock}'. was refused"):
            cursor.callproc(lock, [77])


def test_attribute_notation_is_left_to_the_read_only_session(servers: Cluster, database: str):
    if servers.engine != "postgresql":
        pytest.skip("PostgreSQL's")
    servers.primary.query(
        "CREATE FUNCTION touch(app_item) RETURNS bigint LANGUAGE sql AS "
        "'UPDATE app_item SET name = name WHERE id = $1.id RETURNING id'",
        database,
    )
    servers.primary.query("INSERT INTO app_item (name) VALUES ('x')", database)
    servers.wait_until_caught_up()
    statement = "SELECT t.touch FROM app_item t"
    assert _core.refusal(statement, "postgresql") is None
    with connections["replica1"].cursor() as cursor, pytest.raises(ReplicaWriteError, match="SELECT was refused"):
        cursor.execute(statement)


def test_mysql_and_mariadb_are_told_apart(servers: Cluster):
    """Each has functions whose names the other leaves to its users."""
    if servers.engine == "postgresql":
        pytest.skip("MySQL's and MariaDB's")
    own = {"mysql": "SELECT BIN_TO_UUID(UUID_TO_BIN(UUID()))", "mariadb": "SELECT NVL(NULL, 1)"}
    with connections["replica1"].cursor() as cursor:
        cursor.execute(own.pop(servers.engine))
        assert cursor.fetchone()
        for statement in own.values():
            with pytest.raises(ReplicaWriteError):
                cursor.execute(statement)


def test_a_statement_that_is_too_long_to_be_read_is_refused(servers: Cluster):
    longest = 1 << 20
    with connections["replica1"].cursor() as cursor:
        with suppress(DatabaseError):
            # A server may allow less in one packet; but it is the server that refuses.
            cursor.execute("SELECT " + " " * (longest - len("SELECT 1")) + "1")
            assert cursor.fetchone() == (1,)
        with pytest.raises(ReplicaWriteError, match="more than 1048576 bytes"):
            cursor.execute("SELECT " + " " * (longest - len("SELECT 1")) + "11")
