"""The monitor's thread: what it finds, what it costs, and that it stands in nobody's way."""

from __future__ import annotations

import functools
import itertools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import connections, router
from django.test import override_settings

from replicant.engines import Sample
from replicant.monitor import cluster_monitor, watch
from replicant.private_folder import FOLDER_VARIABLE
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.databases import sqlite, use_databases
from tests.monitoring import (
    ALIASES,
    PROBER,
    REPOSITORY,
    black_hole,
    environment,
    samples_path,
    sessions,
    use_prober,
    watching,
)
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 20.0


@pytest.fixture
def probed(servers: Cluster, database: str) -> Cluster:
    """The cluster, with an account that may do nothing but read, for the monitor."""
    use_prober(servers, database)
    return servers


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("replicant-")}


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


class Heard:
    """What the monitor passed on, call by call."""

    def __init__(self) -> None:
        self.calls: list[list[Sample]] = []

    def __call__(self, samples: Sequence[Sample]) -> None:
        self.calls.append(list(samples))

    def of(self, alias: str) -> list[Sample]:
        return [sample for call in self.calls for sample in call if sample.alias == alias]

    def wait(self, condition: Callable[[Sample], bool], *aliases: str) -> None:
        """Wait until for each of the aliases a sample came that fulfils the condition."""
        wait_until(lambda: all(any(map(condition, self.of(alias))) for alias in aliases), SECONDS, "such samples come")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr(watch, "consumer", heard)
    return heard


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    cluster_monitor.stop()
    wait_until(lambda: not threads(), SECONDS, "the monitor's threads end")


# When there is one.


def test_the_first_routed_read_starts_it_and_nothing_else_does(site: Path):
    with override_settings(REPLICANT=watching(0.1)):
        router.db_for_write(Item)
        router.allow_migrate("default", "app")
        call_command("check", verbosity=0)
        Item.objects.using("replica1").count()
        assert not threads()
        router.db_for_read(Item)
        assert "replicant-monitor-default" in threads()


def test_a_cluster_without_interval_or_without_replicas_has_none(site: Path):
    for clusters in (watching(None), {"default": {"REPLICAS": []}}, {}):
        with override_settings(REPLICANT=clusters):
            router.db_for_read(Item)
            assert not threads()


def test_it_ends_when_settings_change_and_begins_anew_with_the_next_read(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": 0.05}}):
            assert not threads()
            router.db_for_read(Item)
            wait_until(lambda: len(cluster_monitor.latest()) == 2, SECONDS, "the two members are known")
        assert not threads()
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "the three members are known")


def test_each_cluster_has_its_own_interval(site: Path, heard: Heard):
    clusters = {
        "default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": 0.02},
        "other": {"REPLICAS": ["replica2"], "PROBE_SECONDS": 100.0, "MODELS": ["app.Tag"]},
    }
    with override_settings(REPLICANT=clusters):
        router.db_for_read(Item)
        wait_until(lambda: len(heard.of("replica1")) >= 10, SECONDS, "ten samples come")
        assert len(heard.of("replica2")) == 1


def test_whoever_cannot_wait_wakes_it(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(2.0)):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        begun = time.monotonic()
        cluster_monitor.wake()
        wait_until(lambda: len(heard.of("default")) == 2, SECONDS, "another sample comes")
        assert time.monotonic() - begun < 1.5


def test_a_consumer_that_fails_does_not_end_it(site: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    calls: list[object] = []

    def fail(samples: Sequence[Sample]) -> None:
        calls.append(samples)
        raise ZeroDivisionError

    monkeypatch.setattr(watch, "consumer", fail)
    with override_settings(REPLICANT=watching(0.02)):
        router.db_for_read(Item)
        wait_until(lambda: len(calls) > 2, SECONDS, "it is called again")
        cluster_monitor.stop()
    assert "goes on" in caplog.text


# What it finds.


def test_a_database_file_that_is_gone_is_told_and_not_made(site: Path, heard: Heard):
    gone = site / "replica2.sqlite3"
    gone.unlink()
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is None, "default", "replica1")
        heard.wait(lambda sample: "unable to open" in (sample.error or ""), "replica2")
    assert not gone.exists()


