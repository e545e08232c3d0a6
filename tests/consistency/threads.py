"""Several clients at once, each in a thread of its own, and one more thread for the faults.

The seed decides what each client does and what happens to the replicas, each from a source of its own; how the threads
interleave it does not.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from django.conf import settings
from django.db import connections

from tests.consistency import clients, faults, site
from tests.consistency.clients import REGISTERS, Client, Look
from tests.consistency.history import PRIMARY, Fault, History, Quiet, Read
from tests.servers import Cluster

#: Mean seconds between two requests of a client.
THINK_SECONDS = 0.003
#: Seconds that a client is given to return to replicas once all is quiet.
RETURN_SECONDS = 20.0
#: How often a run looks whether it has found what it was to find.
LOOK_SECONDS = 0.5


def run(
    cluster: Cluster,
    *,
    seed: int,
    seconds: float,
    link: str | Callable[[], Any] = "tokens",
    number: int = 6,
    think: float = THINK_SECONDS,
    returns: float = RETURN_SECONDS,
    with_faults: bool = True,
    restarts: bool = True,
    until: Callable[[History], object] = lambda history: False,
) -> History:
    """Let ``number`` clients work on the cluster for ``seconds`` seconds, or ``until`` says of the history so far that
    it is enough. Afterwards all gets quiet, and each goes on reading until a replica serves it. Returns the history.

    ``link`` is what links a client's requests: a name of ``clients.LINKS``, or what makes one. ``think`` is the mean
    time between two requests of a client, and ``returns`` how long each goes on in the end, in seconds. Without
    ``restarts`` no server ends.
    """
    history = site.begin(
        cluster,
        driver="threads",
        seed=seed,
        seconds=seconds,
        link=clients.link_name(link),
        settings=settings.REPLICANT.get("default"),
    )
    return _Run(cluster, history, seed, link, number, think, returns, restarts).run(seconds, with_faults, until)


class _Run:
    def __init__(
        self,
        cluster: Cluster,
        history: History,
        seed: int,
        link: str | Callable[[], Any],
        number: int,
        think: float,
        returns: float,
        restarts: bool,
    ) -> None:
        self._cluster = cluster
        self._history = history
        self._seed = seed
        self._think = think
        self._returns = returns
        self._restarts = restarts
        make = clients.LINKS[link] if isinstance(link, str) else link
        self._clients = [Client(f"client{place}", history, make()) for place in range(1, number + 1)]
        self._stop = threading.Event()
        self._quiet = threading.Event()
        self._at_rest = threading.Barrier(number + 1)
        self._errors: list[BaseException] = []

    def run(self, seconds: float, with_faults: bool, until: Callable[[History], object]) -> History:
        works: list[tuple[Callable[..., None], tuple[Any, ...]]] = [(self._work, (one,)) for one in self._clients]
        working = [threading.Thread(target=self._guarded, args=work) for work in works]
        striking = threading.Thread(target=self._guarded, args=(self._strike, ()))
        for thread in [*working, striking] if with_faults else working:
            thread.start()
        deadline = time.monotonic() + seconds
        while not self._stop.wait(min(LOOK_SECONDS, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() >= deadline or until(self._history):
                self._stop.set()
        if with_faults:
            striking.join()
        # Every client must have come to rest before all is quiet.
        with suppress(threading.BrokenBarrierError):
            self._at_rest.wait()
        try:
            faults.end_all(self._cluster)
            self._history.add(Quiet())
        finally:
            self._quiet.set()
            for thread in working:
                thread.join()
        if self._errors:
            raise self._errors[0]
        return self._history

    def _guarded(self, function: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        try:
            function(*arguments)
        except BaseException as error:
            self._errors.append(error)
            self._stop.set()
            self._at_rest.abort()
        finally:
            connections.close_all()

    def _work(self, client: Client) -> None:
        chance = random.Random(f"{self._seed} {client.name}")
        # Every third one never writes: to such a session nothing but its reads is owed.
        writes = self._clients.index(client) % 3 != 2
        while not self._stop.is_set():
            if chance.random() < 0.03:
                client.forget()
            steps = clients.draw(chance, writes=writes)
            hands_over, who = chance.random() < 0.05, chance.choice(self._clients)
            client.request(steps, who.last if hands_over and who is not client else None)
            time.sleep(chance.expovariate(1 / self._think))
        self._at_rest.wait()
        self._quiet.wait()
        settle(client, self._history, self._returns)

    def _strike(self) -> None:
        chance = random.Random(f"{self._seed} faults")
        while not self._stop.is_set():
            fault = faults.draw(chance, restarts=self._restarts)
            self._history.add(Fault(str(fault)))
            fault.strike(self._cluster)


def settle(client: Client, history: History, seconds: float = RETURN_SECONDS) -> None:
    """Read until a replica serves the client: ``never_returned`` names it if none does in ``seconds``."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        number = len(history.events)
        client.request([Look(REGISTERS)])
        mine = [event for event in history.events[number:] if isinstance(event, Read) and event.client == client.name]
        if any(read.alias != PRIMARY for read in mine):
            return
        time.sleep(0.05)
