"""What happens to the replicas, and what the visitors of one site see of it."""

from __future__ import annotations

import contextlib
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.benchmarks.end_to_end import process
from tests.benchmarks.end_to_end.visitors import Tally
from tests.servers import Cluster
from tests.storm.crowd import Crowd

VISITORS = 16
DATABASE = "storm"
#: What takes each place, by its dotted path. All but the last with Django's own engines.
SITES = {
    "documentation": "naive_routers.DocumentedRouter",
    "passed around": "naive_routers.PassedAroundRouter",
    "replicant": "replicant.ReplicaRouter",
}
#: Each one's part of what replicas serve, by the example project's weights.
SHARES = {"replica1": 2 / 3, "replica2": 1 / 3}
#: A replica is back when it serves at least this part of its share, by the servers' own count over so many seconds.
BACK, WINDOW = 0.5, 0.5
#: Longest time for that, in seconds.
RETURNS_WITHIN = 10.0
#: Parts of a run's seconds: how long a replica is dead, and how long replication is stopped.
DEAD, PAUSED = 1 / 15, 2 / 3
#: Seconds that a server is silent, at least: only then does the monitor give it up.
SILENT = 3.0
#: In a run of so many seconds each replica has its share again while the other one serves, before that one is struck.
UNHURRIED = 20.0


@dataclass
class Outcome:
    """What the visitors of one site have met."""

    site: str
    tally: Tally = field(default_factory=Tally)
    seconds: list[float] = field(default_factory=list)
    returns: list[tuple[str, float | None]] = field(default_factory=list)
    """What each replica came back from, and after how many seconds it had its share; None if it had not in time."""
    log: str = ""
    """What the site has logged."""

    @property
    def is_bad(self) -> bool:
        """Whether a visitor has noticed something."""
        return bool(self.tally.failed or self.tally.stale)

    @property
    def is_well(self) -> bool:
        """Whether no visitor has, and each replica came back in time."""
        return not self.is_bad and all(seconds is not None for _, seconds in self.returns)

    def about(self) -> str:
        """In a line."""
        tally = self.tally
        back = ", ".join(f"{what} {'never' if took is None else f'{took:.1f} s'}" for what, took in self.returns)
        return (
            f"{self.site}: {tally.requests} requests, {tally.written} writes; "
            f"{tally.failed} failed, {tally.stale} stale; "
            f"median {1000 * statistics.median(self.seconds):.0f} ms, longest {max(self.seconds):.1f} s; "
            f"share again after: {back or '-'}"
        )


def prepare(cluster: Cluster) -> None:
    """Make the site's database."""
    cluster.create_database(DATABASE)
    process.seed(cluster.databases(DATABASE), VISITORS)
    cluster.wait_until_caught_up(30.0)


def run(
    cluster: Cluster,
    site: str,
    *,
    seconds: float,
    seed: int,
    folder: Path,
    until: Callable[[Tally], object] = lambda tally: False,
) -> Outcome:
    """Let the visitors of ``site`` use it while the replicas fail, for about ``seconds`` seconds and as long as the
    replicas take to come back, or ``until`` says that it is enough. ``folder`` is for the site's log.
    """
    databases = cluster.databases(DATABASE)
    if site == "replicant":
        databases = process.with_our_engines(databases)
    outcome = Outcome(site)
    path = folder / f"{cluster.engine}-{site.replace(' ', '-')}.log"
    with path.open("w+") as log, process.serving(process.environment(databases, SITES[site]), log) as (_, port):
        crowd = Crowd(port, VISITORS, seed)
        crowd.log_in()
        cluster.wait_until_caught_up()
        storm = _Storm(cluster, outcome, seconds, seed, lambda: bool(until(crowd.tally)))
        try:
            with crowd:
                storm.rage()
        finally:
            storm.calm()
        outcome.tally, outcome.seconds = crowd.tally, crowd.seconds
    outcome.log = path.read_text()
    cluster.wait_until_caught_up(30.0)
    return outcome


class _Enough(Exception):
    pass


class _Storm:
    """Of two replicas one falls silent, each is killed, and one stands still; each comes back."""

    def __init__(
        self, cluster: Cluster, outcome: Outcome, seconds: float, seed: int, is_enough: Callable[[], bool]
    ) -> None:
        self._nodes = dict(zip(SHARES, cluster.replicas, strict=True))
        self._outcome = outcome
        self._seconds = seconds
        self._is_enough = is_enough
        #: What it came back from, and when.
        self._back: dict[str, tuple[str, float]] = {}
        self._first, self._second = random.Random(seed).sample(sorted(SHARES), 2)

    def rage(self) -> None:
        with contextlib.suppress(_Enough):
            self._rage()

    def calm(self) -> None:
        """Put all in order, wherever it ended."""
        for node in self._nodes.values():
            if node.suspended:
                node.resume()
            if not node.running:
                node.restart()
            node.resume_replication()

    def _rage(self) -> None:
        first, second = self._first, self._second
        dead = DEAD * self._seconds
        self._let_go_on(dead)
        self._nodes[second].suspend()
        self._let_go_on(max(SILENT, dead))
        self._nodes[second].resume()
        self._is_back(second, "silence")
        self._nodes[first].kill()
        self._let_go_on(dead)
        # Who is struck next must serve, or nobody would notice.
        self._wait_for_share(second)
        self._nodes[first].restart()
        self._is_back(first, "death")
        self._nodes[second].kill()
        self._let_go_on(dead)
        self._wait_for_share(first)
        self._nodes[second].restart()
        self._is_back(second, "death")
        self._nodes[first].pause_replication()
        self._let_go_on(PAUSED * self._seconds)
        self._wait_for_share(second)
        self._nodes[first].resume_replication()
        self._is_back(first, "standstill")
        self._wait_for_share(first)

    def _is_back(self, alias: str, fault: str) -> None:
        self._back[alias] = (f"{fault} of {alias}", time.monotonic())
        if self._seconds >= UNHURRIED:
            self._wait_for_share(alias)

    def _let_go_on(self, seconds: float) -> None:
        deadline = time.monotonic() + seconds
        while (left := deadline - time.monotonic()) > 0:
            if self._is_enough():
                raise _Enough
            time.sleep(min(left, 0.1))

    def _wait_for_share(self, alias: str) -> None:
        """Wait until it has its share again of what replicas serve, if it is not known to have it."""
        if alias not in self._back:
            return
        fault, since = self._back.pop(alias)
        while True:
            before = self._statements()
            self._let_go_on(WINDOW)
            sent = {alias: count - before[alias] for alias, count in self._statements().items()}
            took = time.monotonic() - since
            if sent[alias] >= BACK * SHARES[alias] * max(1, sum(sent.values())):
                self._outcome.returns.append((fault, took))
                return
            if took > RETURNS_WITHIN:
                self._outcome.returns.append((fault, None))
                return

    def _statements(self) -> dict[str, int]:
        """How many each replica that runs has answered."""
        return {alias: node.statements() if node.running else 0 for alias, node in self._nodes.items()}
