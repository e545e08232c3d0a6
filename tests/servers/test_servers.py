"""The servers do what the other tests take for granted. `pytest tests/servers`: 40 s for three engines."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from . import ENGINES, Cluster, Node, ServersUnavailable, start
from .machine import REPOSITORY, wait_until
from .postgresql import end_of_record
from .watchdog import processes, servers_in

DATABASE = "rooms"
TIMEOUT = 20.0


@pytest.fixture(scope="module", params=ENGINES)
def running(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    try:
        cluster = start(request.param)
    except ServersUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with cluster:
        yield cluster


@pytest.fixture
def cluster(running: Cluster) -> Cluster:
    """The engine's cluster with all its servers up and an empty table `item`."""
    for node in running.nodes:
        if not node.running:
            node.restart()
        if node.role == "former":
            running.rejoin(node)
    running.create_database(DATABASE)
    running.primary.query("CREATE TABLE item (id INT PRIMARY KEY)", DATABASE)
    running.wait_until_caught_up()
    return running


@contextlib.contextmanager
def application(cluster: Cluster, node: Node) -> Iterator[Callable[[str], None]]:
    """Run statements, in autocommit, over TCP and under the application's account, as Django would."""
    settings = next(one for one in cluster.databases(DATABASE).values() if one["PORT"] == node.port)
    connection: Any
    if cluster.engine == "postgresql":
        psycopg = importlib.import_module("psycopg" if importlib.util.find_spec("psycopg") else "psycopg2")
        connection = psycopg.connect(
            host=settings["HOST"],
            port=settings["PORT"],
            user=settings["USER"],
            password=settings["PASSWORD"],
            dbname=DATABASE,
            cursor_factory=getattr(psycopg, "ClientCursor", None),
        )
        connection.autocommit = True
    else:
        connection = importlib.import_module("MySQLdb").connect(
            host=settings["HOST"],
            port=settings["PORT"],
            user=settings["USER"],
            password=settings["PASSWORD"],
            database=DATABASE,
            autocommit=True,
        )

    def execute(sql: str) -> None:
        cursor = connection.cursor()
        cursor.execute(sql)
        if cursor.description:
            cursor.fetchall()
        cursor.close()

    try:
        yield execute
    finally:
        connection.close()


def insert(node: Node, number: int) -> None:
    node.query(f"INSERT INTO item VALUES ({number})", DATABASE)


def items(node: Node) -> list[int]:
    return [int(row[0]) for row in node.query("SELECT id FROM item ORDER BY id", DATABASE)]


def test_what_the_primary_writes_reaches_every_replica(cluster: Cluster) -> None:
    insert(cluster.primary, 1)
    cluster.wait_until_caught_up()
    assert [items(replica) for replica in cluster.replicas] == [[1], [1]]


def test_a_database_created_again_is_empty_everywhere(cluster: Cluster) -> None:
    cluster.create_database(DATABASE)
    for node in cluster.nodes:
        with pytest.raises(RuntimeError, match="item"):
            items(node)


def test_replicas_refuse_the_applications_writes_and_the_primary_takes_them(cluster: Cluster) -> None:
    with application(cluster, cluster.primary) as execute:
        execute("INSERT INTO item VALUES (1)")
    for replica in cluster.replicas:
        with application(cluster, replica) as execute, pytest.raises(Exception, match=r"read[- ]only"):
            execute("INSERT INTO item VALUES (2)")


def test_the_application_has_no_rights_beyond_its_databases(cluster: Cluster) -> None:
    secret = "pg_catalog.pg_authid" if cluster.engine == "postgresql" else "mysql.user"
    with application(cluster, cluster.primary) as execute, pytest.raises(Exception, match="denied"):
        execute(f"SELECT * FROM {secret}")


def test_a_paused_replica_stands_still_until_resumed(cluster: Cluster) -> None:
    paused, other = cluster.replicas
    paused.pause_replication()
    insert(cluster.primary, 1)
    with pytest.raises(TimeoutError, match=paused.name):
        cluster.wait_until_caught_up(0.3)
    assert (items(paused), items(other)) == ([], [1])
    paused.resume_replication()
    cluster.wait_until_caught_up()
    assert items(paused) == [1]