def test_role_position_and_server_are_found_by_one_who_may_only_read(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.1)):
        router.db_for_read(Item)
        Item.objects.create(name="written")
        probed.wait_until_caught_up()
        caught_up_at = time.monotonic_ns()
        heard.wait(lambda sample: sample.asked_at > caught_up_at, *ALIASES)
        # An idle primary of PostgreSQL logs something from time to time, perhaps between two questions of one look.
        at = heard.of("default")[-1].position
        heard.wait(lambda sample: bool(sample.position and at and sample.position.contains(at)), *ALIASES)
    found = {alias: heard.of(alias)[-1] for alias in ALIASES}
    assert {alias: sample.is_writable for alias, sample in found.items()} == {
        "default": True,
        "replica1": False,
        "replica2": False,
    }
    assert len({sample.server for sample in found.values()}) == 3
    assert at is not None
    assert at.kind == probed.engine
    assert not any(sample.error for sample in found.values())
    assert all(0 < sample.latency < 5 for sample in found.values())


def test_a_replicas_position_stands_still_while_it_applies_nothing(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.1)):
        router.db_for_read(Item)
        probed.replicas[0].pause_replication()
        paused_at = time.monotonic_ns()
        Item.objects.create(name="held back")
        written_at = time.monotonic_ns()
        heard.wait(lambda sample: sample.asked_at > written_at, *ALIASES)
        written = next(s.position for s in heard.of("default") if s.asked_at > written_at)
        assert written is not None
        heard.wait(lambda sample: sample.position is not None and sample.position.contains(written), "replica2")
        held = [s.position for s in heard.of("replica1") if s.asked_at > paused_at]
        assert held
        assert not any(position.contains(written) for position in held if position is not None)
        probed.replicas[0].resume_replication()
        heard.wait(lambda sample: sample.position is not None and sample.position.contains(written), "replica1")


def test_a_look_is_one_statement_that_nobody_else_sees(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.05)), record_queries() as queries:
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        cluster_monitor.stop()
        wait_until(lambda: not threads(), SECONDS, "the monitor's threads end")
        before = [node.statements() for node in probed.nodes]
        heard.calls.clear()
        router.db_for_read(Item)
        wait_until(lambda: len(heard.of("default")) >= 10, SECONDS, "ten samples come")
        cluster_monitor.stop()
        wait_until(lambda: not threads(), SECONDS, "the monitor's threads end")
        after = [node.statements() for node in probed.nodes]
    # The last look may have been counted by the server, and have come too late to be passed on.
    for alias, one, other in zip(ALIASES, before, after, strict=True):
        assert 0 <= other - one - len(heard.of(alias)) <= 1
    assert queries == []
    assert {connection.alias for connection in connections.all(initialized_only=True)} <= {*ALIASES, "other"}
    assert not any(connection.execute_wrappers[1:] for connection in connections.all(initialized_only=True))


def test_its_connections_are_closed_at_the_server(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is None, *ALIASES)
        assert [sessions(node) for node in probed.nodes] == [1, 1, 1]
        cluster_monitor.stop()
        wait_until(lambda: not any(sessions(node) for node in probed.nodes), SECONDS, "its sessions end")


def test_a_session_that_the_server_ended_is_no_failure_of_the_server(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is None, *ALIASES)
        node = probed.replicas[0]
        if probed.engine == "postgresql":
            node.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{PROBER}'")
        else:
            node.query(
                f"KILL {node.value(f'''SELECT id FROM information_schema.processlist WHERE user = '{PROBER}' ''')}"
            )
        ended_at = time.monotonic_ns()
        heard.wait(lambda sample: sample.asked_at > ended_at, "replica1")
        assert not [sample.error for sample in heard.of("replica1") if sample.error]


def test_a_server_that_is_restarted_is_found_again(probed: Cluster, heard: Heard):
    with override_settings(REPLICANT=watching(0.1)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is None, *ALIASES)
        node = probed.replicas[1]
        node.kill()
        heard.wait(lambda sample: sample.error is not None, "replica2")
        failed = next(sample for sample in heard.of("replica2") if sample.error)
        assert (failed.server, failed.is_writable, failed.position) == ("", False, None)
        node.restart()
        back_at = time.monotonic_ns()
        heard.wait(lambda sample: sample.error is None and sample.asked_at > back_at, "replica2")


