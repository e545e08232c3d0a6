"""The versions that a primary's data have gone through, and which of them a replica shows that is behind."""

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

#: How often the router is told how far the replicas are, and the primary, in seconds.
_REPLICAS_EVERY = 0.05
_PRIMARY_EVERY = 1.0
#: Replicas that are late by seconds go through about so many versions in that time, however many commits there are.
_VERSIONS = 20
#: How often a wait for a position looks whether it is there, in seconds.
_LOOKS_EVERY = 0.002

#: Positions for databases that have none. Never the same twice, so that a later block contains all of an earlier one.
_numbers = itertools.count(1)
#: A count is not atomic without the GIL.
_counting = threading.Lock()


def _next_position() -> Position:
    with _counting:
        return Position("postgresql", f"1:0/{next(_numbers):X}")


class Version(NamedTuple):
    """The primary's data at a moment."""

    made_at: int
    """``time.monotonic_ns()``."""
    position: Position
    snapshot: Snapshot


class History:
    """What a primary's commits make of its data, from what ``connection`` shows now on.

    For ``replicas`` that are behind it by so many commits, or seconds, or (with neither) that stand still; ``others``
    of the cluster are not.
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
        """Begin to tell the router."""
        self._thread.start()

    def advance(self, connection: BaseDatabaseWrapper) -> None:
        """Something was committed on a ``connection`` to the primary."""
        with self._lock:
            now = time.monotonic_ns()
            snapshot = Snapshot(connection)
            position = snapshot.position or _next_position()
            if self._latest_is_spare():
                self._retired.append(self._versions.pop().snapshot)
            self._versions.append(Version(now, position, snapshot))
            self.tell(primary=True)

    def _latest_is_spare(self) -> bool:
        """Whether the replicas need never show the latest version, now that there is another."""
        if self._commits is not None or len(self._versions) < 2:
            return False
        if self._seconds is None:
            return True
        # Each version is a session with the server, and it has only so many.
        return self._versions[-1].made_at - self._versions[-2].made_at < self._seconds / _VERSIONS * 1e9

    @property
    def latest(self) -> Version:
        with self._lock:
            return self._versions[-1]

    def shown(self) -> Version:
        """What the replicas show now."""
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
        """Wait up to so long for the replicas to have ``position``; what they then have, or None."""
        until = time.monotonic() + seconds
        while not (reached := self.shown().position).contains(position):
            if time.monotonic() >= until:
                return None
            time.sleep(_LOOKS_EVERY)
        return reached

    # What the router is told, as the monitor would.

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
            # A test may try settings that cannot be used; they are no concern of this.
            with contextlib.suppress(ImproperlyConfigured):
                _core.observe(answers)

    def _keep_telling(self) -> None:
        while not self._ending.wait(_REPLICAS_EVERY):
            self.tell()

    def close(self) -> None:
        """The replicas have caught up."""
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
    """Answers for a member in place of its engine; in all that is not about positions as the engine does."""

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
