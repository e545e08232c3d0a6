"""Starts the servers and, one after the other, the three sites; counts what the primary had to do."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from tests.benchmarks.end_to_end import process
from tests.benchmarks.end_to_end.visitors import Tally, Visitor, visits
from tests.benchmarks.summary import progress, table
from tests.servers import Cluster, Node, start

VISITORS = 4
#: Whole seconds, as MySQL takes them: replicas under load are seldom nearer.
LAG_SECONDS = 1
#: The chart shows the primary's share of the statements of this many parts of a run.
WINDOWS = 40
SITES = {
    "one database": process.ONE_DATABASE,
    "naive router": "tests.naive.NaiveRouter",
    "replicant": "replicant.ReplicaRouter",
}


@dataclass
class Outcome:
    """What one site did with the requests."""

    name: str
    tally: Tally
    statements: dict[str, int]
    """Questions that clients sent to each server."""
    server_seconds: dict[str, float]
    """Processor time of each server."""
    site_seconds: float
    windows: list[tuple[int, int]] = field(default_factory=list)
    """For each part of the run: statements on the primary, and on all servers."""

    @property
    def on_replicas(self) -> int:
        return sum(self.statements.values()) - self.statements["default"]

    @property
    def share(self) -> float:
        return self.statements["default"] / sum(self.statements.values())

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share, "stale": self.tally.stale}


def measure(requests: int) -> list[Outcome]:
    """The outcomes of all sites, for about as many requests each."""
    with start("mysql", replicas=2) as cluster:
        outcomes = [_measure(name, router, cluster, requests) for name, router in SITES.items()]
    for outcome in outcomes:
        # What a visitor wrote, their next requests must see: any figure but this one is no use without it.
        if outcome.name == "replicant" and outcome.tally.stale:
            raise SystemExit(
                f"replicant: {outcome.tally.stale_pages} pages and {outcome.tally.stale_lists} lists stale"
            )
    return outcomes


def _measure(name: str, router: str, cluster: Cluster, requests: int) -> Outcome:
    database = "bench_" + name.replace(" ", "_")
    cluster.create_database(database)
    databases = cluster.databases(database)
    process.seed(databases, VISITORS)
    nodes = dict(zip(databases, [cluster.primary, *cluster.replicas], strict=True))
    tally = Tally()
    with ExitStack() as stack:
        site, port = stack.enter_context(process.serving(process.environment(databases, router)))
        visitors = [Visitor(port, tally) for _ in range(VISITORS)]
        for number, visitor in enumerate(visitors):
            stack.callback(visitor.close)
            if not visitor.log_in(f"visitor{number}"):
                raise SystemExit(f"{name}: visitor{number} could not log in")
        cluster.wait_until_caught_up()
        for replica in cluster.replicas:
            replica.delay(LAG_SECONDS)
        stack.callback(lambda: [replica.delay(0) for replica in cluster.replicas])
        # The first requests of a process load its code; what is counted begins after them.
        for visitor in visitors:
            for path in ("/", "/boards/", "/banners/", "/shop/", "/boards/episodes/"):
                visitor.get(path)
        for attribute in ("requests", "failed"):
            setattr(tally, attribute, 0)
        tally.failures.clear()
        outcome = _count(name, tally, visitors, nodes, site.pid, requests)
    cluster.wait_until_caught_up()
    return outcome


def _count(
    name: str, tally: Tally, visitors: list[Visitor], nodes: dict[str, Node], site: int, requests: int
) -> Outcome:
    going = [visits(visitor, tally, seed) for seed, visitor in enumerate(visitors)]
    questions = {alias: _questions(node) for alias, node in nodes.items()}
    seconds = {alias: _seconds(node.pid) for alias, node in nodes.items()}
    site_seconds = _seconds(site)
    marks = [dict(questions)]
    while tally.requests < requests:
        for visit in going:
            next(visit)
        if tally.requests * WINDOWS >= len(marks) * requests:
            marks.append({alias: _questions(node) for alias, node in nodes.items()})
            progress(f"end to end: {name}, {tally.requests} of {requests} requests")
    progress()
    last = {alias: _questions(node) for alias, node in nodes.items()}
    return Outcome(
        name,
        tally,
        {alias: last[alias] - questions[alias] for alias in nodes},
        {alias: _seconds(node.pid) - seconds[alias] for alias, node in nodes.items()},
        _seconds(site) - site_seconds,
        [
            (after["default"] - before["default"], sum(after.values()) - sum(before.values()))
            for before, after in pairwise(marks)
        ],
    )


def _questions(node: Node) -> int:
    """Statements that clients other than the administrator have sent; replication is no client."""
    everyone, mine = (int(node.query(f"SHOW {scope} STATUS LIKE 'Questions'")[0][1]) for scope in ("GLOBAL", "SESSION"))
    # The second question is counted in the second answer only.
    return everyone - mine + 1


def _seconds(pid: int) -> float:
    """Processor seconds of a process so far: fields 14 and 15 of its stat (man 5 proc)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def text(outcomes: list[Outcome]) -> str:
    head = [f"{outcomes[0].tally.requests} requests, replicas {LAG_SECONDS} s behind", *(of.name for of in outcomes)]
    rows = [
        ["statements on the primary", *(str(of.statements["default"]) for of in outcomes)],
        [
            "statements on the replicas",
            *(str(sum(of.statements.values()) - of.statements["default"]) for of in outcomes),
        ],
        ["the primary's share", *(f"{of.share:.1%}" for of in outcomes)],
        ["the primary's CPU seconds", *(f"{of.server_seconds['default']:.1f}" for of in outcomes)],
        ["all servers' CPU seconds", *(f"{sum(of.server_seconds.values()):.1f}" for of in outcomes)],
        ["the site's CPU seconds", *(f"{of.site_seconds:.1f}" for of in outcomes)],
        ["banners and posts written", *(str(of.tally.written) for of in outcomes)],
        ["  their own page stale or not found", *(str(of.tally.stale_pages) for of in outcomes)],
        ["  the list they looked at next stale", *(str(of.tally.stale_lists) for of in outcomes)],
        ["failed", *(str(of.tally.failed) for of in outcomes)],
    ]
    failures = [f"{of.name}: {of.tally.failures}" for of in outcomes if of.tally.failures]
    return "\n".join([table(head, rows), *failures, ""])