def test_an_error_does_not_tell_the_password(probed: Cluster, heard: Heard):
    wrong = {"USER": PROBER, "PASSWORD": "not-the-password", "NAME": "not-the-password"}
    connections.settings["replica1"]["PROBE"] = wrong
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is not None, "replica1")
    (error, *_) = [sample.error for sample in heard.of("replica1")]
    assert "not-the-password" not in error
    assert "\n" not in error


# A member that does not answer.


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_a_suspended_member_delays_nobody_and_is_found_again(probed: Cluster, heard: Heard):
    interval = 0.5
    with override_settings(REPLICANT=watching(interval)):
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is None, *ALIASES)
        running = threads()
        for _ in range(2):
            # The first time the question hangs, the second time the connection.
            probed.replicas[0].suspend()
            suspended_at = time.monotonic_ns()

            def failed(sample: Sample, since: int = suspended_at) -> bool:
                return sample.asked_at > since and sample.error is not None

            heard.wait(failed, "replica1")
            looked_at = time.monotonic_ns()
            heard.wait(lambda sample, since=looked_at: sample.asked_at > since + 2e9, "default", "replica2")
            for alias in ("default", "replica2"):
                times = [sample.asked_at for sample in heard.of(alias) if sample.asked_at > suspended_at]
                assert max(after - before for before, after in itertools.pairwise(times)) < 2 * interval * 1e9
            assert threads() == running
            probed.replicas[0].resume()
            resumed_at = time.monotonic_ns()
            heard.wait(lambda sample, since=resumed_at: not sample.error and sample.asked_at > since, "replica1")
        assert [sessions(node) for node in probed.nodes] == [1, 1, 1]


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_looks_into_a_black_hole_leave_nothing_behind_and_disturb_nobody(probed: Cluster, heard: Heard):
    with black_hole() as port, override_settings(REPLICANT=watching(0.01)):
        before = descriptors(), threading.active_count()
        connections.settings["replica1"]["PROBE"] = {"PORT": port}
        router.db_for_read(Item)
        heard.wait(lambda sample: sample.error is not None, "replica1")
        running, opened = threads(), descriptors()
        wait_until(lambda: len(heard.of("replica1")) >= 200, 10 * SECONDS, "hundreds of looks were taken")
        assert threads() == running
        # A connection that is being tried for comes and goes.
        assert descriptors() <= opened + 1
        assert all(sample.error for sample in heard.of("replica1"))
        assert not any(sample.error for sample in heard.of("default"))
        cluster_monitor.stop()
        wait_until(lambda: not threads(), SECONDS, "the monitor's threads end")
        assert (descriptors(), threading.active_count()) == before


# Where nothing can be shared.


def test_without_a_file_each_process_asks_for_itself(site: Path, heard: Heard, monkeypatch, caplog):
    monkeypatch.setenv(FOLDER_VARIABLE, str(site / "missing"))
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        wait_until(lambda: len(heard.of("replica1")) > 3, SECONDS, "samples come")
        assert cluster_monitor.probing() == ["default"]
    assert [record.getMessage() for record in caplog.records if "for itself" in record.getMessage()][1:] == []
    assert "for itself" in caplog.text


def test_without_a_secret_key_nothing_is_shared(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(0.05), SECRET_KEY=""):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        assert cluster_monitor.probing() == ["default"]
        assert cluster_monitor._watches[0]._samples is None


def test_two_sites_on_one_host_do_not_share(site: Path):
    names = set()
    for settings in (
        {},
        {"SECRET_KEY": "another"},
        {"REPLICANT": watching(3.0)},
        {"REPLICANT": {"default": {"REPLICAS": ["replica1"]}}},
    ):
        with override_settings(**{"REPLICANT": watching(1.0), **settings}):
            router.db_for_read(Item)
            names.add(cluster_monitor._watches[0]._file_name)
    with use_databases(sqlite(site / "elsewhere", *ALIASES), REPLICANT=watching(1.0)):
        router.db_for_read(Item)
        names.add(cluster_monitor._watches[0]._file_name)
    assert len(names) == 5


