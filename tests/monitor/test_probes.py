"""What the monitor finds on servers, and what a probe costs them."""

from __future__ import annotations

import itertools
import threading
import time
from pathlib import Path

import pytest
from django.db import connections, router
from django.test import override_settings

from replicant.engines import Sample
from replicant.monitor import cluster_monitor
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.monitor.heard import SECONDS, Heard, threads
from tests.monitor.heard import heard as heard
from tests.monitor.heard import probed as probed
from tests.monitor.heard import stopped as stopped
from tests.monitoring import (
    ALIASES,
    PROBER,
    black_hole,
    sessions,
    watching,
)
from tests.servers import Cluster
from tests.servers.machine import wait_until


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


# Members that answer.


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
