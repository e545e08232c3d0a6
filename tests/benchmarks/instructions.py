"""Instructions for each ``db_for_read``, counted by callgrind.

Unlike times they repeat to a hundredth, whatever else the machine does, so that they can be a gate. A process under
valgrind runs a loop with N calls and with 2N; their difference, less that of the empty loop, is what N calls take.

Only the main thread's instructions count. The monitor and its probes, which the first read starts, run at the same
time: how much of them falls into a loop depends on how busy the machine is.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tests.benchmarks.contenders import CONSTANT, EMPTY, OURS, REPLICANT, Contender, by_name
from tests.benchmarks.empty_extension import build, environment
from tests.benchmarks.summary import table

CALLS = 2_000
QUICK = [by_name(REPLICANT)]
STATES = OURS
#: The number that callgrind gives to the main thread.
_MAIN = 1
_TOTALS = re.compile(r"^(?:summary|totals): (\d+)", re.MULTILINE)


class CannotCount(RuntimeError):
    """Something that counting needs is missing; the message says what to install."""


def count(contenders: Sequence[Contender]) -> dict[str, dict[str, float]]:
    """Instructions for each call, by contender and by kind (``direct``, ``through``).

    The empty PyO3 method and the constant router are counted in the same process as each contender.
    """
    if shutil.which("valgrind") is None:
        raise CannotCount("valgrind is missing: install it with apt-get install valgrind")
    build()
    with ThreadPoolExecutor(2) as pool:
        counted = list(pool.map(_count_one, contenders))
    return {contender.name: result for contender, result in zip(contenders, counted, strict=True)}


def _count_one(contender: Contender) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        run = subprocess.run(
            [
                "valgrind",
                "--tool=callgrind",
                f"--callgrind-out-file={folder}/out",
                "--separate-threads=yes",
                "--dump-line=no",
                # Setting Django up is only emulated; the loops are counted.
                "--instr-atstart=no",
                sys.executable,
                "-m",
                "tests.benchmarks.counted",
                contender.name,
            ],
            env=environment(),
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise CannotCount(f"{contender.name} could not be counted:\n{run.stderr}")
        labels = json.loads(run.stdout)
        totals = [_total(Path(folder) / f"out.{number}-{_MAIN:02}") for number in range(1, len(labels) + 1)]
    return _per_call(dict(zip(labels, totals, strict=True)))


def _total(path: Path) -> int:
    found = _TOTALS.search(path.read_text())
    if found is None:
        raise CannotCount("callgrind wrote no totals")
    return int(found[1])


def _per_call(totals: dict[str, int]) -> dict[str, float]:
    """``totals`` has, of each loop, the instructions of N and of 2N calls."""
    names = dict.fromkeys(label.rpartition(" ")[0] for label in totals)
    more = {name: totals[f"{name} 2"] - totals[f"{name} 1"] for name in names}
    nothing = more.pop("nothing")
    return {name: (instructions - nothing) / CALLS for name, instructions in more.items()}


def text(counted: dict[str, dict[str, float]]) -> str:
    head = ["instructions for each db_for_read", "direct", "times empty", "through Django", "times constant"]
    first = next(iter(counted.values()))
    rows: list[list[Any]] = [
        [EMPTY, f"{first['empty direct']:.0f}", "1", f"{first['empty through']:.0f}", ""],
        [CONSTANT, f"{first['constant direct']:.0f}", "", f"{first['constant through']:.0f}", "1"],
    ]
    for name, of in counted.items():
        empty, constant = of["direct"] / of["empty direct"], of["through"] / of["constant through"]
        rows.append([name, f"{of['direct']:.0f}", f"{empty:.2f}", f"{of['through']:.0f}", f"{constant:.2f}"])
    return table(head, rows) + "\n"
