"""Who visits the site at the same time, each in a thread of its own: members, who write, and others who only read."""

from __future__ import annotations

import http.client
import threading
from collections import Counter

from tests.benchmarks.end_to_end.visitors import Tally, Visitor, visits

#: So many are members. Of a hundred of their visits, this many write something.
MEMBERS, WRITING = 6, 20
#: A visitor who has waited for so many seconds has gone.
PATIENCE = 10.0


class Crowd:
    """Visitors, of whom the members are ``visitor0`` and on; they visit while the block runs.

    Who has written stays with the replica that served it for as long as its token lasts, whoever else comes back.
    """

    def __init__(self, port: int, number: int, seed: int) -> None:
        self._seed = seed
        self._tallies = [Tally() for _ in range(number)]
        self._visitors = [Visitor(port, tally, PATIENCE) for tally in self._tallies]
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(place,)) for place in range(number)]

    def log_in(self) -> None:
        """Log the members in; RuntimeError if one cannot."""
        for place, visitor in enumerate(self._visitors[:MEMBERS]):
            if not visitor.log_in(f"visitor{place}"):
                raise RuntimeError(f"visitor{place} could not log in")
            visitor.seconds.clear()

    def __enter__(self) -> Crowd:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    @property
    def tally(self) -> Tally:
        """What all of them have met so far."""
        numbers = ("requests", "written", "stale_pages", "stale_lists", "failed")
        failures = sum((Counter(dict(tally.failures)) for tally in self._tallies), Counter[str]())
        sums = {name: sum(getattr(tally, name) for tally in self._tallies) for name in numbers}
        return Tally(**sums, failures=dict(failures))

    @property
    def seconds(self) -> list[float]:
        """How long each request took."""
        return [seconds for visitor in self._visitors for seconds in visitor.seconds]

    def _visit(self, place: int) -> None:
        visitor, writing = self._visitors[place], WRITING if place < MEMBERS else 0
        round_ = 0
        try:
            while not self._stopping.is_set():
                going = visits(visitor, self._tallies[place], f"{self._seed}-{place}-{round_}", writing)
                round_ += 1
                try:
                    while not self._stopping.is_set():
                        next(going)
                except (OSError, http.client.HTTPException) as error:
                    visitor.failed(f"no answer: {type(error).__name__}")
                    visitor.close()
        finally:
            visitor.close()
