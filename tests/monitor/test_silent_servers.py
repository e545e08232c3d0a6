"""Servers that do not answer: what counts as an answer, who is at fault, and how long a read waits."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import connections, router

from replicant import _core
from replicant.connections import sockets
from replicant.engines import Sample
from replicant.monitor import cluster_monitor
from replicant.monitor import watch as watch_module
from replicant.monitor.prober import Prober
from replicant.threads import Wakeup
from tests.app.models import Item
from tests.black_holes import PHASES, schedules
from tests.databases import use_databases
from tests.monitoring import ALIASES, FAST, watching
from tests.proxy import Proxy, proxy
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 30.0
TIMEOUT = 0.05


@pytest.fixture
def asked(servers: Cluster, request: pytest.FixtureRequest) -> Iterator[tuple[Prober, Proxy]]:
    """A replica behind a proxy, which has answered its first probe."""
    with proxy(servers.replicas[0]) as endpoint:
        prober = Prober("replica1", {**connections.settings["replica1"], "PORT": endpoint.port}, 0.8, Wakeup())
        sample = look(prober)
        assert sample is not None
        assert sample.error is None
        prober._timeout = TIMEOUT
        yield prober, endpoint
        prober.stop()
        endpoint.come_back()
        wait_until(lambda: prober.ended, SECONDS, "its thread ends")


def look(prober: Prober) -> Sample | None:
    """Ask, and wait for what comes of it."""
    prober.ask()
    wait_until(lambda: not prober.is_busy, SECONDS, "it has tried")
    return prober.take()


@pytest.mark.parametrize("cluster", ["mysql", "postgresql"], indirect=True)
def test_an_attempt_to_connect_that_takes_too_long_is_no_answer(asked):
    prober, endpoint = asked
    heard = time.monotonic()
    endpoint.vanish()
    # As the monitor connects each minute, and after each failure.
    prober._connected_at = -1e9
    for _ in range(2):
        before = time.monotonic()
        sample = look(prober)
        assert sample is not None
        assert sample.is_gone
        assert sample.latency >= before - heard
    endpoint.come_back()
    sample = look(prober)
    assert sample is not None
    assert sample.error is None
    assert prober.silence() == 0.0
    assert prober.heard_at is not None
    assert prober.heard_at > before * 1e9


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_server_is_silent_when_it_has_missed_two_probes(asked, servers: Cluster):
    prober, _ = asked
    servers.replicas[0].suspend()
    try:
        prober.ask()
        wait_until(lambda: prober.silence() >= TIMEOUT, SECONDS, "it misses the first one")
        # Given up: the socket was shut down under the driver's hands, so that the next question is another one.
        assert prober.take() is None
        wait_until(lambda: not prober.is_busy, SECONDS, "the first attempt ends")
        assert prober.take() is None
        prober.ask()
        wait_until(lambda: prober.silence() >= 4 * TIMEOUT, SECONDS, "it misses the second one")
        assert prober.take(late_at=time.monotonic_ns()) is None
        # Until now, it was this process that may have been late.
        since = time.monotonic_ns()
        wait_until(lambda: time.monotonic_ns() > since + 3 * TIMEOUT * 1e9, SECONDS, "time goes by")
        sample = prober.take()
        assert sample is not None
        assert sample.is_gone
    finally:
        servers.replicas[0].resume()


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_a_refused_connection_counts_at_once(servers: Cluster):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        settings = {**connections.settings["replica1"], "PORT": bound.getsockname()[1]}
        prober = Prober("replica1", settings, 5.0, Wakeup())
        sample = look(prober)
        assert sample is not None
        assert sample.is_gone
        # How long the refusal took, not for how long nothing was heard.
        assert sample.latency < 5.0
        prober.stop()


def test_an_answer_that_was_not_taken_yet_does_not_hide_the_silence_after_it():
    prober = Prober("replica1", {"ENGINE": "django.db.backends.sqlite3"}, TIMEOUT, Wakeup())
    prober.stop()
    wait_until(lambda: prober.ended, SECONDS, "its thread ends")
    # On no thread: the first question is answered, the second one is not.
    prober.ask()
    prober._answer, prober._is_busy = Sample("replica1", "1", False, None, prober._asked_at, 0.001), False
    prober.ask()
    assert prober.silence() == 0.0
    assert prober.take() is not None
    assert prober.is_busy
    wait_until(lambda: prober.silence() > TIMEOUT, SECONDS, "it is silent")


def test_what_was_missed_before_this_process_ran_late_does_not_count():
    prober = Prober("replica1", {"ENGINE": "django.db.backends.sqlite3"}, 1.0, Wakeup())
    prober.stop()
    wait_until(lambda: prober.ended, SECONDS, "its thread ends")
    # On no thread: one probe was missed before, and the next one since.
    prober.ask()
    prober._missed, prober._asked_at = 1, time.monotonic_ns() - 10 * 10**9
    late_at = time.monotonic_ns() - 15 * 10**8
    assert prober.take(late_at) is None
    assert prober._missed == 1


def test_a_thread_that_wakes_up_late_notes_it():
    watch: Any = SimpleNamespace(_late_at=0)
    pause = watch_module.Watch._pause

    def bell(seconds: float) -> Any:
        return SimpleNamespace(wait=lambda _: time.sleep(seconds))

    pause(watch, bell(0.0), 0.1)
    assert watch._late_at == 0
    pause(watch, bell(watch_module._LATE_SECONDS + 0.05), 0.0)
    assert watch._late_at > 0


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_while_all_members_are_silent_none_is_taken_out_of_service(servers: Cluster, database: str):
    with use_databases(servers.databases(database), REPLICANT=watching(FAST)):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        (watch,) = cluster_monitor._watches
        probers = [watch._probers[alias] for alias in ALIASES]
        states = set()
        try:
            for node in servers.nodes:
                node.suspend()

            def have_missed_two() -> bool:
                states.update(_core.member_state(alias) for alias in ALIASES)
                return all(prober._missed >= 2 for prober in probers)

            wait_until(have_missed_two, SECONDS, "all have missed two probes")
            states.update(_core.member_state(alias) for alias in ALIASES)
            # A machine that has stood still for so long that all counts says nothing here.
            stood_still = max(prober.silence() for prober in probers) >= watch_module._COMMON_SILENCE_SECONDS
        finally:
            for node in servers.nodes:
                node.resume()
        assert stood_still or states == {"up"}
        # One of them alone is.
        servers.replicas[0].suspend()
        try:
            wait_until(lambda: _core.member_state("replica1") == "down", SECONDS, "the silent one is down")
            assert _core.member_state("default") == "up"
        finally:
            servers.replicas[0].resume()
        cluster_monitor.stop()


@pytest.mark.parametrize(
    ("cluster", "driver"),
    [("mysql", "mysqlclient"), ("mariadb", "PyMySQL"), ("postgresql", "psycopg")],
    indirect=["cluster"],
)
def test_a_read_does_not_wait_for_a_replica_in_a_black_hole_whatever_the_monitor_does(
    servers: Cluster, database: str, driver: str
):
    """A few of the schedules of :mod:`tests.black_holes`."""
    with schedules(servers, servers.databases(database), driver) as run:
        longest = [run.run(seed) for seed in range(len(PHASES))]
    # On a machine that is not busy, none takes 1.5 s; without the monitor's help, each takes as long as a driver waits.
    assert max(longest) < 2 * sockets.SILENCE_SECONDS
