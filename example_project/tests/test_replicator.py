"""The stand-in for replication: late, whole, and in nobody's way."""

from __future__ import annotations

import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).parent.parent
LAG = 0.3


def connect(path: Path) -> sqlite3.Connection:
    # Whoever would have to wait for a lock fails at once.
    return sqlite3.connect(path, timeout=0, isolation_level=None)


def value(connection: sqlite3.Connection) -> int:
    number: int = connection.execute("SELECT n FROM t").fetchone()[0]
    return number


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What the replicator knows of the copy."""
    monkeypatch.syspath_prepend(str(PROJECT))
    from replicator import Copy, Replicator

    with closing(connect(tmp_path / "primary")) as primary:
        primary.execute("PRAGMA journal_mode=WAL").fetchall()
        primary.execute("CREATE TABLE t (n INTEGER)")
        primary.execute("INSERT INTO t VALUES (0)")
    copy = Copy("copy", tmp_path / "copy", LAG)
    replicator = Replicator(tmp_path / "primary", [copy])
    replicator.start()
    yield copy
    replicator.stop()
    sys.modules.pop("replicator")


@pytest.fixture
def files(copy: Any, tmp_path: Path) -> Iterator[Any]:
    """(connection to the primary, connection to its copy)"""
    with closing(connect(tmp_path / "primary")) as primary, closing(connect(tmp_path / "copy")) as replica:
        yield primary, replica


def test_a_copy_begins_equal_and_follows_after_the_lag(files: Any, wait_until: Callable[..., None]) -> None:
    primary, replica = files
    assert value(replica) == 0
    primary.execute("UPDATE t SET n = 1")
    written = time.time()
    wait_until(lambda: value(replica) == 1, 5, "the copy has the change")
    assert time.time() - written >= LAG


def test_a_copy_goes_through_the_states_in_order(files: Any, wait_until: Callable[..., None]) -> None:
    primary, replica = files
    seen = [value(replica)]
    for number in range(1, 6):
        primary.execute("UPDATE t SET n = ?", [number])
        end = time.monotonic() + 0.12
        while time.monotonic() < end:
            seen.append(value(replica))
            time.sleep(0.01)
    wait_until(lambda: seen.append(value(replica)) or seen[-1] == 5, 5, "the copy has the last change")
    assert seen == sorted(seen)
    # Late is not the same as seldom: there was something to see between the first state and the last.
    assert len(set(seen)) > 2


def test_an_open_transaction_keeps_its_state_and_holds_nobody_up(
    files: Any, copy: Any, wait_until: Callable[..., None]
) -> None:
    primary, replica = files
    replica.execute("BEGIN")
    assert value(replica) == 0
    primary.execute("UPDATE t SET n = 1")
    written = time.time()
    wait_until(lambda: copy.state_at > written + 0.1, 5, "it was applied")
    assert value(replica) == 0
    replica.execute("COMMIT")
    assert value(replica) == 1


def test_a_lag_may_be_changed_at_any_time(files: Any, copy: Any, wait_until: Callable[..., None]) -> None:
    primary, replica = files
    copy.lag = 60.0
    primary.execute("UPDATE t SET n = 1")
    wait_until(lambda: copy.behind > 2 * LAG, 5, "it would have been applied")
    assert value(replica) == 0
    copy.lag = 0.0
    wait_until(lambda: value(replica) == 1, 5, "what was pending is due")
    wait_until(lambda: copy.behind < LAG, 5, "the copy has caught up")


def test_a_copy_is_as_far_behind_as_it_says(files: Any, copy: Any, wait_until: Callable[..., None]) -> None:
    wait_until(lambda: copy.behind > LAG, 5, "the copy is behind")
    # A tick late at most, and more for a busy machine.
    assert copy.behind < LAG + 0.3