def test_a_delayed_replica_applies_after_the_delay_and_at_once_when_it_ends(cluster: Cluster) -> None:
    late, other = cluster.replicas
    late.delay(2)
    began = time.monotonic()
    insert(cluster.primary, 1)
    wait_until(lambda: items(other) == [1], TIMEOUT, "the other replica has it")
    wait_until(lambda: items(late) == [1], TIMEOUT, "the late replica has it")
    # Commit times are whole seconds on MySQL and MariaDB: a delay of 2 s takes 1 to 3.
    assert 1.0 <= time.monotonic() - began < 4.0
    late.delay(600)
    insert(cluster.primary, 2)
    late.delay(0)
    cluster.wait_until_caught_up()
    assert items(late) == [1, 2]


def test_a_killed_replica_comes_back_on_its_port_read_only_with_what_it_missed(cluster: Cluster) -> None:
    replica = cluster.replicas[0]
    port, pid = replica.port, replica.pid
    replica.kill()
    assert not replica.running
    insert(cluster.primary, 1)
    cluster.wait_until_caught_up()  # the one that is down is not waited for
    replica.restart()
    cluster.wait_until_caught_up()
    assert items(replica) == [1]
    assert replica.port == port
    assert replica.pid != pid
    with application(cluster, replica) as execute, pytest.raises(Exception, match=r"read[- ]only"):
        execute("INSERT INTO item VALUES (2)")


def test_a_killed_primary_comes_back_writable_with_its_data_and_its_replicas(cluster: Cluster) -> None:
    insert(cluster.primary, 1)
    cluster.primary.kill()
    cluster.primary.restart()
    with application(cluster, cluster.primary) as execute:
        execute("INSERT INTO item VALUES (2)")
    cluster.wait_until_caught_up()
    assert [items(node) for node in cluster.nodes] == [[1, 2]] * 3


def test_an_orderly_stop_loses_nothing(cluster: Cluster) -> None:
    replica = cluster.replicas[1]
    replica.stop()
    insert(cluster.primary, 1)
    replica.restart()
    cluster.wait_until_caught_up()
    assert items(replica) == [1]


def test_a_suspended_server_accepts_connections_and_does_not_answer(cluster: Cluster) -> None:
    replica = cluster.replicas[0]
    with application(cluster, replica) as execute:
        execute("SELECT 1")
        replica.suspend()
        try:
            insert(cluster.primary, 1)
            replica.disconnect()
            replica.answer_seconds = 0.3
            with pytest.raises(TimeoutError, match=replica.name):
                cluster.wait_until_caught_up(0.3)
        finally:
            replica.answer_seconds = type(replica).answer_seconds
            replica.resume()
        execute("SELECT 1")
    cluster.wait_until_caught_up()
    assert items(replica) == [1]


def test_a_promoted_replica_takes_writes_and_the_old_primary_rejoins_read_only(cluster: Cluster) -> None:
    old, (new, other) = cluster.primary, cluster.replicas
    insert(old, 1)
    cluster.promote(new)
    assert cluster.primary is new
    assert cluster.replicas == [other]
    with application(cluster, new) as execute:
        execute("INSERT INTO item VALUES (2)")
    cluster.wait_until_caught_up()
    assert items(other) == [1, 2]
    cluster.rejoin(old)
    cluster.wait_until_caught_up()
    assert cluster.replicas == [old, other]
    assert items(old) == [1, 2]
    with application(cluster, old) as execute, pytest.raises(Exception, match=r"read[- ]only"):
        execute("INSERT INTO item VALUES (3)")


def test_what_a_dead_primary_had_not_sent_is_gone_after_it_rejoins(cluster: Cluster) -> None:
    old, (new, other) = cluster.primary, cluster.replicas
    for replica in cluster.replicas:
        replica.stop()
    insert(old, 1)
    old.kill()
    for replica in cluster.replicas:
        replica.restart()
    cluster.promote(new)
    insert(new, 2)
    cluster.rejoin(old)
    cluster.wait_until_caught_up()
    assert [items(node) for node in (new, other, old)] == [[2]] * 3


def test_a_replica_that_slept_through_a_promotion_follows_the_new_primary(cluster: Cluster) -> None:
    old, (new, asleep) = cluster.primary, cluster.replicas
    asleep.kill()
    cluster.promote(new)
    insert(new, 1)
    asleep.restart()
    cluster.wait_until_caught_up()
    assert items(asleep) == [1]
    cluster.rejoin(old)


