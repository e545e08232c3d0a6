"""How much of the reading replicas do under each way to keep the promise: ``python -m tests.consistency share``.

Fifty users, one statement in ten a write, replicas half a second behind; the same requests under each policy, one
policy after the other in one run. The results are shares and counts, not speeds: a table, and JSON in ``target/bench``.
Exits with 1 if ``session`` does not let replicas serve more than both pins do.
"""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connections

from tests.consistency import site
from tests.consistency.clients import LINKS, Client, Look, Put, Step
from tests.consistency.history import PRIMARY, History, Read
from tests.consistency.lag import behind
from tests.consistency.verify import stale_reads, violations
from tests.servers import Cluster, start

USERS = 50
WRITES = 0.1
BEHIND_SECONDS = 0.5
#: Mean seconds between two requests of a user: a quick one, which is unkind to every policy that has to wait.
THINK_SECONDS = 0.8
SECONDS = 8.0
NAMES = tuple(f"user{number}" for number in range(1, USERS + 1))
FOLDER = Path("target/bench")


@dataclass
class _Request:
    replica: str
    pinned_until: float
    wrote: bool = False


_request: ContextVar[_Request] = ContextVar("pin")


class Pin:
    """What everybody has: after a write, the user's reads go to the primary for ``seconds``; otherwise to one replica
    for each request. Counted from the write, or from the end of the request that wrote, which stays on the primary.

    A router, and what links a client's requests (a cookie with a time in it).
    """

    def __init__(self, seconds: float, *, from_end: bool = False) -> None:
        self._seconds = seconds
        self._from_end = from_end

    def db_for_write(self, model: Any, **hints: Any) -> str:
        request = _request.get()
        request.wrote = True
        request.pinned_until = time.monotonic() + self._seconds
        return PRIMARY

    def db_for_read(self, model: Any, **hints: Any) -> str:
        request = _request.get()
        is_pinned = (self._from_end and request.wrote) or time.monotonic() < request.pinned_until
        return PRIMARY if is_pinned else request.replica

    @contextmanager
    def open(self, texts: Sequence[str]) -> Iterator[None]:
        until = max([0.0, *map(float, texts)])
        reset = _request.set(_Request(random.choice(["replica1", "replica2"]), until))
        try:
            yield
        finally:
            _request.reset(reset)

    def token(self) -> str:
        request = _request.get()
        if request.wrote and self._from_end:
            request.pinned_until = time.monotonic() + self._seconds
        return str(request.pinned_until)


def requests(chance: random.Random, name: str) -> list[Step]:
    """The steps of one request: three statements, one in ten a write of the user's own register."""
    looks = [Look(tuple(sorted({name, chance.choice(NAMES)}))) for _ in range(3)]
    return [Put(name) if chance.random() < WRITES else look for look in looks]


def run(cluster: Cluster, link: Any, seconds: float, seed: int) -> History:
    """All users at once, for ``seconds`` seconds, their requests drawn from the seed."""
    history = site.begin(cluster, driver="share", seed=seed, seconds=seconds)
    stop = threading.Event()
    errors: list[BaseException] = []

    def use(name: str) -> None:
        chance = random.Random(f"{seed} {name}")
        client = Client(name, history, link)
        try:
            while not stop.wait(chance.expovariate(1 / THINK_SECONDS)):
                client.request(requests(chance, name))
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    users = [threading.Thread(target=use, args=(name,)) for name in NAMES]
    for user in users:
        user.start()
    time.sleep(seconds)
    stop.set()
    for user in users:
        user.join()
    if errors:
        raise errors[0]
    return history


def judge(history: History) -> dict[str, Any]:
    """Reads, the share of them that replicas served, and how many statements were stale."""
    reads = [event for event in history if isinstance(event, Read)]
    served = sum(read.alias != PRIMARY for read in reads)
    return {"reads": len(reads), "share": served / len(reads), "stale": stale_reads(violations(history))}


def compare(cluster: Cluster, seconds: float = SECONDS, seed: int = 1) -> dict[str, dict[str, Any]]:
    """Every policy in turn on the same cluster; policy -> what ``judge`` says."""
    site.create(cluster, "share", NAMES)
    pins = {"pin for 5 s": Pin(5.0), "pin for the request and 2 s": Pin(2.0, from_end=True)}
    policies: dict[str, tuple[dict[str, Any], Any]] = {"session": ({}, LINKS["tokens"]())}
    policies |= {name: ({"DATABASE_ROUTERS": [pin]}, pin) for name, pin in pins.items()}
    policies["eventual"] = ({"REPLICANT": site.settings("eventual")}, LINKS["forgotten"]())
    results = {}
    for name, (overridden, link) in policies.items():
        replicant_settings = overridden.pop("REPLICANT", site.settings("session"))
        with site.site(cluster, replicant_settings, "share", **overridden), behind(cluster, BEHIND_SECONDS):
            results[name] = judge(run(cluster, link, seconds, seed))
    return results


def table(results: dict[str, dict[str, Any]]) -> str:
    rows = [
        f"{name:<30} {found['reads']:>6} {found['share']:>8.1%} {found['stale']:>7}" for name, found in results.items()
    ]
    return "\n".join([f"{'policy':<30} {'reads':>6} {'replicas':>8} {'stale':>7}", *rows])


def main(engine: str, seconds: float, seed: int) -> int:
    """Compare on a cluster of ``engine``, ``seconds`` seconds for each policy, and say so. Returns the exit code."""
    with start(engine, replicas=2) as cluster:
        results = compare(cluster, seconds, seed)
        server = f"{cluster.engine} {cluster.version}"
    print(f"{server}, replicas {BEHIND_SECONDS:g} s behind, {USERS} users, {WRITES:.0%} writes, seed {seed}")
    print(table(results))
    FOLDER.mkdir(parents=True, exist_ok=True)
    about = {"server": server, "users": USERS, "writes": WRITES, "behind_seconds": BEHIND_SECONDS, "seed": seed}
    path = FOLDER / f"share-{engine}.json"
    path.write_text(json.dumps({**about, "policies": results}, indent=1) + "\n", encoding="utf-8")
    session, *pins = (found["share"] for name, found in results.items() if name != "eventual")
    return 0 if session > max(pins) else 1
