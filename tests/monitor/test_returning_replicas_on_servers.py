"""A replica that was out of service, or joined later, serves only with what the primary had when it was seen again.

Exact schedules on MySQL, MariaDB and PostgreSQL, with Django's engines and with ours: replicas end or fall silent, and
do not replicate when they are back.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from django.db import connections
from django.test import override_settings

from replicant import NoReplicaAvailable, _core, explain, request_scope, use_replica
from replicant.backends import ReplicantMixin
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.requirement import elsewhere, read, requires, until, write
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster, Node

BOTH = ("replica1", "replica2")
PROBE_SECONDS = 0.05


def settings(**keys: Any) -> dict[str, Any]:
    return watching(PROBE_SECONDS, **{"WAIT_SECONDS": 0, "MAX_LAG": None, **keys})


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The cluster, with Django on it. Afterwards every server runs and replicates again."""
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings()):
        elsewhere(read)
        until(lambda: eligible() == BOTH and known(), "both replicas serve")
        yield cluster
        cluster_monitor.stop()
    cluster.revive()
    for replica in cluster.replicas:
        replica.delay(0)
        replica.resume_replication()
    cluster.wait_until_caught_up()


def state(alias: str) -> str | None:
    return _core.member_state(alias)


def known() -> bool:
    """Whether the position of every member is known."""
    return all(member["position"] for member in _core.snapshot()["default"])


def eligible() -> tuple[str, ...]:
    """The replicas that may serve a scope that has neither written nor read anything."""
    found: tuple[str, ...] = elsewhere(lambda: tuple(sorted(explain(Item).eligible)))
    return found


def probed_again(alias: str = "default") -> None:
    """Wait until every cycle of the monitor that could have been under way is over, and another one."""
    for _ in range(3):
        now = time.monotonic_ns()
        until(
            lambda now=now: alias in cluster_monitor.latest() and cluster_monitor.latest()[alias].asked_at > now,
            f"{alias} is probed",
        )


def leave(node: Node, alias: str, how: str) -> None:
    """Have a replica end or fall silent, and not replicate when it is back."""
    if how == "killed":
        node.delay(3600)
        node.kill()
    else:
        node.pause_replication()
        node.suspend()
    until(lambda: state(alias) == "down", f"{alias} is down")


def come_back(node: Node, how: str) -> None:
    if how == "killed":
        node.restart()
    else:
        node.resume()


def catch_up(node: Node, how: str) -> None:
    if how == "killed":
        node.delay(0)
    else:
        node.resume_replication()


@pytest.mark.parametrize("how", ["killed", "silent"])
def test_a_requirement_ends_without_a_replica_that_is_out_which_returns_with_what_the_primary_had(
    shop: Cluster, how: str
):
    away, _ = shop.replicas
    leave(away, "replica1", how)
    with request_scope():
        pk = write()
        until(lambda: read(pk) == ("replica2", True) and not requires(), "the requirement ends without it")
        # What it has read stays, but nothing that it wrote is required of the next request.
        come_back(away, how)
        until(lambda: state("replica1") == "lagging", "it is seen again")
        probed_again()
        assert (state("replica1"), eligible()) == ("lagging", ("replica2",))
        # A restarted server is another one, and what had ended is required again, in the primary's next position: until
        # that is known to be at the replica that stayed, the primary serves.
        until(lambda: served_instead(pk) == "replica2", "the replica that stayed serves again")
        catch_up(away, how)
        until(lambda: state("replica1") == "up", "it has what the primary had")
        if how == "killed" and not isinstance(connections["replica1"], ReplicantMixin):
            # The first read finds the session with the server that was killed, at most once.
            with suppress(NoReplicaAvailable):
                use_replica("replica1")(read)(pk)
        until(lambda: use_replica("replica1")(read)(pk) == ("replica1", True), "it serves the scope")


def served_instead(pk: int) -> str:
    """Where a read goes that asks for replica1, which may not serve it. The row is found wherever that is."""
    alias, is_found = use_replica("replica1")(read)(pk)
    assert alias != "replica1"
    assert is_found
    return str(alias)


def test_a_replica_that_comes_and_goes_is_required_to_have_what_was_written_meanwhile(shop: Cluster):
    away, _ = shop.replicas
    leave(away, "replica1", "silent")
    for _ in range(2):
        away.resume()
        until(lambda: state("replica1") == "lagging", "it is seen again")
        away.suspend()
        until(lambda: state("replica1") == "down", "it is gone again")
    with request_scope():
        pk = write()
        until(lambda: read(pk) == ("replica2", True) and not requires(), "the requirement ends without it")
        away.resume()
        until(lambda: state("replica1") == "lagging", "it is seen again")
        probed_again()
        assert use_replica("replica1")(read)(pk) == ("replica2", True)
        away.resume_replication()
        until(lambda: use_replica("replica1")(read)(pk) == ("replica1", True), "it serves the scope")


def test_while_the_primary_is_dead_a_replica_that_returns_serves_nobody_unless_late_data_will_do(shop: Cluster):
    away, other = shop.replicas
    leave(away, "replica1", "silent")
    shop.primary.kill()
    until(lambda: state("default") == "down", "the primary is down")
    away.resume()
    until(lambda: state("replica1") == "lagging", "it is seen again")
    probed_again("replica2")
    assert (state("replica1"), eligible()) == ("lagging", ("replica2",))
    other.kill()
    until(lambda: state("replica2") == "down", "replica2 is down")
    with override_settings(REPLICANT=settings(ON_UNAVAILABLE="replica")):
        assert elsewhere(read)[0] == "replica1"
        assert elsewhere(lambda: explain(Item))[:2] == ("replica1", "unavailable")


@pytest.mark.parametrize("before", [{"replica2": 1}, {"replica1": 0, "replica2": 1}])
def test_a_replica_that_joins_by_reload_serves_with_what_the_primary_had_when_it_joined(
    shop: Cluster, before: dict[str, int]
):
    joining, _ = shop.replicas
    with request_scope():
        with override_settings(REPLICANT=settings(REPLICAS=before)):
            joining.pause_replication()
            pk = write()
            until(lambda: read(pk) == ("replica2", True) and not requires(), "the requirement ends")
        assert use_replica("replica1")(read)(pk) == ("replica2", True)
        until(lambda: state("replica1") == "lagging", "it waits for its floor")
        probed_again()
        assert elsewhere(lambda: {read(pk)[1] for _ in range(10)}) == {True}
        joining.resume_replication()
        until(lambda: use_replica("replica1")(read)(pk) == ("replica1", True), "it serves the scope")