def test_statements_counts_the_selects_of_others_exactly(cluster: Cluster) -> None:
    replica, primary = cluster.replicas[0], cluster.primary
    with application(cluster, replica) as execute:
        before = replica.statements()
        for _ in range(7):
            execute("SELECT id FROM item")
        execute("/* app */ SELECT 1")
        items(replica)  # the administrator's own do not count
        assert replica.statements() - before == 8
        assert replica.statements() - before == 8
    with application(cluster, primary) as execute:
        before = primary.statements()
        if cluster.engine == "postgresql":
            execute("BEGIN")
            execute("DECLARE walk CURSOR FOR SELECT 1")
            execute("FETCH ALL FROM walk")
            execute("COMMIT")
            assert primary.statements() - before == 1
            before += 1
        execute("SELECT id FROM item")
        execute("-- app\nINSERT INTO item VALUES (1)")
        execute("UPDATE item SET id = 2")
        execute("DELETE FROM item")
        assert primary.statements() - before == 1


def test_django_migrates_and_makes_its_test_database_with_these_rights(cluster: Cluster) -> None:
    script = f"""
import django
from django.conf import settings
settings.configure(
    DATABASES={cluster.databases(DATABASE)!r},
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth"],
)
django.setup()
from django.core.management import call_command
from django.db import connection
call_command("migrate", verbosity=0)
connection.creation.create_test_db(verbosity=0, autoclobber=False)
connection.creation.destroy_test_db({DATABASE!r}, verbosity=0)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    cluster.wait_until_caught_up()
    for node in cluster.nodes:
        assert node.query("SELECT count(*) FROM auth_user", DATABASE) == [("0",)]


@pytest.mark.servers
@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_is_left_after_stop(engine: str) -> None:
    try:
        cluster = start(engine, replicas=1)
    except ServersUnavailable as unavailable:
        pytest.skip(str(unavailable))
    pids = [node.pid for node in cluster.nodes]
    folder = cluster.folder
    assert folder.is_dir()
    assert set(pids) <= servers_in(str(folder))
    cluster.stop()
    cluster.stop()
    assert not folder.exists()
    assert not set(pids) & set(processes())
    assert not servers_in(str(folder))


@pytest.mark.servers
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_server_outlives_a_parent_that_was_killed(engine: str, number: signal.Signals) -> None:
    script = (
        "import sys, signal\n"
        "from tests.servers import ServersUnavailable, start\n"
        "try:\n"
        f"    cluster = start({engine!r}, replicas=1)\n"
        "except ServersUnavailable:\n"
        "    sys.exit()\n"
        "cluster.replicas[0].suspend()\n"
        "print(cluster.folder, flush=True)\n"
        "signal.pause()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, env=environment) as parent:
        assert parent.stdout is not None
        folder = parent.stdout.readline().strip()
        if not folder:
            pytest.skip(f"{engine} is not available")
        servers = servers_in(folder)
        assert len(servers) >= 2
        parent.send_signal(number)
    wait_until(lambda: not servers & set(processes()), TIMEOUT, "the servers end")
    wait_until(lambda: not Path(folder).exists(), TIMEOUT, "the folder is removed")


@pytest.mark.servers
def test_a_forked_child_leaves_its_parents_servers_alone() -> None:
    try:
        cluster = start("mariadb", replicas=0)
    except ServersUnavailable as unavailable:
        pytest.skip(str(unavailable))
    with cluster:
        child = os.fork()
        if child == 0:
            cluster.stop()
            os._exit(int(cluster.primary.query("SELECT 7")[0][0]))
        _, status = os.waitpid(child, 0)
        assert os.waitstatus_to_exitcode(status) == 7
        assert cluster.primary.query("SELECT 8") == [("8",)]


def test_the_end_of_a_record_is_before_the_header_of_the_next_page() -> None:
    assert end_of_record(0x3000060) == 0x3000060
    assert end_of_record(8192 * 5 + 24) == 8192 * 5
    assert end_of_record(1024 * 1024 * 3 + 40) == 1024 * 1024 * 3
    assert end_of_record(8192 * 5 + 40) == 8192 * 5 + 40


def test_an_unknown_engine_is_refused() -> None:
    with pytest.raises(ValueError, match="oracle"):
        start("oracle")
