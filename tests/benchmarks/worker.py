"""One contender in a process of its own: reads the name of a measurement from its input, answers with a number.

The clock of the thread's processor time is read before and after a loop of some milliseconds, so that what else the
machine does counts as little as it can; a call in place after a query is too short for it, and is timed one by one.
"""

from __future__ import annotations

import gc
import json
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from itertools import repeat
from typing import Any

from tests.benchmarks import django_site
from tests.benchmarks.contenders import Contender, by_name

#: Long enough that reading the clock does not count, short enough that a turn is seldom interrupted.
TURN_SECONDS = 0.002
QUERIES = 40
#: Iterations of the empty loop that tell how fast the machine runs at the moment.
REFERENCE = 50_000


class Measurements:
    """What can be measured of a contender; nanoseconds for each call."""

    def __init__(self, contender: Contender) -> None:
        from django.db import router

        from tests.app import models

        self.router = router
        self.model: Any = getattr(models, contender.model)
        self.item: Any = models.Item
        # Loaded from a replica: what it hangs on is read from there, and no row is skipped on the way.
        self.instance = models.Item(pk=1)
        self.instance._state.db = "replica1"
        self.counts: dict[str, int] = {}
        # The way every read of a page finds it: opened, and used.
        self.item.objects.using("default").get(pk=1)
        self._ask_until_settled()
        django_site.check(contender, self.model)

    def _ask_until_settled(self) -> None:
        for _ in repeat(None, 100):
            self.router.db_for_read(self.model)
            self.router.db_for_read(self.model, instance=self.instance)

    def direct(self) -> float:
        ask, model = self.router.routers[0].db_for_read, self.model

        def loop(count: int) -> None:
            for _ in repeat(None, count):
                ask(model)

        return self._per_call("direct", loop)

    def direct_hint(self) -> float:
        ask, model, instance = self.router.routers[0].db_for_read, self.model, self.instance

        def loop(count: int) -> None:
            for _ in repeat(None, count):
                ask(model, instance=instance)

        return self._per_call("direct_hint", loop)

    def through(self) -> float:
        router, model = self.router, self.model

        def loop(count: int) -> None:
            for _ in repeat(None, count):
                router.db_for_read(model)

        return self._per_call("through", loop)

    def through_hint(self) -> float:
        router, model, instance = self.router, self.model, self.instance

        def loop(count: int) -> None:
            for _ in repeat(None, count):
                router.db_for_read(model, instance=instance)

        return self._per_call("through_hint", loop)

    def in_place(self) -> float:
        """The call that Django makes, its code and data as cold as a query leaves them."""
        router, model, get = self.router, self.model, self.item.objects.using("default").get
        hints: dict[str, Any] = {}
        clock = time.perf_counter_ns
        asked, empty = [], []
        for _ in repeat(None, QUERIES):
            get(pk=1)
            before = clock()
            router.db_for_read(model, **hints)
            asked.append(clock() - before)
            get(pk=1)
            before = clock()
            empty.append(clock() - before)
        return statistics.median(asked) - statistics.median(empty)

    def query(self) -> float:
        """``get(pk=1)`` itself, sent with ``using``, so that no router is asked."""
        get, clock = self.item.objects.using("default").get, time.perf_counter_ns
        taken = []
        for _ in repeat(None, QUERIES):
            before = clock()
            get(pk=1)
            taken.append(clock() - before)
        return statistics.median(taken)

    def _per_call(self, name: str, loop: Callable[[int], None]) -> float:
        count = self.counts.get(name) or self.counts.setdefault(name, _calibrate(loop))
        # The processor's caches hold what the contender before left there. ``in_place`` is the measure of cold calls.
        loop(count // 4)
        return (_time(loop, count) - _time(_nothing, count)) / count


def _nothing(count: int) -> None:
    for _ in repeat(None, count):
        pass


def _time(loop: Callable[[int], None], count: int) -> int:
    before = time.thread_time_ns()
    loop(count)
    return time.thread_time_ns() - before


def _reference() -> float:
    """Nanoseconds for each turn of an empty loop: more where somebody else uses the same core."""
    return _time(_nothing, REFERENCE) / REFERENCE


def _calibrate(loop: Callable[[int], None]) -> int:
    loop(1000)  # The interpreter specialises the code as it runs.
    return max(1000, round(1000 * TURN_SECONDS * 1e9 / max(1, _time(loop, 1000))))


def main() -> None:
    contender = by_name(sys.argv[1])
    with ExitStack() as stack:
        django_site.set_up(contender, stack)
        measurements = Measurements(contender)
        gc.disable()
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            before = _reference()
            value = getattr(measurements, line.strip())()
            # The slower of the two: the machine may have been disturbed half-way.
            print(json.dumps([value, max(before, _reference())]), flush=True)


if __name__ == "__main__":
    main()
