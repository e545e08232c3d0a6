"""What asks one member, where packets get lost: it tries again and again, and leaves nothing behind."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicant.monitor.prober import Prober
from replicant.threads import Wakeup
from tests.monitoring import black_hole
from tests.servers.machine import wait_until

SECONDS = 60.0
#: A thousand probes one after the other would take as many seconds, and more on PostgreSQL.
PROBERS, PROBES = 500, 2
ENGINES = ("mysql", "postgresql")


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def behind(port: int, engine: str) -> dict[str, Any]:
    """Settings of a member."""
    settings = {"ENGINE": f"django.db.backends.{engine}", "HOST": "127.0.0.1", "PORT": port, "NAME": "any"}
    return {**settings, "USER": "prober", "PASSWORD": "any", "OPTIONS": {}, "TIME_ZONE": None, "AUTOCOMMIT": True}


@pytest.fixture
def without_garbage_collection() -> Iterator[None]:
    """What is held by a cycle of references must not be counted on to go."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def probe(engine: str, probers: int, probes: int) -> int:
    """Have members in a black hole asked so many times each. Returns how many probes have found that nobody answers."""
    bell = Wakeup()
    with black_hole() as port:
        asked = [Prober(f"replica{number}", behind(port, engine), 0.01, bell) for number in range(probers)]
        gone = 0
        for _ in range(probes):
            for one in asked:
                one.ask()
            wait_until(lambda: not any(one.is_busy for one in asked), SECONDS, "all have tried")
            found = [one.take() for one in asked]
            gone += sum(sample is not None and sample.is_gone for sample in found)
        for one in asked:
            one.stop()
        wait_until(lambda: all(one.ended for one in asked), SECONDS, "their threads end")
    return gone


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.usefixtures("without_garbage_collection")
@pytest.mark.slow
def test_a_thousand_probes_of_a_black_hole_leave_nothing_behind(engine: str):
    before = threading.active_count(), descriptors()
    assert probe(engine, PROBERS, PROBES) == PROBERS * PROBES == 1000
    wait_until(lambda: threading.active_count() == before[0], SECONDS, "no thread is left")
    assert descriptors() == before[1]
