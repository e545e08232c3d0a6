"""What the servers say of their replicas."""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from django.db import OperationalError, connections
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant.engines import engine_of
from replicant.monitor.discovery import Member, Unusable, aurora, hosts, members, resolved
from tests.monitor.viewer import METHODS, PASSWORD, RIGHTS, VIEWER
from tests.servers import Cluster, Node
from tests.servers.machine import HOST, wait_until
from tests.servers.postgresql import PostgreSQLNode
from tests.servers.wire_postgresql import ADMINISTRATOR

SECONDS = 20.0
on_binlogs = pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)
on_mysql = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
on_postgresql = pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)


@contextlib.contextmanager
def session(alias: str, **settings: Any) -> Iterator[BaseDatabaseWrapper]:
    """A session of the monitor's kind: nobody else's."""
    connection = connections[alias].copy()
    connection.settings_dict.update(settings)
    connection.connect()
    try:
        yield connection
    finally:
        connection.close()


@pytest.fixture
def viewer(servers: Cluster, database: str) -> Iterator[BaseDatabaseWrapper]:
    """A session with the primary, as somebody who may see its replicas."""
    identified = f"CREATE USER {VIEWER} IDENTIFIED BY '{PASSWORD}'"
    made = f"CREATE ROLE {VIEWER} LOGIN PASSWORD '{PASSWORD}'" if servers.engine == "postgresql" else identified
    servers.primary.query(made)
    servers.primary.query(RIGHTS[servers.engine])
    reachable = "" if servers.engine == "postgresql" else f"GRANT SELECT ON {database}.* TO {VIEWER}"
    if reachable:
        servers.primary.query(reachable)
    with session("default", USER=VIEWER, PASSWORD=PASSWORD) as connection:
        yield connection
    servers.primary.query(f"DROP {'ROLE' if servers.engine == 'postgresql' else 'USER'} {VIEWER}")


def seen(connection: BaseDatabaseWrapper, method: str, hosts: Mapping[str, str] | None = None) -> list[Member]:
    sample = engine_of(connection).probe(connection)
    return members(connection, {"METHOD": method, "HOSTS": hosts or {}}, sample)


def identity(alias: str) -> str:
    """Which server is behind an alias, by the monitor's account."""
    with session(alias) as connection:
        return engine_of(connection).probe(connection).identity


# MySQL and MariaDB


@on_binlogs
def test_a_primary_lists_its_replicas_where_they_say_that_they_are(servers: Cluster, viewer: BaseDatabaseWrapper):
    found = seen(viewer, "mysql")
    assert [(member.host, member.port) for member in found] == sorted((HOST, each.port) for each in servers.replicas)
    identities = {identity("replica1"), identity("replica2")} if servers.engine == "mysql" else {""}
    assert {member.server for member in found} == identities


@on_binlogs
def test_one_that_no_longer_replicates_leaves_the_view_and_nobody_is_no_view(
    servers: Cluster, viewer: BaseDatabaseWrapper, database: str
):
    first, second = servers.replicas

    def without(*gone: Node) -> bool:
        # A primary notices when it has something to send.
        servers.primary.query("CREATE OR REPLACE VIEW noticed AS SELECT 1", database)
        try:
            return not {member.port for member in seen(viewer, "mysql")} & {node.port for node in gone}
        except Unusable as error:
            return len(gone) == 2 and "no replica at all" in str(error)

    try:
        first._stop_threads("IO_THREAD")
        wait_until(lambda: without(first), SECONDS, "one is left")
        second._stop_threads("IO_THREAD")
        wait_until(lambda: without(first, second), SECONDS, "none is left")
        with pytest.raises(Unusable, match="no replica at all"):
            seen(viewer, "mysql")
    finally:
        first._start_threads("IO_THREAD")
        second._start_threads("IO_THREAD")
    wait_until(lambda: listed(viewer) == 2, SECONDS, "both are back")


def listed(viewer: BaseDatabaseWrapper) -> int:
    with contextlib.suppress(Unusable):
        return len(seen(viewer, "mysql"))
    return 0


@on_binlogs
def test_the_site_says_by_address_or_server_id_where_it_reaches_a_replica(
    servers: Cluster, viewer: BaseDatabaseWrapper
):
    first, second = servers.replicas
    number = second.value("SELECT @@server_id")
    found = seen(viewer, "mysql", {f"{HOST}:{first.port}": "db2.internal", number: "db3.internal:3307"})
    assert {(member.host, member.port) for member in found} == {("db2.internal", first.port), ("db3.internal", 3307)}


