"""Both drivers in turn, for as long as you like: ``python -m tests.consistency soak`` (``make soak``).

Each round has a seed of its own, which it prints: ``make soak SEED=...`` begins with that one. A history that does not
hold goes to ``target/soak``, and ``python -m tests.consistency verify FILE`` judges it again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.consistency import machine, site, threads
from tests.consistency.clients import link_name
from tests.consistency.handmade import HandMade
from tests.consistency.history import History
from tests.consistency.verify import GUARANTEES, needless_pins, never_returned, summary, violations
from tests.servers import Cluster, start

FOLDER = Path("target/soak")
#: Seconds of a round with threads, and examples of one with the state machine.
ROUND_SECONDS = 20.0
ROUND_EXAMPLES = 15
#: How requests are linked unless said otherwise: by the product's tokens.
LINK = "tokens"


def judge(history: History) -> list[str]:
    """Everything wrong with a history, a line each: broken promises, pins without a cause, clients that never returned
    to replicas."""
    found = [str(violation) for violation in violations(history)]
    found += [f"needless pin: event {number}, {read.client}" for number, read in needless_pins(history)]
    return found + [f"{client} never returned to replicas" for client in never_returned(history)]


def tell(history: History) -> str:
    """What a history has seen, in two lines."""
    found = violations(history)
    by_guarantee = {name: sum(one.guarantee == name for one in found) for name in GUARANTEES}
    strict = len(violations(history, primary_binds=True)) - len(found)
    return f"{summary(history)}\n  {by_guarantee}, and {strict} more if reads kept on the primary were to bind"


def verify(path: Path) -> int:
    """Judge a kept history again. Returns the exit code."""
    history = History.load(path)
    found = judge(history)
    print(history.about, tell(history), *found, sep="\n")
    return 1 if found else 0


def main(engines: list[str], consistency: str, link: str, by_hand: str | None, seconds: float, seed: int) -> int:
    """Soak each engine for ``seconds`` seconds, or until something is found. Returns the exit code.

    ``by_hand`` is not None to soak the product made by hand instead, with this bug ("" for none).
    """
    failed = False
    for engine in engines:
        with start(engine, replicas=2) as cluster:
            site.create(cluster)
            overridden: dict[str, Any] = {}
            links: str | Callable[[], Any] = link
            if by_hand is not None:
                made = HandMade(cluster, by_hand)
                overridden, links = {"DATABASE_ROUTERS": [made]}, lambda made=made: made
            with site.site(cluster, site.settings(consistency), **overridden):
                failed |= not _soak(cluster, links, seconds, seed)
    return 1 if failed else 0


def _soak(cluster: Cluster, link: str | Callable[[], Any], seconds: float, seed: int) -> bool:
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        path = FOLDER / f"{cluster.engine}-{seed}.jsonl"
        print(f"{cluster.engine}, SEED={seed}, threads, {link_name(link)}", flush=True)
        history = threads.run(cluster, seed=seed, seconds=min(left, ROUND_SECONDS), link=link)
        print(f"  {tell(history)}")
        found = judge(history)
        if found:
            history.save(path)
            print(*found[:10], f"{len(found)} in all, kept in {path}", sep="\n  ")
            return False
        print(f"{cluster.engine}, SEED={seed}, state machine", flush=True)
        try:
            histories = machine.run(cluster, seed=seed, examples=ROUND_EXAMPLES, link=link, keep=path)
        except machine.Broken as broken:
            print(broken, *getattr(broken, "__notes__", ()), sep="\n  ")
            return False
        print(f"  {len(histories)} examples, {sum(len(one.events) for one in histories)} events, all hold")
        seed += 1
    return True
