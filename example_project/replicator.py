"""SQLite has no replication. This keeps copies of a file behind it, as real replicas are behind their primary.

A copy shows, at any time, the primary's state of ``lag`` seconds ago: a snapshot is taken as soon as something was
committed, held in memory, and applied when it is due.

Both ends are SQLite's online backup, in one step. At the primary it reads within one transaction. At the copy it is
one write transaction in write-ahead-log mode: readers go on with the state they have and see the new one with their
next statement, never a part of it, and nobody waits for a lock. Replacing the file instead would leave open
connections on the old one; copying in several steps would lock readers out between them.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections import deque
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

#: How often to look for commits and for what is due, in seconds: what a copy is behind with no lag at all.
TICK = 0.02


@dataclass
class Copy:
    """A file to keep behind the primary."""

    alias: str
    path: Path
    #: How far behind, in seconds. May be changed at any time; what is pending is due by what it is then.
    lag: float
    #: What is to be applied, oldest first: when it was true, and the snapshot, or None where nothing had changed.
    pending: deque[tuple[float, Snapshot | None]] = field(default_factory=deque)
    #: The time whose state the file shows.
    state_at: float = 0.0

    @property
    def behind(self) -> float:
        """The age of the state that the file shows, in seconds."""
        return time.time() - self.state_at


class Snapshot:
    """The primary's state at a moment, in memory, shared by the copies that still wait for it."""

    def __init__(self, primary: sqlite3.Connection, users: int) -> None:
        self._memory = _connect(":memory:")
        self._users = users
        primary.backup(self._memory)

    def apply(self, target: sqlite3.Connection) -> None:
        self._memory.backup(target)
        # The log would only ever grow: a backup does not set off SQLite's automatic checkpoint.
        target.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchall()

    def release(self) -> None:
        self._users -= 1
        if not self._users:
            self._memory.close()


class Replicator:
    """Copies in a thread of its own, from ``start()`` to ``stop()``."""

    def __init__(self, primary: Path, copies: Iterable[Copy]) -> None:
        self._primary_path = primary
        self._copies = list(copies)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="replicator")
        self._primary: sqlite3.Connection
        self._targets: dict[str, sqlite3.Connection] = {}
        self._version = 0

    def start(self) -> None:
        """Make the copies equal to the primary, then keep them behind it."""
        self._primary = _connect(self._primary_path)
        self._version = self._data_version()
        taken = time.time()
        with closing(_connect(":memory:")) as base:
            self._primary.backup(base)
            for copy in self._copies:
                # Open until the end: the last to close a file would take its log away under whoever opens it.
                target = self._targets[copy.alias] = _connect(copy.path)
                target.execute("PRAGMA journal_mode=WAL").fetchall()
                target.execute("PRAGMA synchronous=OFF")
                base.backup(target)
                copy.state_at = taken
        self._thread.start()

    def stop(self) -> None:
        """End the thread and close every file."""
        self._stopping.set()
        if self._thread.ident is not None:
            self._thread.join()
        for connection in (self._primary, *self._targets.values()):
            connection.close()
        for copy in self._copies:
            for _, snapshot in copy.pending:
                if snapshot is not None:
                    snapshot.release()
            copy.pending.clear()

    def _run(self) -> None:
        while not self._stopping.wait(TICK):
            self._take()
            for copy in self._copies:
                self._apply(copy)

    def _take(self) -> None:
        """Note the primary's state of now."""
        snapshot = None
        version = self._data_version()
        if version != self._version:
            snapshot = Snapshot(self._primary, len(self._copies))
            # Read before the backup: what is committed in between is in this snapshot, and again in the next.
            self._version = version
        # Taken after the backup: it holds nothing younger than this, so that no copy is ever too fresh.
        taken = time.time()
        for copy in self._copies:
            copy.pending.append((taken, snapshot))

    def _apply(self, copy: Copy) -> None:
        """Bring a copy to the last state that is due; those it skips would be seen by nobody."""
        due = time.time() - copy.lag
        state_at, newest = copy.state_at, None
        while copy.pending and copy.pending[0][0] <= due:
            state_at, snapshot = copy.pending.popleft()
            if snapshot is not None:
                if newest is not None:
                    newest.release()
                newest = snapshot
        if newest is not None:
            newest.apply(self._targets[copy.alias])
            newest.release()
        copy.state_at = state_at

    def _data_version(self) -> int:
        """A number that changes when another connection has committed."""
        version: int = self._primary.execute("PRAGMA data_version").fetchone()[0]
        return version


def _connect(path: Path | str) -> sqlite3.Connection:
    # Opened by the thread that calls start(), used by the replicator's alone from then on.
    return sqlite3.connect(path, timeout=20, isolation_level=None, check_same_thread=False)
