"""What tests share whose replicas stand still or lag: the site, and reads and writes by way of the router."""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.db import router
from django.test import override_settings

from replicant import _core, explain
from replicant.monitor import cluster_monitor
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

#: Short, so that the result of a probe comes soon.
PROBE_SECONDS = 0.05
#: Seconds that any step of a test may take.
AMPLE = 15.0
BOTH = {"replica1", "replica2"}


def settings(**keys: Any) -> dict[str, Any]:
    return watching(keys.pop("PROBE_SECONDS", PROBE_SECONDS), **{"WAIT_SECONDS": 0, **keys})


def using(**keys: Any) -> Any:
    """Changes keys of the cluster, for a block or a test."""
    return override_settings(REPLICANT=settings(**keys))


def weights(**replicas: float) -> Any:
    """Changes the weights of the replicas; a replica of weight 0 gets no reads."""
    return override_settings(REPLICANT={"default": {**settings()["default"], "REPLICAS": replicas}})


@contextmanager
def out_of_service(alias: str) -> Iterator[None]:
    """Keep reads away from a replica without removing it: a member that joins would have to reach its floor first."""
    _core.set_state(alias, "down")
    try:
        yield
    finally:
        _core.set_state(alias, "up")


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The cluster, with Django on it. Afterwards it replicates again."""
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings()):
        yield cluster
        cluster_monitor.stop()
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


@pytest.fixture
def paused(shop: Cluster) -> Cluster:
    """The cluster, whose replicas have everything so far and apply nothing from now on."""
    shop.wait_until_caught_up()
    pause(shop)
    return shop


def pause(shop: Cluster) -> None:
    for replica in shop.replicas:
        replica.pause_replication()


def until(condition: Callable[[], Any], what: str) -> None:
    wait_until(lambda: bool(condition()), AMPLE, what)


def catch_up(shop: Cluster, *replicas: Node) -> None:
    """Resume replication on replicas (both, if none is named), until they have what the primary has."""
    position = shop.primary.position()
    for replica in replicas or shop.replicas:
        replica.resume_replication()
        assert replica.reached(position, AMPLE)


def write() -> Any:
    """Create a row and return its key."""
    return Item.objects.create(name="written").pk


def reason() -> str | None:
    return explain(Item).reason


def read(pk: Any = None) -> tuple[str, bool]:
    """Read where the router says: the alias, and whether the row was there."""
    with record_queries() as queries:
        found = Item.objects.filter(pk=pk).exists()
    return queries[-1].alias, found


def elsewhere(function: Callable[[], Any]) -> Any:
    """Call it in a context of its own, which has neither written nor read anything."""
    return contextvars.Context().run(function)


def looked() -> None:
    """Wait until the monitor has probed every member from now on, and reported it."""
    elsewhere(lambda: router.db_for_read(Item))
    for _ in range(2):
        now = time.monotonic_ns()
        until(
            lambda now=now: (
                len(cluster_monitor.latest()) >= 3
                and all(one.asked_at > now for one in cluster_monitor.latest().values())
            ),
            "the monitor has probed",
        )


@contextmanager
def timed() -> Iterator[Callable[[], float]]:
    """How many seconds the block took."""
    start = time.monotonic()
    seconds = 0.0
    yield lambda: seconds
    seconds = time.monotonic() - start


def soon(action: Callable[[], Any], seconds: float = 0.3) -> threading.Timer:
    timer = threading.Timer(seconds, action)
    timer.start()
    return timer
