"""The Rust core alone: runs ``core.rs`` with criterion and reads what it found."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from tests.benchmarks.criteria import Criterion
from tests.benchmarks.empty_extension import TARGET, find_cargo
from tests.benchmarks.summary import table

_TURNS = 6
Measured = dict[str, dict[str, dict[str, float]]]


def measure(*, quick: bool) -> Measured:
    """Nanoseconds by group and parameter: ``median``, ``low`` and ``high`` (its 95 % interval), ``best`` sample."""
    seconds = ["--warm-up-time", "0.3", "--measurement-time", "1"] if quick else ["--measurement-time", "4"]
    measured = _run(seconds)
    # A shared machine has slow phases of several seconds, in which a single thread takes half as long again. One thread
    # and two are compared by their best in turns, so that both meet a fast one.
    for _ in range(_TURNS):
        for group, of in _run(["--warm-up-time", "0.2", "--measurement-time", "0.5", "^threads"]).items():
            for parameter, turn in of.items():
                found = measured[group][parameter]
                found["best"] = min(found["best"], turn["best"])
    return measured


def _run(arguments: list[str]) -> Measured:
    cargo = [find_cargo(), "bench", "--quiet", "--locked", "--no-default-features", "--bench", "core"]
    results = Path(os.environ.get("CARGO_TARGET_DIR", TARGET)) / "criterion"
    # What an earlier run found would be read as this one's.
    shutil.rmtree(results, ignore_errors=True)
    subprocess.run([*cargo, "--", "--noplot", *arguments], cwd=TARGET.parent, check=True)
    measured: Measured = {}
    for path in sorted(results.glob("*/*/new/estimates.json")):
        group, parameter = path.parts[-4:-2]
        median = json.loads(path.read_text())["median"]
        interval = median["confidence_interval"]
        measured.setdefault(group, {})[parameter] = {
            "median": median["point_estimate"],
            "low": interval["lower_bound"],
            "high": interval["upper_bound"],
            "best": _best(json.loads(path.with_name("sample.json").read_text())),
        }
    return measured


def judge(measured: Measured) -> list[Criterion]:
    """That two threads do not get in each other's way: twice the decisions, in a time as short."""
    return [
        Criterion(f"core, {text}: decisions a second, times one thread", _gain(measured[group]), 1.8, most=False)
        for group, text in (("threads", "two threads"), ("threads_swapping", "two threads, snapshot swapped"))
        if group in measured
    ]


def _best(sample: dict[str, list[float]]) -> float:
    return min(time / count for time, count in zip(sample["times"], sample["iters"], strict=True))


def _gain(group: dict[str, dict[str, float]]) -> float:
    """By the best sample of each: two threads are undisturbed only while nobody else uses either processor."""
    return 2 * group["1"]["best"] / group["2"]["best"]


def text(measured: Measured) -> str:
    titles = {
        "random": "random, {} replicas",
        "round_robin": "round robin, {} replicas",
        "threads": "15 replicas, {} thread(s) deciding at once",
        "threads_swapping": "the same, {} thread(s), snapshot swapped 1000 times a second",
    }
    rows = [
        [title.format(parameter), f"{of['median']:.1f}", f"{of['low']:.1f} to {of['high']:.1f}", f"{of['best']:.1f}"]
        for group, title in titles.items()
        for parameter, of in sorted(measured.get(group, {}).items(), key=lambda item: int(item[0]))
    ]
    return table(["the core alone: ns for each decision of a thread", "median", "95 %", "best"], rows) + "\n"
