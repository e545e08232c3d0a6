"""A replica vanishes in a black hole at a moment that a seed decides, and reads are on their way to it.

By hand, 200 schedules on one driver: ``python -m tests.black_holes postgresql psycopg 0 200``.
"""

from __future__ import annotations

import contextlib
import os
import random
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

from django.db import connections, router

from replicant import _core
from replicant.monitor import cluster_monitor
from tests.databases import ours, use_databases
from tests.drivers import mysql_driver
from tests.monitoring import watching
from tests.proxy import Proxy, proxy
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 30.0
READERS = 4
#: What the monitor is doing when the replica vanishes: it rests or asks, it opens a connection (as it does each minute,
#: and after each failure), or it is about to.
PHASES = ("any", "while it connects", "before it connects")


class Schedules:
    """Runs schedules on a cluster whose ``replica1`` is behind a proxy, with our engines."""

    def __init__(self, endpoint: Proxy) -> None:
        self._endpoint = endpoint

    def run(self, seed: int) -> float:
        """The longest time that a read has taken, in seconds. Raises what a read has raised."""
        draw = random.Random(seed)
        phase = PHASES[seed % len(PHASES)]
        wait_until(lambda: _core.member_state("replica1") == "up", SECONDS, "the replica serves")
        readers = [_Reader() for _ in range(READERS)]
        try:
            for reader in readers:
                reader.start()
            wait_until(lambda: all(reader.done > 2 for reader in readers), SECONDS, "all read")
            time.sleep(draw.uniform(0.0, 1.1))
            if phase != "any":
                prober = _prober_of("replica1")
                prober._connected_at = -1e9
                if phase == "while it connects":
                    opened = self._endpoint.opened
                    wait_until(lambda: self._endpoint.opened > opened, SECONDS, "the monitor connects")
                    time.sleep(draw.uniform(0.0, 0.005))
            self._endpoint.vanish()
            wait_until(lambda: _core.member_state("replica1") == "down", SECONDS, "the replica is down")
            marks = [(reader, reader.done) for reader in readers]
            wait_until(lambda: all(reader.done > mark for reader, mark in marks), SECONDS, "reads go on")
        finally:
            for reader in readers:
                reader.stopping = True
            for reader in readers:
                reader.join()
            self._endpoint.come_back()
        for reader in readers:
            if reader.error is not None:
                raise reader.error
        return max(reader.longest for reader in readers)


class _Reader(threading.Thread):
    """Reads from ``replica1`` again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.stopping = False
        self.done = 0
        self.longest = 0.0
        self.error: Exception | None = None

    def run(self) -> None:
        from tests.app.models import Item

        try:
            while not self.stopping:
                begun = time.monotonic()
                Item.objects.using("replica1").count()
                self.longest = max(self.longest, time.monotonic() - begun)
                self.done += 1
                time.sleep(0.01)
        except Exception as error:
            self.error = error
        finally:
            connections.close_all()


def _prober_of(alias: str) -> Any:
    (watch,) = cluster_monitor._watches
    return watch._probers[alias]


@contextlib.contextmanager
def schedules(servers: Cluster, databases: dict[str, Any], driver: str) -> Iterator[Schedules]:
    from tests.app.models import Item

    with contextlib.ExitStack() as stack:
        if driver != "psycopg":
            stack.enter_context(mysql_driver(driver))
        endpoint = stack.enter_context(proxy(servers.replicas[0]))
        databases = ours(databases)
        databases["replica1"] = {**databases["replica1"], "PORT": endpoint.port}
        stack.enter_context(use_databases(databases, REPLICANT=watching(1.0)))
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        try:
            yield Schedules(endpoint)
        finally:
            endpoint.come_back()
            cluster_monitor.stop()


def main(engine: str, driver: str, first: str, beyond: str) -> None:
    import django

    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from django.core.management import call_command

    from tests.servers import start

    with start(engine, replicas=2) as servers:
        servers.create_database("black_holes")
        databases = servers.databases("black_holes")
        with use_databases(databases):
            call_command("migrate", verbosity=0)
        servers.wait_until_caught_up()
        taken = []
        with schedules(servers, databases, driver) as run:
            for seed in range(int(first), int(beyond)):
                taken.append(run.run(seed))
                sys.stdout.write(f"{engine} {driver} {seed} {PHASES[seed % len(PHASES)]}: {taken[-1]:.2f} s\n")
                sys.stdout.flush()
    within = sum(seconds <= 1.5 for seconds in taken)
    sys.stdout.write(f"{engine} {driver}: {within} of {len(taken)} within 1.5 s, the longest {max(taken):.2f} s\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
