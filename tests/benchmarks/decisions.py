"""``db_for_read``, all contenders interleaved.

Each contender has a process of its own and waits for its turn; turns are taken in rounds, in an order drawn anew for
each, and everything is started afresh a few times, since a process keeps the layout in memory it was born with. Turns
in which an empty loop ran slower than it can were disturbed by somebody else, and are left out.
"""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

from tests.benchmarks.contenders import ALL, NO_ROUTER, Contender
from tests.benchmarks.empty_extension import environment
from tests.benchmarks.summary import Spread, Turn, best_reference, progress, table, undisturbed

KINDS = ("direct", "direct_hint", "through", "through_hint", "in_place")
TITLES = ("direct", "direct, instance", "through Django", "through, instance", "in place")
Results = dict[str, dict[str, Spread]]


class _Worker:
    """A contender's process, until the stack closes."""

    def __init__(self, contender: Contender, environment: dict[str, str], stack: ExitStack) -> None:
        self.contender = contender
        command = [sys.executable, "-m", "tests.benchmarks.worker", contender.name]
        self._process = stack.enter_context(
            subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)
        )

    def answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.contender.name}: the contender ended")
        return json.loads(line)

    def measure(self, kind: str) -> Turn:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{kind}\n")
        self._process.stdin.flush()
        return Turn(*self.answer())


def measure(launches: int, rounds: int, contenders: list[Contender] | None = None) -> tuple[Results, list[str]]:
    """The results by contender and kind, and the contenders that are not installed."""
    around = environment()
    sys.path[:0] = [folder for folder in around["PYTHONPATH"].split(":") if folder not in sys.path]
    wanted = contenders or ALL
    missing = [contender.name for contender in wanted if contender.missing]
    present = [contender for contender in wanted if not contender.missing]
    turns: dict[tuple[str, str], list[Turn]] = defaultdict(list)
    order = random.Random(1)
    for launch in range(launches):
        with ExitStack() as stack:
            workers = [_Worker(contender, around, stack) for contender in present]
            with ThreadPoolExecutor(2) as pool:
                list(pool.map(_Worker.answer, workers))
            for number in range(rounds):
                progress(f"decisions: start {launch + 1}/{launches}, round {number + 1}/{rounds}")
                for kind in (*KINDS, "query"):
                    order.shuffle(workers)
                    for worker in workers:
                        if worker.contender.router or kind not in {"direct", "direct_hint"}:
                            turns[worker.contender.name, kind].append(worker.measure(kind))
    progress()
    best = best_reference([turn for cell in turns.values() for turn in cell])
    results: Results = defaultdict(dict)
    for contender in present:
        for kind in (*KINDS, "query"):
            if cell := turns.get((contender.name, kind)):
                results[contender.name][kind] = Spread.of(undisturbed(cell, best))
    return dict(results), missing


def text(results: Results, missing: list[str]) -> str:
    rows = [[name, *(cells[kind].text() if kind in cells else "" for kind in KINDS)] for name, cells in results.items()]
    rows += [[name, "not installed", *[""] * (len(KINDS) - 1)] for name in missing]
    query = results.get(NO_ROUTER, {}).get("query")
    below = f"\nAn in-memory get(pk=...) takes {query.text()} ns.\n" if query else "\n"
    head = ["ns for each db_for_read: median ± half the interquartile range", *TITLES]
    return table(head, rows) + "\n" + below


def plain(results: Results, missing: list[str]) -> dict[str, Any]:
    measured = {name: {kind: spread.plain() for kind, spread in cells.items()} for name, cells in results.items()}
    return {"nanoseconds": measured, "not installed": missing}
