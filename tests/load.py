"""Threads that read and write as requests do, and remember what went wrong."""

from __future__ import annotations

import contextvars
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connections

from replicant import request_scope
from tests.app.models import Item

#: One request in so many writes, and looks for what it wrote.
WRITES = 10


class Load:
    """Reads and writes of several threads until it is stopped."""

    def __init__(self, threads: int) -> None:
        self.errors: list[Exception] = []
        self.stale = 0
        self.reads = Counter[str]()
        self.seconds: list[float] = []
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=contextvars.Context().run, args=(self._run,)) for _ in range(threads)]
        for thread in self._threads:
            thread.start()

    @property
    def done(self) -> int:
        return len(self.seconds)

    def stop(self) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                begun = time.monotonic()
                with request_scope():
                    self._request()
                self.seconds.append(time.monotonic() - begun)
                time.sleep(0.001)
        finally:
            connections.close_all()

    def _request(self) -> None:
        written = None
        try:
            if random.randrange(WRITES) == 0:
                written = Item.objects.create(name="written").pk
            found = Item.objects.filter(pk=written).first() if written else Item.objects.first()
            if found is None:
                self.stale += 1
            for item in Item.objects.all()[:5].iterator():
                self.reads[item._state.db] += 1
        except Exception as error:
            self.errors.append(error)


@contextmanager
def load(threads: int) -> Iterator[Load]:
    """Load, while the block runs."""
    running = Load(threads)
    try:
        yield running
    finally:
        running.stop()
