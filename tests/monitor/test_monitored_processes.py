"""The monitor in processes that end, fork or use greenlets."""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
import time

import pytest
from django.db import connections, router
from django.test import override_settings

from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.monitor.heard import SECONDS, Heard
from tests.monitor.heard import heard as heard
from tests.monitor.heard import probed as probed
from tests.monitor.heard import stopped as stopped
from tests.monitoring import (
    ALIASES,
    REPOSITORY,
    environment,
    samples_path,
    sessions,
    watching,
)
from tests.servers import Cluster
from tests.servers.machine import wait_until


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