# Other processes.


@pytest.fixture
def environ(probed: Cluster) -> dict[str, str]:
    """For processes on the same servers, so often that they have much to do when they end."""
    return environment(dict(connections.settings), 0.05)


def run(script: str, environ: dict[str, str], code: int = 0, before: str = "") -> tuple[str, float]:
    """Run a script that has set up Django; returns what it printed, and how many seconds its end took."""
    # The last thing a script says is when it ended.
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", f"{before}{SETUP}{script}\nprint(time.monotonic())"],
        env=environ, cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    ended_at = time.monotonic()
    assert (done.returncode, done.stderr) == (code, "") or code, done.stderr
    assert done.returncode == code, done.stderr
    *lines, last = done.stdout.splitlines()
    return "\n".join(lines), ended_at - float(last)


SILENT = "import logging; logging.getLogger('replicant').setLevel('ERROR')\n"
SETUP = """
import faulthandler, os, sys, threading, time
# Who hangs says where.
faulthandler.dump_traceback_later(45, exit=True)
import django
django.setup()
from django.db import connections
from replicant import use_replica
from replicant.monitor import cluster_monitor as monitor
from tests.app.models import Item
"""
READ = """
with use_replica("replica1"):
    Item.objects.count()
"""
WAIT = """
while len(monitor.latest()) < 3:
    time.sleep(0.001)
"""
FILE = """
from replicant.monitor import shared_file as samples
print(monitor._watches[0]._file_name)
"""


SUSPEND = """
import signal
from tests.servers.machine import signal_tree
signal_tree({pid}, signal.SIGSTOP)
"""


@functools.cache
def without(engine: str) -> float:
    """How many seconds the end of a script takes that reads once, with no monitor."""
    none = environment(dict(connections.settings), None)
    return min(run(READ, none)[1] for _ in range(2))


@pytest.mark.parametrize("ready", ["", WAIT])
def test_a_script_that_reads_once_ends_as_fast_as_without(environ: dict[str, str], probed: Cluster, ready: str):
    # The machine may be busy with other things; what kept a process from ending would do so each time.
    limit = without(probed.engine) + 1
    assert any(run(READ + ready, environ)[1] < limit for _ in range(8))
    wait_until(lambda: not any(sessions(node) for node in probed.nodes), SECONDS, "its sessions end")


def test_a_script_that_ends_leaves_no_file(environ: dict[str, str]):
    name, _ = run(READ + WAIT + FILE, environ)
    assert len(name) == 32
    assert not samples_path(name).exists()


@pytest.mark.parametrize("ready", ["", WAIT])
def test_a_script_ends_as_fast_with_a_member_that_hangs(environ: dict[str, str], probed: Cluster, ready: str):
    suspend = SUSPEND.format(pid=probed.replicas[1].pid) + "time.sleep(0.2)"
    limit = without(probed.engine) + 1

    def ends_in_time() -> bool:
        try:
            return run(READ + ready + suspend, environ)[1] < limit
        finally:
            probed.replicas[1].resume()

    assert any(ends_in_time() for _ in range(8))


def test_sys_exit_in_a_thread_and_an_interrupt_end_it_all_the_same(environ: dict[str, str]):
    exits = """
def work():
    Item.objects.count()
    connections.close_all()
    sys.exit(3)
thread = threading.Thread(target=work)
thread.start()
thread.join()
"""
    run(exits + WAIT, environ)
    # Whoever starts the tests in the background has them, and what they start, ignore it.
    heeding = "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
    interrupted = f"{READ}{WAIT}{heeding}print(time.monotonic(), flush=True)\nsignal.raise_signal(signal.SIGINT)"
    _, seconds = run(interrupted, environ, code=-signal.SIGINT)
    assert seconds < 5


TEST_RUN = """
from django.test.utils import setup_databases, setup_test_environment, teardown_databases
setup_test_environment()
Item.objects.count()
while len(monitor.latest()) < 3:
    time.sleep(0.001)
databases = setup_databases(verbosity=0, interactive=False)
Item.objects.using("default").count()
with use_replica(stale_ok=True):
    Item.objects.count()
print(monitor.latest(), monitor.probing())
while threading.active_count() > 1:
    time.sleep(0.001)
teardown_databases(databases, verbosity=0)
"""


