"""Users with two devices: ``python -m tests.consistency devices``. What a token store costs when devices share it.

With cookies each device knows what it wrote itself. In the cache a user's devices share one list, so that each device
must see what the other one wrote, too. So the cache's share of reads on replicas is compared with two oracles: one
that pins a device after its own writes, and one that pins it after the writes of either device.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from django.contrib.auth.models import User
from django.core.management import call_command
from django.db import connections
from django.test import Client

from tests.consistency.lag import behind
from tests.databases import use_databases
from tests.servers import start

USERS, DEVICES = 20, 2
WRITES = 0.1
BEHIND_SECONDS = 0.5
THINK_SECONDS = 0.8

_SETTINGS: dict[str, Any] = {
    "ROOT_URLCONF": "tests.app.urls",
    "ALLOWED_HOSTS": ["testserver"],
    "SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies",
    "CACHES": {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}},
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        "replicant.middleware.ReplicaMiddleware",
    ],
    "REPLICANT": {"default": {"REPLICAS": ["replica1", "replica2"], "PRIMARY_ONLY": ["sessions", "auth"]}},
}


@dataclass
class Counts:
    """Reads, and how many of them a replica served or could have served."""

    reads: int = 0
    replicas: int = 0
    own: int = 0
    """An oracle that pins a device for as long as the replicas lack its own last write."""
    shared: int = 0
    """An oracle that pins it for as long as they lack the last write of either device."""
    lock: threading.Lock = field(default_factory=threading.Lock)


def _use(user: User, written: dict[int, float], device: int, counts: Counts, stop: threading.Event, seed: str) -> None:
    chance, client = random.Random(seed), Client()
    client.force_login(user)
    while not stop.wait(chance.expovariate(1 / THINK_SECONDS)):
        if chance.random() < WRITES:
            client.post("/write/")
            written[device] = time.monotonic()
            continue
        own = time.monotonic() - written[device] > BEHIND_SECONDS
        shared = time.monotonic() - max(written.values()) > BEHIND_SECONDS
        lines = client.get("/read/").content.decode().splitlines()
        with counts.lock:
            counts.reads += len(lines)
            counts.replicas += sum(not line.startswith("default") for line in lines)
            counts.own += own * len(lines)
            counts.shared += shared * len(lines)
    connections.close_all()


def measure(store: str, seconds: float, seed: int) -> Counts:
    """All devices of all users at once."""
    counts, stop = Counts(), threading.Event()
    users = list(User.objects.using("default").filter(username__startswith="user"))
    threads = []
    for user in users:
        written = dict.fromkeys(range(DEVICES), 0.0)
        for device in range(DEVICES):
            arguments = (user, written, device, counts, stop, f"{seed} {user.pk} {device}")
            threads.append(threading.Thread(target=_use, args=arguments))
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    stop.set()
    for thread in threads:
        thread.join()
    return counts


def main(engine: str, seconds: float, seed: int) -> int:
    """Measure each store on a cluster of ``engine``, ``seconds`` seconds each."""
    with start(engine, replicas=2) as cluster:
        cluster.create_database("devices")
        with use_databases(cluster.databases("devices"), **_SETTINGS):
            call_command("migrate", verbosity=0)
            for number in range(USERS):
                User.objects.using("default").create(username=f"user{number}")
        cluster.wait_until_caught_up()
        print(f"{'store':<8} {'reads':>6} {'replicas':>9} {'oracle, own writes':>19} {'oracle, both':>13}")
        with behind(cluster, BEHIND_SECONDS):
            for store in ("cookie", "cache"):
                settings = {**_SETTINGS, "REPLICANT_TOKEN": {"STORE": store}}
                with use_databases(cluster.databases("devices"), **settings):
                    found = measure(store, seconds, seed)
                shares = (found.replicas / found.reads, found.own / found.reads, found.shared / found.reads)
                print(f"{store:<8} {found.reads:>6} {shares[0]:>9.1%} {shares[1]:>19.1%} {shares[2]:>13.1%}")
    return 0