@on_mysql
def test_what_the_site_maps_to_nothing_is_no_replica(servers: Cluster, viewer: BaseDatabaseWrapper):
    first, second = servers.replicas
    assert [member.port for member in seen(viewer, "mysql", {f"{HOST}:{first.port}": ""})] == [second.port]


@on_mysql
def test_replicas_that_nothing_tells_apart_are_no_view(servers: Cluster, viewer: BaseDatabaseWrapper):
    with pytest.raises(Unusable, match=r"two replicas are reached at db2\.internal port 3306"):
        seen(viewer, "mysql", {HOST: "db2.internal:3306"})


@pytest.fixture
def unreported(servers: Cluster, viewer: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch) -> Iterator[Node]:
    """A replica that does not say where it is."""
    replica = servers.replicas[0]
    silent = {name: value for name, value in replica._options().items() if name != "report-host"}
    monkeypatch.setattr(replica, "_options", lambda: silent)
    replica.restart()
    yield replica
    monkeypatch.undo()
    replica.restart()
    wait_until(lambda: not why_not(viewer), SECONDS, "its last registration is forgotten")


def why_not(viewer: BaseDatabaseWrapper) -> str:
    try:
        seen(viewer, "mysql")
    except Unusable as error:
        return str(error)
    return ""


@on_mysql
def test_a_mysql_replica_that_does_not_say_where_it_is_must_be_named(unreported: Node, viewer: BaseDatabaseWrapper):
    number = unreported.value("SELECT @@server_id")
    # Its last registration may still be listed for a moment.
    wait_until(lambda: f"server id {number} sets no report_host" in why_not(viewer), SECONDS, "it is missed")
    found = seen(viewer, "mysql", {number: "db2.internal"})
    assert ("db2.internal", unreported.port) in [member[:2] for member in found]


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_mariadb_replica_that_does_not_say_where_it_is_is_where_it_comes_from(
    unreported: Node, viewer: BaseDatabaseWrapper
):
    assert (HOST, unreported.port) in [member[:2] for member in seen(viewer, "mysql")]


def test_an_ordinary_user_is_told_which_right_it_lacks(servers: Cluster):
    right = {"mysql": "REPLICATION SLAVE", "mariadb": "REPLICATION MASTER ADMIN", "postgresql": "pg_monitor"}
    with session("default") as connection, pytest.raises(Unusable, match=f"needs {right[servers.engine]}"):
        seen(connection, METHODS[servers.engine])


def test_a_server_that_takes_no_writes_is_not_asked(servers: Cluster):
    with session("replica1") as connection, pytest.raises(Unusable, match="takes no writes"):
        seen(connection, METHODS[servers.engine])


@on_mysql
def test_what_a_server_does_not_know_is_no_view_and_says_why(servers: Cluster, viewer: BaseDatabaseWrapper):
    with pytest.raises(Unusable, match="does not answer what METHOD 'aurora' asks"):
        seen(viewer, "aurora", {"*": "?.internal"})


@on_mysql
def test_a_session_that_is_gone_is_an_error_of_the_database(servers: Cluster, viewer: BaseDatabaseWrapper):
    sample = engine_of(viewer).probe(viewer)
    with contextlib.closing(viewer.connection.cursor()) as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()
    servers.primary.query(f"KILL {number}")
    with pytest.raises(OperationalError) as caught:
        members(viewer, {"METHOD": "mysql"}, sample)
    assert engine_of(viewer).is_gone(caught.value)


# PostgreSQL


@on_postgresql
def test_standbys_are_where_the_map_says_by_their_names(servers: Cluster, viewer: BaseDatabaseWrapper):
    first, second = servers.replicas
    found = seen(viewer, "postgresql", {first.name: "db2.internal", second.name: f"db3.internal:{second.port}"})
    assert found == [Member("db2.internal", None), Member("db3.internal", second.port)]


@on_postgresql
def test_a_standby_that_nobody_says_where_it_is_makes_the_view_partial(servers: Cluster, viewer: BaseDatabaseWrapper):
    first, second = servers.replicas
    with pytest.raises(Unusable, match=f"'{second.name}' comes by a Unix socket"):
        seen(viewer, "postgresql", {first.name: "db2.internal"})
    assert seen(viewer, "postgresql", {first.name: "db2.internal", second.name: ""}) == [Member("db2.internal", None)]


