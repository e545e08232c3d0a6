"""What tests of a session's state share: a site whose reads wait for no position."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from replicant import explain
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Cluster


def settings(**keys: Any) -> dict[str, Any]:
    return watching(0.05, **{"WAIT_SECONDS": 0, "CONSISTENCY": "eventual", **keys})


@pytest.fixture(params=["django", "replicant"])
def shop(request: pytest.FixtureRequest, cluster: Cluster, database: str) -> Iterator[Cluster]:
    databases = cluster.databases(database)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings()):
        yield cluster
        cluster_monitor.stop()


def execute(sql: str, params: Any = None, alias: str = "default") -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql, params)


def reason() -> str | None:
    return explain(Item).reason
