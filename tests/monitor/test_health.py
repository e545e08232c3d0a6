"""Members that fail, fall behind or fall silent, and what becomes of reads: as told, and on real servers."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections, router
from django.test import override_settings

from replicant import NoReplicaAvailable, _core, explain, request_scope, status
from replicant.connections import observations
from replicant.engines import Sample
from replicant.monitor import cluster_monitor
from replicant.signals import replica_ejected, replica_restored
from tests.app.models import Item
from tests.monitoring import FAST, use_prober, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 20.0
REPLICAS = ("replica1", "replica2")


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    observations._limits.clear()
    yield
    cluster_monitor.stop()


@pytest.fixture
def heard() -> Iterator[list[tuple[str, str, str]]]:
    """The signals: name, alias, state."""
    heard: list[tuple[str, str, str]] = []

    def ejected(alias: str, state: str, **kwargs: Any) -> None:
        assert kwargs["cluster"] == "default"
        heard.append(("ejected", alias, state))

    def restored(alias: str, state: str, **kwargs: Any) -> None:
        heard.append(("restored", alias, state))

    replica_ejected.connect(ejected)
    replica_restored.connect(restored)
    yield heard
    replica_ejected.disconnect(ejected)
    replica_restored.disconnect(restored)


def state(alias: str) -> str:
    return member(alias)["state"]


def member(alias: str) -> dict[str, Any]:
    return next(found for found in status()["clusters"]["default"]["members"] if found["alias"] == alias)


def becomes(alias: str, wanted: str) -> None:
    wait_until(lambda: state(alias) == wanted, SECONDS, f"{alias} becomes {wanted}")


def reads(count: int = 20) -> set[str | None]:
    return {router.db_for_read(Item) for _ in range(count)}


def sample(alias: str, latency: float = 0.001, error: str | None = None, *, is_gone: bool = False) -> Sample:
    return Sample(alias, alias, False, None, time.monotonic_ns(), latency, error, is_gone)


def fail(alias: str, times: int = 5) -> None:
    for _ in range(times):
        observations.report(alias, "failed")


# What reads and probes tell.


@pytest.fixture
def silenced(site, monkeypatch: pytest.MonkeyPatch) -> None:
    """The core takes the cluster for one that is watched, and no monitor starts: only the test reports anything.

    Even with an interval of 1,000 s the monitor would probe once when it starts, and on a busy machine in the middle of
    the test.
    """
    monkeypatch.setattr(cluster_monitor, "start", lambda: None)


@pytest.fixture
def told(silenced: None) -> Iterator[None]:
    """Two replicas of which only the test reports anything."""
    with override_settings(REPLICANT=watching(1000.0)):
        explain(Item)
        yield


@pytest.mark.usefixtures("told")
def test_five_failures_eject_a_replica_and_four_do_not(heard: list[Any]):
    fail("replica1", 4)
    assert state("replica1") == "up"
    fail("replica1", 1)
    assert state("replica1") == "ejected"
    assert reads() == {"replica2"}
    assert explain(Item).eligible == ("replica2",)
    # A probe in the meantime does not end it.
    observations.observe([sample("replica1")])
    assert state("replica1") == "ejected"
    assert heard == [("ejected", "replica1", "ejected")]


@pytest.mark.usefixtures("told")
def test_half_of_the_replicas_stay_whatever_fails():
    for alias in (*REPLICAS, *REPLICAS):
        fail(alias)
    assert sorted(map(state, REPLICAS)) == ["ejected", "up"]
    fail("default")
    assert state("default") == "up"


@pytest.mark.usefixtures("told")
def test_replicas_that_refuse_are_all_down_and_a_later_probe_finds_them(heard: list[Any]):
    before = [sample(alias) for alias in REPLICAS]
    for alias in REPLICAS:
        observations.report(alias, "gone")
    # They answered before they refused.
    observations.observe(before)
    assert explain(Item)[:2] == ("default", "unavailable")
    observations.observe([sample(alias) for alias in REPLICAS])
    assert set(explain(Item).eligible) == set(REPLICAS)
    assert Counter(heard) == Counter(
        (signal, alias, word) for alias in REPLICAS for signal, word in [("ejected", "down"), ("restored", "up")]
    )


@pytest.mark.usefixtures("told")
def test_a_probe_that_fails_makes_nothing_better_and_a_wrong_password_nothing_worse():
    observations.observe([sample("replica1", error="OperationalError: refused", is_gone=True)])
    assert state("replica1") == "down"
    for alias in REPLICAS:
        observations.observe([sample(alias, error="OperationalError: Access denied")])
    assert [state(alias) for alias in REPLICAS] == ["down", "up"]


@pytest.mark.usefixtures("told")
def test_a_replica_that_comes_back_is_given_a_tenth_of_its_reads_first():
    observations.report("replica1", "gone")
    observations.observe([sample("replica1")])
    counts = Counter(router.db_for_read(Item) for _ in range(1000))
    # 1 in 11: 91, with a standard deviation of 9.
    assert 45 < counts["replica1"] < 140


@pytest.mark.slow
def test_with_no_monitor_one_read_tries_a_replica_that_refused(site, monkeypatch: pytest.MonkeyPatch):
    with override_settings(REPLICANT=watching(None)):
        observations.report("replica1", "ok")
        explain(Item)
        observations.report("replica1", "gone")
        assert reads() == {"replica2"}
        wait_until(lambda: "replica1" in reads(1), SECONDS, "a read tries it")
        assert state("replica1") == "probing"
        assert reads() == {"replica2"}
        observations.report("replica1", "ok")
        assert state("replica1") == "up"
        assert "replica1" in reads(1000)


@pytest.mark.usefixtures("silenced")
def test_the_fast_replica_is_preferred_and_the_slow_one_is_not_forgotten():
    with override_settings(REPLICANT=watching(1000.0, BALANCE="least_latency")):
        explain(Item)
        observations.observe([sample("replica1", 0.001), sample("replica2", 0.02)])
        assert member("replica2")["latency"] == pytest.approx(0.02)
        counts = Counter(router.db_for_read(Item) for _ in range(4000))
        # Half of a twentieth: 100, with a standard deviation of 10.
        assert 50 < counts["replica2"] < 150
        # To fail fast is not to be fast.
        observations.observe([sample("replica2", 0.0, "OperationalError: Access denied")])
        assert member("replica2")["latency"] == pytest.approx(0.02)


@pytest.mark.usefixtures("told")
def test_a_replica_at_another_address_is_not_blamed(site):
    observations.report("replica1", "gone")
    with override_settings(REPLICANT=watching(1000.0, STICKY=False)):
        assert state("replica1") == "down"
        moved = {**connections.settings["replica1"], "NAME": "elsewhere"}
        connections.settings["replica1"], before = moved, connections.settings["replica1"]
        try:
            with override_settings(REPLICANT=watching(1000.0)):
                assert state("replica1") == "up"
        finally:
            connections.settings["replica1"] = before


@pytest.mark.usefixtures("told")
def test_a_replica_that_comes_and_goes_does_not_fill_the_log(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="replicant"):
        for _ in range(50):
            observations.report("replica1", "gone")
            observations.observe([sample("replica1")])
    lines = [record.getMessage() for record in caplog.records]
    assert lines[:2] == [
        "The replica 'replica1' is down: it does not answer. It was up.",
        "The replica 'replica1' serves again; it was down.",
    ]
    assert len(lines) == 4


@pytest.mark.usefixtures("told")
def test_a_line_says_why(caplog: pytest.LogCaptureFixture):
    with caplog.at_level(logging.INFO, logger="replicant"):
        observations.observe([sample("replica1", error="OperationalError: refused", is_gone=True)])
        observations.observe([sample("replica1")])
        observations.report("replica1", "gone", error="OperationalError: timed out")
        observations.observe([sample("replica1")])
        for _ in range(5):
            observations.report("replica2", "failed", error="OperationalError: too many")
    assert [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING] == [
        "The replica 'replica1' is down: OperationalError: refused. It was up.",
        "The replica 'replica1' is down: OperationalError: timed out. It was up.",
        "The replica 'replica2' is ejected: too many of its reads failed (OperationalError: too many). It was up.",
    ]


@pytest.mark.usefixtures("told")
def test_a_receiver_that_raises_stops_nobody(heard: list[Any]):
    def fails(**kwargs: Any) -> None:
        raise RuntimeError

    replica_ejected.connect(fails)
    try:
        observations.report("replica1", "gone")
    finally:
        replica_ejected.disconnect(fails)
    assert heard == [("ejected", "replica1", "down")]
    assert state("replica1") == "down"


# On real servers.


@pytest.fixture
def watched(servers: Cluster, database: str) -> Iterator[Callable[..., Any]]:
    """Put settings in force and wait until all members are known and serve."""
    use_prober(servers, database)
    overrides = []

    def watch(**keys: Any) -> None:
        override = override_settings(REPLICANT=watching(FAST, **keys))
        override.enable()
        overrides.append(override)
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        for alias in REPLICAS:
            becomes(alias, "up")

    yield watch
    cluster_monitor.stop()
    for override in reversed(overrides):
        override.disable()
    # What was found of a server here must not be known to the next test.
    for alias in ("default", *REPLICAS):
        _core.set_state(alias, "up")
    servers.revive()


@pytest.fixture
def writes(servers: Cluster, database: str) -> Callable[[], None]:
    """A write that nobody here remembers."""
    servers.primary.query("CREATE TABLE IF NOT EXISTS clock (tick INTEGER)", database)
    return lambda: servers.primary.query("INSERT INTO clock VALUES (1)", database) and None


def test_a_replica_whose_applier_is_stopped_rests_until_it_has_caught_up(
    servers: Cluster, watched, writes: Callable[[], None], heard: list[Any]
):
    watched(MAX_LAG=0.3)
    servers.replicas[0].pause_replication()

    def lags() -> bool:
        writes()
        return state("replica1") == "lagging"

    wait_until(lags, SECONDS, "replica1 lags")
    becomes("replica2", "up")
    assert reads() == {"replica2"}
    assert explain(Item).eligible == ("replica2",)
    wait_until(lambda: member("replica1")["lag"] > 0.2, SECONDS, "its lag grows")
    with request_scope():
        assert router.db_for_read(Item) == "replica2"
    servers.replicas[0].resume_replication()
    becomes("replica1", "up")
    assert [event for event in heard if event[1] == "replica1"][-2:] == [
        ("ejected", "replica1", "lagging"),
        ("restored", "replica1", "up"),
    ]


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_while_all_lag_each_policy_does_what_it_says(servers: Cluster, watched, writes: Callable[[], None]):
    watched(MAX_LAG=0.3)
    for replica in servers.replicas:
        replica.pause_replication()

    def lag() -> bool:
        writes()
        return all(state(alias) == "lagging" for alias in REPLICAS)

    wait_until(lag, SECONDS, "both lag")
    for policy, expected in [("primary", {"default"}), ("replica", set(REPLICAS))]:
        with override_settings(REPLICANT=watching(1000.0, MAX_LAG=0.3, ON_UNAVAILABLE=policy)):
            assert reads(40) == expected
            assert explain(Item).reason == "unavailable"
    error = override_settings(REPLICANT=watching(1000.0, MAX_LAG=0.3, ON_UNAVAILABLE="error"))
    with error, pytest.raises(NoReplicaAvailable, match="replica1 is lagging"):
        router.db_for_read(Item)
    with override_settings(REPLICANT=watching(1000.0, MAX_LAG=None)):
        wait_until(lambda: reads(40) == set(REPLICAS), SECONDS, "without a limit they serve")


def test_an_idle_primary_makes_nobody_lag(servers: Cluster, watched, writes: Callable[[], None], heard: list[Any]):
    writes()
    servers.wait_until_caught_up()
    watched(MAX_LAG=0.3)
    # PostgreSQL writes to its log after a commit, too, and sends that half a second later.
    wait_until(lambda: all(member(alias)["lag"] == 0.0 for alias in REPLICAS), SECONDS, "nobody lags")
    heard.clear()
    begun = cluster_monitor.latest()["replica1"].asked_at
    wait_until(lambda: cluster_monitor.latest()["replica1"].asked_at > begun + 1e9, SECONDS, "a second goes by")
    assert [state(alias) for alias in REPLICAS] == ["up", "up"]
    assert heard == []


def test_a_killed_replica_is_down_within_two_probes_and_comes_back_by_itself(
    servers: Cluster, watched, heard: list[Any]
):
    watched()
    looked: list[Sample] = []
    servers.replicas[0].kill()
    killed_at = time.monotonic_ns()

    def is_down() -> bool:
        latest = cluster_monitor.latest()["replica1"]
        if latest.asked_at > killed_at and latest not in looked:
            looked.append(latest)
        return state("replica1") == "down"

    wait_until(is_down, SECONDS, "replica1 is down")
    assert len(looked) <= 2
    assert reads() == {"replica2"}
    servers.replicas[0].restart()
    becomes("replica1", "up")
    wait_until(lambda: "replica1" in reads(), SECONDS, "replica1 is read from")
    assert [event[:2] for event in heard][-1] == ("restored", "replica1")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_suspended_replica_is_down_and_comes_back_by_itself(servers: Cluster, watched):
    watched()
    servers.replicas[0].suspend()
    becomes("replica1", "down")
    assert reads() == {"replica2"}
    servers.replicas[0].resume()
    becomes("replica1", "up")


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_a_dead_primary_makes_nobody_lag(servers: Cluster, watched, writes: Callable[[], None]):
    watched(MAX_LAG=0.3)
    servers.replicas[0].pause_replication()
    writes()
    asked_at = cluster_monitor.latest()["default"].asked_at
    wait_until(lambda: cluster_monitor.latest()["default"].asked_at > asked_at, SECONDS, "the write is seen")
    servers.primary.kill()
    becomes("default", "down")
    becomes("replica2", "up")
    since = cluster_monitor.latest()["replica1"].asked_at
    wait_until(lambda: cluster_monitor.latest()["replica1"].asked_at > since + 5e8, SECONDS, "half a second goes by")
    assert "replica2" in reads()
    assert state("replica2") == "up"


@pytest.mark.parametrize("cluster", ["postgresql", "mysql"], indirect=True)
def test_a_wrong_password_for_the_monitor_takes_no_replica_away(servers: Cluster, database: str):
    use_prober(servers, database)
    connections.settings["replica1"]["PROBE"] = {"USER": "nobody", "PASSWORD": "nothing"}
    with override_settings(REPLICANT=watching(FAST)):
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all were looked at")
        found = cluster_monitor.latest()["replica1"]
        assert found.error is not None
        assert not found.is_gone
        assert state("replica1") == "up"