@pytest.fixture
def over_tcp(servers: Cluster) -> Iterator[None]:
    """The standbys come from an address."""
    primary, secret = servers.primary, "administrator-password"
    primary.query(f"ALTER ROLE {ADMINISTRATOR} PASSWORD '{secret}'")
    servers.wait_until_caught_up()
    before = {node: node.value("SHOW primary_conninfo") for node in servers.replicas}
    address = f"host={HOST} port={primary.port} user={ADMINISTRATOR} password={secret}"
    for node in servers.replicas:
        point(node, f"{address} application_name={node.name}")
    come_from(primary, HOST)
    yield
    for node, conninfo in before.items():
        point(node, conninfo)
    come_from(primary, "NULL")


def point(node: Node, conninfo: str) -> None:
    assert isinstance(node, PostgreSQLNode)
    node._alter("primary_conninfo", conninfo)


def come_from(primary: Node, address: str) -> None:
    sql = "SELECT host(client_addr) FROM pg_stat_replication WHERE state = 'streaming'"
    wait_until(lambda: primary.query(sql) == [(address,), (address,)], SECONDS, f"they stream from {address}")


@on_postgresql
@pytest.mark.usefixtures("over_tcp")
def test_a_standby_that_is_not_in_the_map_is_at_the_address_it_comes_from(
    servers: Cluster, viewer: BaseDatabaseWrapper
):
    first = servers.replicas[0]
    assert seen(viewer, "postgresql", {first.name: ""}) == [Member(HOST, None)]
    assert seen(viewer, "postgresql", {first.name: "db2", HOST: "db3:5433"}) == [
        Member("db2", None),
        Member("db3", 5433),
    ]
    # Two at one address are not told apart.
    with pytest.raises(Unusable, match=f"2 standbys seem to be at {HOST}"):
        seen(viewer, "postgresql")


