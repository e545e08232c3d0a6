"""The versions of a primary's data over time, and the version that a lagging replica shows."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable, Collection
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import _core
from replicant._core import Position
from replicant.engines import Engine, Sample
from replicant.testing.snapshots import Snapshot

#: The intervals at which the positions of the replicas, and of the primary, are reported to the router, in seconds.
_REPLICAS_EVERY = 0.05
_PRIMARY_EVERY = 1.0
#: Replicas that lag by seconds show about this many versions in that time, however many commits there are.
_VERSIONS = 20
#: The interval at which a wait for a position polls, in seconds.
_LOOKS_EVERY = 0.002

#: Positions for databases without positions. They never repeat, so that a later block contains all of an earlier one.
_numbers = itertools.count(1)
#: A lock, because ``next()`` of a count is not atomic without the GIL.
_counting = threading.Lock()


def _next_position() -> Position:
    with _counting:
        return Position("postgresql", f"1:0/{next(_numbers):X}")


class Version(NamedTuple):
    """The primary's data at one time."""

    made_at: int
    """``time.monotonic_ns()``."""
    position: Position
    snapshot: Snapshot


class History:
    """The versions of a primary's data, beginning with the data that ``connection`` shows now.

    ``replicas`` lag by this number of ``commits`` or ``seconds``, or (with neither) stand still. The ``others`` of the
    cluster do not lag.
    """

    def __init__(
        self,
        connection: BaseDatabaseWrapper,
        replicas: Collection[str],
        others: Collection[str],
        commits: int | None,
        seconds: float | None,
    ) -> None:
        self.primary = connection.alias
        self.replicas = frozenset(replicas)
        self._others = frozenset(others)
        self._commits = commits
        self._seconds = seconds
        self._versions: deque[Version] = deque()
        self._retired: list[Snapshot] = []
        self._lock = threading.RLock()
        self._told_of_primary_at = 0.0
        self._ending = threading.Event()
        self.advance(connection)
        self._thread = threading.Thread(target=self._keep_telling, name=f"replicant-lag-{self.primary}", daemon=True)

    def start(self) -> None:
        """Begin to report to the router."""
        self._thread.start()

    def advance(self, connection: BaseDatabaseWrapper) -> None:
        """Record a new version after a commit on a ``connection`` to the primary."""
        with self._lock:
            now = time.monotonic_ns()
            snapshot = Snapshot(connection)
            position = snapshot.position or _next_position()
            if self._latest_is_spare():
                self._retired.append(self._versions.pop().snapshot)
            self._versions.append(Version(now, position, snapshot))
            self.tell(primary=True)

    def _latest_is_spare(self) -> bool:
        """Whether the replicas never need to show the latest version, because a newer one follows."""
        if self._commits is not None or len(self._versions) < 2:
            return False
        if self._seconds is None:
            return True
        # Each version is a session with the server, which has a limited number of sessions.
        return self._versions[-1].made_at - self._versions[-2].made_at < self._seconds / _VERSIONS * 1e9

    @property
    def latest(self) -> Version:
        with self._lock:
            return self._versions[-1]

    def shown(self) -> Version:
        """The version that the replicas show now."""
        with self._lock:
            while self._may_drop_first():
                self._retired.append(self._versions.popleft().snapshot)
            for snapshot in [snapshot for snapshot in self._retired if not snapshot.is_in_use]:
                self._retired.remove(snapshot)
                snapshot.close()
            return self._versions[0]

    def _may_drop_first(self) -> bool:
        """Whether the replicas have gone on to the second version."""
        if self._commits is not None:
            return len(self._versions) > self._commits + 1
        if self._seconds is not None and len(self._versions) > 1:
            return time.monotonic_ns() - self._versions[1].made_at >= self._seconds * 1e9
        return False

    def wait(self, position: Position, seconds: float) -> Position | None:
        """Wait for at most ``seconds`` until the replicas have ``position``; returns the position that they then have,
        or None."""
        until = time.monotonic() + seconds
        while not (reached := self.shown().position).contains(position):
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOKS_EVERY)
        return reached

    # Reports to the router, as the monitor would send them.

    def tell(self, *, primary: bool = False) -> None:
        with self._lock:
            now = time.monotonic_ns()
            answers: list[tuple[str, Position | None, int, str]] = []
            if primary or time.monotonic() - self._told_of_primary_at >= _PRIMARY_EVERY:
                self._told_of_primary_at = time.monotonic()
                answers.append((self.primary, self.latest.position, now, ""))
            shown, latest = self.shown().position, self.latest.position
            answers += [(replica, shown, now, "") for replica in self.replicas]
            answers += [(other, latest, now, "") for other in self._others]
            # A test may use invalid settings on purpose; this thread must ignore their errors.
            with contextlib.suppress(ImproperlyConfigured):
                _core.observe(answers)

    def _keep_telling(self) -> None:
        while not self._ending.wait(_REPLICAS_EVERY):
            self.tell()

    def close(self) -> None:
        """End the lag: report that the replicas have caught up."""
        self._ending.set()
        if self._thread.ident is not None:
            self._thread.join()
        with self._lock:
            now, position = time.monotonic_ns(), self.latest.position
            with contextlib.suppress(ImproperlyConfigured):
                _core.observe([(alias, position, now, "") for alias in (self.primary, *self.replicas, *self._others)])
            for snapshot in (*self._retired, *(version.snapshot for version in self._versions)):
                snapshot.close()


class StandIn:
    """Answers for a member in place of its engine. It passes everything that is not about positions to the engine."""

    def __init__(self, alias: str, engine: Engine, history: History) -> None:
        self._alias = alias
        self._engine = engine
        self._history = history

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)

    def _version(self) -> Version:
        return self._history.shown() if self._alias in self._history.replicas else self._history.latest

    def ask_position(self, connection: BaseDatabaseWrapper) -> Position | None:
        return self._version().position

    position: Callable[..., Position | None] = ask_position

    def wait(self, connection: BaseDatabaseWrapper, position: Position, seconds: float) -> Position | None:
        if self._alias in self._history.replicas:
            return self._history.wait(position, seconds)
        return self._history.latest.position

    def probe(self, connection: BaseDatabaseWrapper) -> Sample:
        is_primary = self._alias == self._history.primary
        return Sample(self._alias, "", is_primary, self._version().position, time.monotonic_ns(), 0.0)
