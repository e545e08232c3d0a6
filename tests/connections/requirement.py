"""What tests share that probe the servers themselves, so that each schedule is exact."""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.db import router
from django.db.backends.postgresql.psycopg_any import IsolationLevel

from replicant import _core
from replicant.connections import observations
from replicant.engines import Sample
from replicant.monitor import cluster_monitor, watch
from replicant.monitor.prober import Prober
from replicant.threads import Wakeup
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import ALIASES, NEVER, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 20.0
REPLICAS = ("replica1", "replica2")


def settings(**keys: Any) -> dict[str, Any]:
    return watching(keys.pop("PROBE_SECONDS", NEVER), **{"WAIT_SECONDS": 0, "MAX_LAG": None, **keys})


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The cluster, with Django on it, probed once. Afterwards every server runs and replicates again.

    A transaction on a replica keeps the snapshot of its first read.
    """
    databases = cluster.databases(database)
    level: Any = "repeatable read" if cluster.engine != "postgresql" else IsolationLevel.REPEATABLE_READ
    for replica in REPLICAS:
        databases[replica]["OPTIONS"] = {"isolation_level": level}
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings()):
        probe()
        yield cluster
        cluster_monitor.stop()
    cluster.revive()
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


with_our_engines = pytest.mark.parametrize("shop", ["replicant"], indirect=True)


def probe(*aliases: str) -> None:
    """Probe members (all, if none is named) now and report to the core, as a cycle of the monitor does."""
    elsewhere(lambda: router.db_for_read(Item))
    # The monitor's one cycle must be over: its samples are older than those taken here, and so change nothing later.
    until(lambda: len(cluster_monitor.latest()) >= 3, "the monitor has probed")
    observations.observe([probed(alias) for alias in aliases or ALIASES])


def probed(alias: str) -> Sample:
    prober = Prober(alias, watch.settings_of(alias), SECONDS, Wakeup())
    prober.ask()
    until(lambda: not prober.is_busy, f"{alias} was probed")
    sample = prober.take()
    prober.stop()
    assert sample is not None
    return sample


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), SECONDS, what)


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call it in a context of its own, which has neither written nor read anything."""
    return contextvars.Context().run(function)


def write() -> Any:
    return Item.objects.create(name="written").pk


def read(pk: Any = None) -> tuple[str, bool]:
    """Read where the router says: the alias, and whether the row was there."""
    with record_queries() as queries:
        found = Item.objects.filter(pk=pk).exists()
    return queries[-1].alias, found


def replicated(shop: Cluster) -> None:
    """Wait until both replicas have everything, and have the core know it."""
    shop.wait_until_caught_up()
    probe()


def requires() -> bool:
    """Whether the scope still requires what was written."""
    return any(position or written for _, position, written, *_ in _core.causality())