@on_postgresql
def test_who_takes_a_backup_archives_the_log_or_subscribes_to_changes_is_no_replica(
    servers: Cluster, viewer: BaseDatabaseWrapper, database: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
):
    primary = servers.primary
    command = primary._command()
    monkeypatch.setattr(primary, "_command", lambda: [*command, "-c", "wal_level=logical"])
    address = f"host={primary.folder} port={primary.port} user={ADMINISTRATOR} dbname={database}"
    tools = {
        "pg_receivewal": ["-D", str(tmp_path), "--no-loop"],
        "pg_basebackup": ["-D", str(tmp_path / "backup"), "-X", "none", "-c", "fast", "--max-rate", "32"],
        "pg_recvlogical": ["--slot", "changes", "--create-slot", "--start", "-f", "/dev/null", "-P", "test_decoding"],
    }
    running = []
    try:
        primary.restart()
        viewer.close()
        viewer.connect()
        for tool, arguments in tools.items():
            program = str(primary._installation.tool(tool))
            name = "" if tool == "pg_receivewal" else " application_name=nightly"
            running.append(subprocess.Popen([program, *arguments, "-d", address + name], stderr=subprocess.DEVNULL))
        states = "SELECT string_agg(state, ' ' ORDER BY state) FROM pg_stat_replication"
        wait_until(lambda: primary.value(states) == "backup" + 4 * " streaming", SECONDS, "all are at it")
        named = {node.name: node.name for node in servers.replicas}
        assert [member.host for member in seen(viewer, "postgresql", named)] == sorted(named)
    finally:
        for process in running:
            process.kill()
            process.wait()
        active = "SELECT count(*) FROM pg_replication_slots WHERE active"
        wait_until(lambda: primary.value(active) == "0", SECONDS, "nobody holds the slot")
        primary.query("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        monkeypatch.undo()
        primary.restart()
        for node in servers.replicas:
            node.wait_until_replicating()


# Aurora, played by servers that have its tables and functions made for them

#: Identifier, session, and how many seconds ago it was heard of.
ROWS = [
    ("writer-1", "MASTER_SESSION_ID", 1),
    ("former-1", "MASTER_SESSION_ID", 90),
    ("reader-1", "9a3f6f2c-6b6e-4c53-b8a2-1f1c4c1d7f11", 2),
    ("reader-2", "0c0e4c0a-5bd0-4a6a-a4d7-8e4f0d6f7a55", 179),
    ("ghost-1", "5d3f1c66-54e2-4d57-9a33-6d2c6d6a5f10", 300),
    ("ghost-2", "7b0b1b9e-3d0e-4b7c-8a55-52ad0a4c3e77", -300),
]
ENDPOINTS = {"*": "?.abc123.eu-west-1.rds.amazonaws.com"}
READERS = [Member(f"reader-{number}.abc123.eu-west-1.rds.amazonaws.com", None) for number in (1, 2)]


@pytest.fixture
def play(servers: Cluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Have the primary give the answers of an Aurora cluster, asked of one of its instances."""

    def answer(rows: list[tuple[str, str, int | None]], asked: str = "writer-1") -> None:
        if servers.engine == "postgresql":
            now, interval, kind = "clock_timestamp()", "interval '{} seconds'", "timestamptz"
        else:
            now, interval, kind = "UTC_TIMESTAMP(6)", "INTERVAL {} SECOND", "datetime(6)"
        table = f"CREATE TABLE replica_host_status (SERVER_ID varchar(100), SESSION_ID varchar(100), {UPDATED} {kind})"
        made = ["DROP TABLE IF EXISTS replica_host_status", table]
        for identifier, session_id, age in rows:
            at = "NULL" if age is None else f"{now} - {interval.format(age)}"
            made.append(f"INSERT INTO replica_host_status VALUES ('{identifier}', '{session_id}', {at})")
        for statement in [*made, *(FUNCTIONS if servers.engine == "postgresql" else ())]:
            servers.primary.query(statement.replace("ASKED", asked), database)
        # Nobody can add to MySQL's information_schema, nor to its variables.
        sql = aurora._MYSQL.replace("information_schema.", f"{database}.").replace("@@aurora_server_id", f"'{asked}'")
        monkeypatch.setattr(aurora, "_MYSQL", sql)

    yield answer
    dropped = ["DROP TABLE replica_host_status"]
    if servers.engine == "postgresql":
        dropped[:0] = ["DROP FUNCTION aurora_replica_status()", "DROP FUNCTION aurora_db_instance_identifier()"]
    for statement in dropped:
        servers.primary.query(statement, database)


UPDATED = "LAST_UPDATE_TIMESTAMP"
FUNCTIONS = (
    """
    CREATE OR REPLACE FUNCTION aurora_replica_status() RETURNS SETOF replica_host_status
    LANGUAGE sql SECURITY DEFINER AS 'SELECT * FROM replica_host_status'
    """,
    "CREATE OR REPLACE FUNCTION aurora_db_instance_identifier() RETURNS text LANGUAGE sql AS $$SELECT 'ASKED'$$",
)
on_both = pytest.mark.parametrize("cluster", ["mysql", "postgresql"], indirect=True)


def test_aurora_is_asked_in_these_words():
    mysql, postgresql = (" ".join(sql.split()) for sql in (aurora._MYSQL, aurora._POSTGRESQL))
    assert mysql == (
        "SELECT SERVER_ID AS server_id, SESSION_ID = 'MASTER_SESSION_ID' AS is_writer, "
        "SERVER_ID = @@aurora_server_id AS is_asked FROM information_schema.replica_host_status "
        "WHERE ABS(TIMESTAMPDIFF(SECOND, LAST_UPDATE_TIMESTAMP, UTC_TIMESTAMP(6))) <= 180 "
        "ORDER BY LAST_UPDATE_TIMESTAMP DESC"
    )
    assert postgresql == (
        "SELECT server_id, session_id = 'MASTER_SESSION_ID' AS is_writer, "
        "server_id = aurora_db_instance_identifier() AS is_asked FROM aurora_replica_status() "
        "WHERE last_update_timestamp IS NULL "
        "OR abs(extract(epoch FROM clock_timestamp() - last_update_timestamp)) <= 180 "
        "ORDER BY last_update_timestamp DESC NULLS FIRST"
    )


@on_both
def test_aurora_readers_are_those_heard_of_lately_and_no_writer_past_or_present(viewer: BaseDatabaseWrapper, play: Any):
    play(ROWS)
    assert seen(viewer, "aurora", ENDPOINTS) == READERS


@on_both
def test_the_clock_is_the_servers_whatever_the_time_zone_of_the_session(viewer: BaseDatabaseWrapper, play: Any):
    play(ROWS)
    zone = "SET TIME ZONE 'Asia/Tokyo'" if viewer.vendor == "postgresql" else "SET time_zone = '+09:00'"
    with contextlib.closing(viewer.connection.cursor()) as cursor:
        cursor.execute(zone)
    assert seen(viewer, "aurora", ENDPOINTS) == READERS


@on_both
def test_of_two_aurora_writers_the_one_heard_of_last_is_the_writer(viewer: BaseDatabaseWrapper, play: Any):
    play([*ROWS, ("writer-2", "MASTER_SESSION_ID", 0)])
    with pytest.raises(Unusable, match="the writer is 'writer-2' by now"):
        seen(viewer, "aurora", ENDPOINTS)


@on_both
@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([], "no writer"),
        (ROWS[2:], "no writer"),
        ([ROWS[0]], "no replica at all"),
        ([(name, kind, age + 180) for name, kind, age in ROWS[:5]], "no writer"),
    ],
    ids=["empty", "without a writer", "without a reader", "old"],
)
def test_an_aurora_view_that_cannot_be_whole_is_no_view(viewer: BaseDatabaseWrapper, play: Any, rows: Any, why: str):
    play(rows)
    with pytest.raises(Unusable, match=why):
        seen(viewer, "aurora", ENDPOINTS)


@on_postgresql
def test_the_aurora_instance_that_is_asked_has_no_timestamp(viewer: BaseDatabaseWrapper, play: Any):
    play([("writer-1", "MASTER_SESSION_ID", None), *ROWS[1:]])
    assert seen(viewer, "aurora", ENDPOINTS) == READERS


@on_postgresql
def test_an_aurora_instance_may_have_a_place_of_its_own_and_must_have_one(viewer: BaseDatabaseWrapper, play: Any):
    play(ROWS)
    assert seen(viewer, "aurora", {**ENDPOINTS, "reader-2": "::1"}) == [Member("::1", None), READERS[0]]
    with pytest.raises(Unusable, match="HOSTS has no entry for the instance 'reader-2'"):
        seen(viewer, "aurora", {"reader-1": "db2"})


# Names


def test_a_name_of_this_machine_has_its_loopback_addresses():
    found = resolved("localhost", 3306)
    assert Member("127.0.0.1", 3306) in found
    assert resolved("127.0.0.1", None) == [Member("127.0.0.1", None)]


def answers(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def getaddrinfo(host: str, port: int | None, **kwargs: Any) -> list[Any]:
        families = [socket.AF_INET6 if ":" in address else socket.AF_INET for address in addresses]
        return [
            (family, socket.SOCK_STREAM, 6, "", (each, port)) for family, each in zip(families, addresses, strict=True)
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


def test_every_address_of_a_name_is_a_replica_once_and_in_an_order_of_its_own(monkeypatch: pytest.MonkeyPatch):
    answers(monkeypatch, "fe80::2%eth0", "10.0.0.10", "10.0.0.9", "2001:db8::1", "10.0.0.10")
    found = [member.host for member in resolved("readers.internal", 3306)]
    assert found == ["10.0.0.9", "10.0.0.10", "2001:db8::1", "fe80::2%eth0"]


def test_a_name_without_an_address_is_no_view(monkeypatch: pytest.MonkeyPatch):
    with pytest.raises(Unusable, match="is not resolved"):
        resolved("x" * 64, 3306)
    answers(monkeypatch)
    with pytest.raises(Unusable, match="has no address"):
        resolved("readers.internal", 3306)


@pytest.mark.parametrize(
    ("written", "place"),
    [
        ("db2", ("db2", None)),
        ("db2:3307", ("db2", 3307)),
        ("10.0.0.2:3307", ("10.0.0.2", 3307)),
        ("2001:db8::2", ("2001:db8::2", None)),
        ("[2001:db8::2]:3307", ("2001:db8::2", 3307)),
        ("[2001:db8::2]", ("2001:db8::2", None)),
        ("", ("", None)),
    ],
)
def test_a_place_is_a_host_and_perhaps_a_port(written: str, place: tuple[str, int | None]):
    assert hosts.reached({"name": written}, "other", "name") == place
