"""What it costs to know how far a commit came: ``python -m tests.benchmarks capture``.

On real servers, with each driver: the call that the tracker makes after an INSERT, which asks the server nothing.
"""

from __future__ import annotations

import time
from typing import Any

from django.db import connection

from replicant._core import Position
from replicant.engines import mysql
from tests.benchmarks.criteria import Criterion
from tests.benchmarks.summary import Spread, table
from tests.databases import use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.servers import Cluster, start

#: In microseconds: what a commit may cost.
LIMIT = 5.0
ENGINES = ("mysql", "mariadb")
Results = dict[str, Spread]


def measure(*, commits: int) -> Results:
    """Microseconds for each commit, by engine and driver."""
    results = {}
    for engine in ENGINES:
        with start(engine, replicas=0) as cluster:
            cluster.create_database("bench")
            for driver in DRIVERS:
                results[f"{engine}, {driver}"] = Spread.of(_measure(cluster, driver, commits))
    return results


def _measure(cluster: Cluster, driver: str, commits: int) -> list[float]:
    databases: dict[str, Any] = cluster.databases("bench")
    databases["default"]["ENGINE"] = "replicant.backends.mysql"
    taken = []
    with (
        mysql_driver(driver),
        use_databases(databases, REPLICANT={"default": {"REPLICAS": []}}),
        connection.cursor() as cursor,
    ):
        cursor.execute("CREATE TABLE IF NOT EXISTS t (id int)")
        for _ in range(commits):
            cursor.execute("INSERT INTO t VALUES (1)")
            begun = time.perf_counter_ns()
            captured = mysql.captured(connection)
            taken.append((time.perf_counter_ns() - begun) / 1000)
            assert isinstance(captured, Position)
    return taken


def judge(results: Results) -> list[Criterion]:
    return [Criterion(f"microseconds a commit, {name}", spread.median, LIMIT) for name, spread in results.items()]


def text(results: Results) -> str:
    rows = [[name, *(f"{figure:.2f}" for figure in (at.low, at.median, at.high))] for name, at in results.items()]
    return table(["capture of a position, us", "quartile", "median", "quartile"], rows) + "\n"