def test_nothing_is_probed_once_djangos_test_runner_has_made_its_databases_and_they_can_be_dropped(servers: Cluster):
    output, _ = run(TEST_RUN, environment(dict(connections.settings), 0.05))
    assert output == "{} []"


FORKS = """
for number in range(40):
    Item.objects.count()
    # Django's own connections do not survive a fork either; that is the application's business.
    connections.close_all()
    if number % 3:
        time.sleep(number % 7 / 1000)
    pid = os.fork()
    if not pid:
        deadline = time.monotonic() + 20
        if threading.active_count() != 1:
            os._exit(3)
        forked_at = time.monotonic_ns()
        Item.objects.count()
        while not monitor.latest() or min(sample.asked_at for sample in monitor.latest().values()) < forked_at:
            if time.monotonic() > deadline:
                os._exit(4)
            time.sleep(0.001)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    assert status == 0, (number, status)
"""


def test_a_fork_at_any_moment_leaves_child_and_parent_with_a_monitor_that_works(environ, probed: Cluster):
    # Forty forks may take longer than a member has to answer: that it is late is not the point.
    run(FORKS + READ + WAIT, environ, before=SILENT)
    wait_until(lambda: not any(sessions(node) for node in probed.nodes), SECONDS, "its sessions end")


def test_a_forked_child_does_not_keep_its_parents_office(environ: dict[str, str]):
    script = (
        READ
        + WAIT
        + FILE
        + """
pid = os.fork()
if not pid:
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
Item.objects.count()
while not monitor.probing():
    time.sleep(0.001)
monitor.stop()
print(pid, threading.active_count())
"""
    )
    output, _ = run(script, environ)
    name, line = output.splitlines()
    child, count = line.split()
    try:
        assert count == "1"
        assert not samples_path(name).exists()
    finally:
        os.kill(int(child), signal.SIGKILL)


GREENLETS = """
from gevent import monkey
monkey.patch_all()
"""
TICKS = """
latest = longest = 0
def tick():
    global latest, longest
    while True:
        now = time.monotonic()
        longest = max(longest, now - (latest or now))
        latest = now
        time.sleep(0.01)
import gevent
ticking = gevent.spawn(tick)
suspended_at = time.monotonic_ns()
while not any(sample.error and sample.asked_at > suspended_at for sample in monitor.latest().values()):
    time.sleep(0.01)
until = time.monotonic() + 3
while time.monotonic() < until:
    time.sleep(0.01)
print(longest)
ticking.kill()
connections.close_all()
"""


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_under_gevent_a_member_that_hangs_stops_no_greenlet(environ: dict[str, str], probed: Cluster):
    suspend = SUSPEND.format(pid=probed.replicas[1].pid)
    try:
        # The log has a line of the member that hangs.
        longest, _ = run(READ + WAIT + suspend + TICKS, environ, before=GREENLETS + SILENT)
    finally:
        probed.replicas[1].resume()
    # A driver in C would hold them for a second and more, again and again.
    assert float(longest) < 0.5


def test_a_stuck_prober_is_not_waited_for(environ: dict[str, str], probed: Cluster, heard: Heard):
    """It holds its office, and publishes nothing: somebody sits at a breakpoint in it."""
    process = subprocess.Popen(
        [sys.executable, "-c", f"{SETUP}{READ}{WAIT}print('there', flush=True)\ntime.sleep(60)"],
        env=environ, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "there\n"
        with override_settings(REPLICANT=watching(0.05)):
            router.db_for_read(Item)
            heard.wait(lambda sample: True, *ALIASES)
            assert cluster_monitor.probing() == []
            process.send_signal(signal.SIGSTOP)
            stopped_at = time.monotonic_ns()
            heard.wait(lambda sample: sample.asked_at > stopped_at + 5e8, *ALIASES)
            assert cluster_monitor.probing() == ["default"]
            process.send_signal(signal.SIGCONT)
            wait_until(lambda: cluster_monitor.probing() == [], SECONDS, "the prober is heard again")
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
