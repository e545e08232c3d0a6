"""What a dead replica costs the median request, once it has been found dead.

Two sites on the same servers, asked in turn: one that knows of two replicas, and one that knows of a third, which is
dead. Both are served by the same two. A naive site of which one replica is dead is asked as well, for what fails there.
"""

from __future__ import annotations

import random
import statistics
import subprocess
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from tests.benchmarks.end_to_end import process
from tests.benchmarks.end_to_end.run import SITES
from tests.benchmarks.end_to_end.visitors import Tally, Visitor
from tests.benchmarks.summary import Spread, progress, table
from tests.servers import start

DATABASE = "bench_dead"
PATHS = ("/boards/", "/boards/episodes/", "/banners/")
#: What is said of the whole is said of so many parts of it, too, to see how far they are apart.
PARTS = 20
#: Each site's code is loaded, and the dead replica found, after so many requests and seconds.
FIRST_REQUESTS, FIRST_SECONDS = 30, 3.0
WITHOUT, WITH, NAIVE = "without it", "with it", "with it, naive"
#: A ratio beyond this would be measurable.
CRITERION, LIMIT = "a dead replica's cost to the median request, times without it", 1.05


@dataclass(frozen=True)
class Outcome:
    """Milliseconds of the requests to each site, in their order, and how many of them failed."""

    milliseconds: dict[str, list[float]]
    failed: dict[str, int]

    @property
    def ratio(self) -> Spread:
        """Of a request with it to the one next to it without it: the medians of parts of the run, and their median."""
        pairs = zip(self.milliseconds[WITH], self.milliseconds[WITHOUT], strict=True)
        ratios = [with_it / without for with_it, without in pairs]
        return Spread.of([statistics.median(ratios[part::PARTS]) for part in range(PARTS)])

    def plain(self) -> dict[str, Any]:
        return {
            "milliseconds": {name: Spread.of(times).plain() for name, times in self.milliseconds.items()},
            "failed": self.failed,
            "ratio": self.ratio.plain(),
        }


def measure(requests: int) -> Outcome:
    """Ask each site so many times."""
    with start("mysql", replicas=3) as cluster, ExitStack() as stack:
        cluster.create_database(DATABASE)
        process.seed(cluster.databases(DATABASE), 0)
        cluster.wait_until_caught_up(30.0)
        cluster.replicas[2].kill()
        stock = cluster.databases(DATABASE)
        ours = process.with_our_engines(stock)
        dead = {**stock, "replica2": stock["replica3"]}
        sites = {
            WITHOUT: (SITES["replicant"], {alias: ours[alias] for alias in ours if alias != "replica3"}),
            WITH: (SITES["replicant"], ours),
            NAIVE: (SITES["naive router"], {alias: dead[alias] for alias in dead if alias != "replica3"}),
        }
        visitors = {}
        for name, (router, databases) in sites.items():
            environment = process.environment(databases, router)
            _, port = stack.enter_context(process.serving(environment, subprocess.DEVNULL))
            visitors[name] = Visitor(port, Tally())
            stack.callback(visitors[name].close)
        begun = time.monotonic()
        asked = 0
        while asked < FIRST_REQUESTS or time.monotonic() - begun < FIRST_SECONDS:
            for visitor in visitors.values():
                visitor.get(PATHS[asked % len(PATHS)])
            asked += 1
        return _ask(visitors, requests)


def _ask(visitors: dict[str, Visitor], requests: int) -> Outcome:
    milliseconds: dict[str, list[float]] = {name: [] for name in visitors}
    failed = dict.fromkeys(visitors, 0)
    turn = list(visitors)
    for number in range(requests):
        path = PATHS[number % len(PATHS)]
        random.shuffle(turn)
        for name in turn:
            begun = time.perf_counter()
            status, _ = visitors[name].get(path)
            milliseconds[name].append(1000 * (time.perf_counter() - begun))
            failed[name] += status != 200
        if number % 100 == 0:
            progress(f"dead replica: {number} of {requests} requests to each site")
    progress()
    return Outcome(milliseconds, failed)


def text(outcome: Outcome) -> str:
    head = [f"a dead replica, {len(outcome.milliseconds[WITH])} requests", *outcome.milliseconds]
    rows = [
        ["median, ms", *(f"{statistics.median(times):.2f}" for times in outcome.milliseconds.values())],
        ["failed", *(str(count) for count in outcome.failed.values())],
    ]
    ratio = outcome.ratio
    said = f"with it, times without it: {ratio.median:.3f} (half of the parts from {ratio.low:.3f} to {ratio.high:.3f})"
    return f"{table(head, rows)}\n{said}\n"
