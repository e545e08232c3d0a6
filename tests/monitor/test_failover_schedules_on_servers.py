"""After a failover no acknowledged write is lost, and no process returns to the old primary: exact schedules.

``default`` is server0 in the settings; server0 dies, server1 is promoted, all processes follow; then server0 restarts
and takes writes.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import connections

from tests.monitor.failover import comes_back, fail_over, names
from tests.monitor.failover import site as site
from tests.monitoring import use_prober
from tests.schedules import FAST, SECONDS, STEPS, Process
from tests.servers import Cluster
from tests.servers.machine import wait_until

Start = Callable[..., Process]


@pytest.fixture
def start(site: Cluster) -> Iterator[Start]:
    """Starts a process of the site, with the settings of this one unless others are given."""
    processes: list[Process] = []

    def start(databases: dict[str, Any] | None = None, interval: float = FAST, **settings: Any) -> Process:
        processes.append(Process(databases or dict(connections.settings), interval, **settings))
        return processes[-1]

    yield start
    for process in processes:
        process.kill()


def without(databases: dict[str, Any], alias: str) -> dict[str, Any]:
    return {key: copy.deepcopy(value) for key, value in databases.items() if key != alias}


def test_a_prober_that_was_stopped_during_a_failover_takes_no_process_back(site: Cluster, database: str, start: Start):
    prober, other = start(), start()
    assert prober.ask("probing") == ["default"]
    new = site.replicas[0]
    assert prober.write("before") is None
    prober.stop()
    old = fail_over(site, new)
    other.follows("replica1")
    assert other.write("acknowledged") is None
    comes_back(old)
    # What was known when it was stopped counts for two intervals.
    other.cycles()
    prober.go_on()
    # Before its monitor has looked.
    assert prober.write("first after it goes on") is None
    prober.cycles()
    other.cycles()
    assert [process.primary() for process in (prober, other)] == ["replica1", "replica1"]
    assert [process.write(f"last {number}") for number, process in enumerate((prober, other))] == [None, None]
    written = {"before", "acknowledged", "first after it goes on", "last 0", "last 1"}
    assert names(new, database) == written
    assert names(old, database) <= {"before"}


def test_a_process_that_is_stopped_in_a_transaction_commits_nothing_to_the_old_primary(
    site: Cluster, database: str, start: Start
):
    stopped, other = start(), start()
    new = site.replicas[0]
    assert stopped.ask("open", "uncommitted") is None
    stopped.stop()
    # It is away for long enough to be replaced, and its sessions live.
    old = site.primary
    old.suspend()
    site.promote(new)
    other.follows("replica1")
    old.resume()
    stopped.go_on()
    assert "has changed" in stopped.ask("commit")
    assert stopped.write("after") is None
    assert names(new, database) == {"after"}
    assert names(old, database) == set()


@pytest.mark.parametrize("all_end", [False, True])
@pytest.mark.parametrize("is_back", [False, True])
def test_a_process_that_starts_after_a_failover_begins_with_the_present_primary(
    site: Cluster, database: str, start: Start, all_end: bool, is_back: bool
):
    prober, other = start(), start()
    new = site.replicas[0]
    old = fail_over(site, new)
    prober.follows("replica1")
    other.follows("replica1")
    if is_back:
        comes_back(old)
    prober.end()
    if all_end:
        other.end()
    fresh = start()
    written = [f"{number}" for number in range(5)]
    assert [fresh.write(name) for name in written] == [None] * 5
    if not all_end:
        # The one that takes the prober's place has not begun from its settings either.
        assert other.write("other") is None
        other.cycles()
        assert other.write("other again") is None
        written += ["other", "other again"]
    fresh.cycles()
    assert fresh.primary() == "replica1"
    assert names(new, database) == set(written)


def test_a_child_that_is_forked_before_a_failover_begins_with_the_present_primary(
    site: Cluster, database: str, start: Start
):
    """No process of the host watches the servers meanwhile: the first write of the child starts its monitor."""
    process = start()
    process.ask("fork")
    new = site.replicas[0]
    site.rejoin(fail_over(site, new))
    assert process.write("after the failover") is None
    assert process.primary() != "default"
    assert "after the failover" in names(new, database)


def test_a_present_primary_that_takes_no_writes_gives_nothing_back_to_the_old_one(
    site: Cluster, database: str, start: Start
):
    process = start()
    new, third = site.replicas
    old = fail_over(site, new)
    process.follows("replica1")
    assert process.write("acknowledged") is None
    comes_back(old)
    process.cycles()
    new.fence()
    process.cycles(10)
    assert process.primary() == "replica1"
    assert process.write("refused") is not None
    # The switchover goes on.
    site.promote(third)
    process.follows("replica2")
    assert process.write("after") is None
    assert names(third, database) == {"acknowledged", "after"}
    assert "after" not in names(old, database)


@pytest.mark.parametrize("prober_dies", [True, False])
def test_a_promotion_is_followed_by_processes_that_know_roles_from_a_dead_prober_alone(
    site: Cluster, database: str, start: Start, prober_dies: bool
):
    # The monitor's account may only read, and so cannot ask which server replicates.
    use_prober(site, database)
    prober, other = start(), start()
    new = site.replicas[0]
    if prober_dies:
        # The other one has no time to look for itself before the primary is gone, too.
        other.stop()
        prober.kill()
        old = fail_over(site, new)
        other.go_on()
        other.follows("replica1")
    else:
        # Or it ends, and the process that comes next has seen no replica at all.
        prober.end()
        other.end()
        old = fail_over(site, new)
        other = start()
        other.follows("replica1")
    assert other.write("after") is None
    assert names(new, database) == {"after"}
    assert not old.running


def one_replica_less(databases: dict[str, Any]) -> dict[str, Any]:
    return without(databases, "replica2")


def other_options(databases: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(databases)
    for settings in changed.values():
        settings["OPTIONS"] = {**(settings.get("OPTIONS") or {}), "connect_timeout": 7}
    return changed


def other_aliases(databases: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(databases)
    return {"default": changed["default"], "replica1": changed["replica2"], "replica2": changed["replica1"]}


def the_present_primary_as_default(databases: dict[str, Any]) -> dict[str, Any]:
    changed = copy.deepcopy(databases)
    primary, replica = dict(changed["replica1"]), dict(changed["default"])
    primary["TEST"], replica["TEST"] = replica["TEST"], primary["TEST"]
    return {**changed, "default": primary, "replica1": replica}


@pytest.mark.parametrize(
    ("change", "alias"),
    [
        (one_replica_less, "replica1"),
        (other_options, "replica1"),
        (other_aliases, "replica2"),
        (the_present_primary_as_default, "default"),
    ],
)
def test_processes_with_other_settings_have_the_same_primary(
    site: Cluster, database: str, start: Start, change: Callable[[dict[str, Any]], dict[str, Any]], alias: str
):
    old_settings = start()
    new = site.replicas[0]
    old = fail_over(site, new)
    old_settings.follows("replica1")
    comes_back(old)
    databases = change(dict(connections.settings))
    replicas = [alias for alias in databases if alias != "default"]
    new_settings = start(databases, REPLICANT={"default": {"REPLICAS": replicas, "PROBE_SECONDS": FAST}})
    assert new_settings.write("new settings") is None
    for process in (old_settings, new_settings):
        process.cycles()
    assert [old_settings.primary(), new_settings.primary()] == ["replica1", alias]
    assert old_settings.write("old settings") is None
    assert names(new, database) == {"new settings", "old settings"}
    # What those with the new settings decide, those with the old ones follow.
    site.rejoin(old)
    third = site.replicas[1]
    if change is not one_replica_less:
        old_settings.stop()
        fail_over(site, third)
        new_settings.follows({"replica1": "replica2", "replica2": "replica1"}.get(alias, "replica2"))
        # What was known when it was stopped counts for two intervals.
        new_settings.cycles()
        old_settings.go_on()
        assert old_settings.write("followed") is None
        assert "followed" in names(third, database)


def test_settings_without_the_present_primary_write_to_no_old_one(site: Cluster, database: str, start: Start):
    process = start()
    new = site.replicas[0]
    old = fail_over(site, new)
    process.follows("replica1")
    comes_back(old)
    lacking = start(
        without(dict(connections.settings), "replica1"),
        REPLICANT={"default": {"REPLICAS": ["replica2"], "PROBE_SECONDS": FAST}},
    )
    error = lacking.write("lost")
    assert error is not None
    assert "was replaced as the primary" in error
    assert str(new.port) in error
    assert "lost" not in names(old, database)


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
@pytest.mark.parametrize("step", STEPS)
def test_of_two_probers_the_one_that_is_stopped_at_any_step_changes_nothing_later(
    site: Cluster, database: str, start: Start, step: str
):
    # With other settings each of them probes.
    one, other = start(), start(other_options(dict(connections.settings)))
    assert one.ask("probing") == other.ask("probing") == ["default"]
    new, third = site.replicas
    one.stop_at(step)
    if "deci" in step:
        # The one that is to stop is the only one that could decide.
        other.stop()
        old = fail_over(site, new)
        one.await_stop()
        other.go_on()
    else:
        one.await_stop()
        old = fail_over(site, new)
    other.follows("replica1")
    assert other.write("acknowledged") is None
    # What the stopped one has in mind is outdated twice.
    second = fail_over(site, third)
    other.follows("replica2")
    assert other.write("acknowledged again") is None
    for node in (old, second):
        comes_back(node)
    one.go_on()
    assert one.write("first after it goes on") is None
    for process in (one, other):
        process.cycles()
        assert process.primary() == "replica2"
    assert names(third, database) == {"acknowledged", "acknowledged again", "first after it goes on"}
    # And the other way round.
    other.stop()
    assert one.write("while the other one is stopped") is None
    other.go_on()
    other.cycles()
    assert [one.primary(), other.primary()] == ["replica2", "replica2"]
    wait_until(lambda: one.ask("probing") == other.ask("probing") == ["default"], SECONDS, "both probe")
