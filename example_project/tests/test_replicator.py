"""The stand-in for replication: late, whole, and in nobody's way."""

from __future__ import annotations

import json
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
def replicator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    monkeypatch.syspath_prepend(str(PROJECT))
    from replicator import Copy, Replicator

    with closing(connect(tmp_path / "primary")) as primary:
        primary.execute("PRAGMA journal_mode=WAL").fetchall()
        primary.execute("CREATE TABLE t (n INTEGER)")
        primary.execute("INSERT INTO t VALUES (0)")
    replicator = Replicator(tmp_path / "primary", [Copy("copy", tmp_path / "copy", LAG)], tmp_path / "lag.json")
    replicator.start()
    yield replicator
    replicator.stop()
    sys.modules.pop("replicator")


@pytest.fixture
def files(replicator: Any, tmp_path: Path) -> Iterator[Any]:
    """(connection to the primary, connection to its copy, the report)"""
    with closing(connect(tmp_path / "primary")) as primary, closing(connect(tmp_path / "copy")) as copy:
        yield primary, copy, tmp_path / "lag.json"


def test_a_copy_begins_equal_and_follows_after_the_lag(files: Any, wait_until: Callable[..., None]) -> None:
    primary, copy, _ = files
    assert value(copy) == 0
    primary.execute("UPDATE t SET n = 1")
    written = time.time()
    wait_until(lambda: value(copy) == 1, 5, "the copy has the change")
    assert time.time() - written >= LAG


def test_a_copy_goes_through_the_states_in_order(files: Any, wait_until: Callable[..., None]) -> None:
    primary, copy, _ = files
    seen = [value(copy)]
    for number in range(1, 6):
        primary.execute("UPDATE t SET n = ?", [number])
        end = time.monotonic() + 0.12
        while time.monotonic() < end:
            seen.append(value(copy))
            time.sleep(0.01)
    wait_until(lambda: seen.append(value(copy)) or seen[-1] == 5, 5, "the copy has the last change")
    assert seen == sorted(seen)
    # Late is not the same as seldom: there was something to see between the first state and the last.
    assert len(set(seen)) > 2


def test_an_open_transaction_keeps_its_state_and_holds_nobody_up(files: Any, wait_until: Callable[..., None]) -> None:
    primary, copy, report = files
    copy.execute("BEGIN")
    assert value(copy) == 0
    primary.execute("UPDATE t SET n = 1")
    written = time.time()
    wait_until(lambda: json.loads(report.read_text())["copy"]["state_at"] > written + 0.1, 5, "it was applied")
    assert value(copy) == 0
    copy.execute("COMMIT")
    assert value(copy) == 1


def test_a_paused_copy_stands_still_until_resumed(files: Any, replicator: Any, wait_until: Callable[..., None]) -> None:
    primary, copy, report = files
    replicator.pause()
    primary.execute("UPDATE t SET n = 1")
    due = time.time() + LAG
    # The report is written again after every look at the copies.
    wait_until(lambda: report.stat().st_mtime > due + 0.1, 5, "the copy would be due")
    assert value(copy) == 0
    assert json.loads(report.read_text())["copy"]["state_at"] < due - LAG
    replicator.resume()
    wait_until(lambda: value(copy) == 1, 5, "the copy has the change")


def test_the_report_says_what_time_the_copy_shows(files: Any, wait_until: Callable[..., None]) -> None:
    _, _, report = files

    def behind() -> float:
        return time.time() - json.loads(report.read_text())["copy"]["state_at"]

    wait_until(lambda: behind() > LAG, 5, "the copy is behind")
    # A tick late at most, and as much again for a busy machine.
    assert behind() < LAG + 0.3
