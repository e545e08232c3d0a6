"""Shared files whose content is whole and malformed: ignored, and named in the log once."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from replicant._core import Position
from replicant.connections import shared_placement
from replicant.engines import Sample
from replicant.monitor import shared_file
from replicant.monitor.shared_file import Samples
from replicant.monitor.topology import View
from replicant.private_folder import FOLDER_VARIABLE

SAMPLE = Sample("default", "one", True, Position("postgresql", "1:0/16B3748"), 1, 0.25)
PACKED = shared_file._packed(SAMPLE)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    monkeypatch.setattr(shared_placement, "_malformed", set())
    return tmp_path / f"replicant-{os.geteuid()}"


@pytest.fixture
def prober(folder: Path) -> Iterator[Samples]:
    held = Samples("a")
    assert held.elect()
    yield held
    held.close()


def publish(folder: Path, body: Any) -> None:
    """What a process with another idea of the content would write: whole, and of this version."""
    text = json.dumps(body).encode()
    head = shared_file._HEADER.pack(shared_file._MAGIC, shared_file.FORMAT, len(text))
    (file,) = folder.iterdir()
    file.write_bytes(head + hashlib.sha256(head + text).digest() + text)


def body(**changes: Any) -> list[Any]:
    now = time.monotonic_ns()
    parts = {"at": now, "boot": time.time_ns() - now, "decided": True, "found": None, "samples": [PACKED]}
    return list({**parts, **changes}.values())


def with_field(number: int, value: Any) -> list[Any]:
    return [[*PACKED[:number], value, *PACKED[number + 1 :]]]


MALFORMED: dict[str, Any] = {
    "nothing": None,
    "a number": 5,
    "a dictionary": {"at": 1},
    "too short": [1, 2],
    "no time": body(at="now"),
    "no boot": body(boot={}),
    "no list of samples": body(samples=5),
    "samples by name": body(samples={"default": PACKED}),
    "a sample too short": body(samples=[["default"]]),
    "a sample too long": body(samples=[[*PACKED, 1]]),
    "a position of a kind unknown": body(samples=[[*PACKED[:-1], ["abacus", "5"]]]),
    "a position that is none": body(samples=[[*PACKED[:-1], 5]]),
    "an alias that is a list": body(samples=with_field(0, ["default"])),
    "no flag": body(samples=with_field(2, "yes")),
    "no latency": body(samples=with_field(5, "slow")),
    "a view by name": body(found={"replica9": ["host", 1]}),
    "a view with members by number": body(found=[{}, {"5": 1}, [5]]),
    "a place that is none": body(found=[{"replica9": 5}, None, []]),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_samples_are_ignored_and_named_once(
    name: str, prober: Samples, folder: Path, caplog: pytest.LogCaptureFixture
):
    reader = Samples("a")
    try:
        prober.publish([SAMPLE], view=View({}))
        assert reader.read() is not None
        publish(folder, MALFORMED[name])
        with caplog.at_level(logging.WARNING, "replicant"):
            assert [reader.read(), reader.read()] == [None, None]
        assert [record.getMessage().partition(" in ")[0] for record in caplog.records] == [
            "Ignored malformed probe results"
        ]
        # The next probe replaces it.
        prober.publish([SAMPLE])
        published = reader.read()
        assert published is not None
        assert published.samples == [SAMPLE]
    finally:
        reader.abandon()


def test_what_is_damaged_or_from_another_boot_is_no_news(
    prober: Samples, folder: Path, caplog: pytest.LogCaptureFixture
):
    publish(folder, body(boot=0))
    assert prober.read() is None
    (file,) = folder.iterdir()
    file.write_bytes(b"x" * 100)
    assert prober.read() is None
    assert caplog.records == []


RECORD = [3, "a:1", "a:1", {"a:1": "a:1"}, ["a:1"], [], []]


@pytest.mark.parametrize(
    "content",
    [
        None,
        5,
        {"a": 1},
        [5],
        [{}],
        [RECORD[:3]],
        [["x", *RECORD[1:]]],
        [[3, 5, *RECORD[2:]]],
        [[*RECORD[:3], {"a:1": 5}, *RECORD[4:]]],
        [[*RECORD[:3], 5, *RECORD[4:]]],
        [[*RECORD[:4], 5, [], []]],
    ],
)
def test_a_malformed_record_of_placements_is_ignored_and_named_once(
    content: Any, folder: Path, caplog: pytest.LogCaptureFixture
):
    def write(content: Any) -> None:
        text = json.dumps(content)
        (folder / shared_placement._name_of(1)).write_text(hashlib.sha256(text.encode()).hexdigest() + text)
        (folder / shared_placement._name_of(1)).chmod(0o600)

    assert shared_placement.record(["a:1"], "a:1") is None
    write([RECORD])
    found = shared_placement.record(["a:1"], "a:1")
    assert found is not None
    assert found.generation == 3
    write(content)
    with caplog.at_level(logging.WARNING, "replicant"):
        assert [shared_placement.record(["a:1"], "a:1") for _ in range(2)] == [None, None]
    assert len(caplog.records) == 1
    assert "malformed" in caplog.text
