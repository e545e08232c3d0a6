"""One suite, without us or with us, in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

from tests.foreign.environment import FOLDER, PYTHON, source
from tests.foreign.suites import Suite
from tests.servers import start

INSIDE = Path(__file__).with_name("inside")


@dataclass(frozen=True)
class Run:
    """What became of a suite."""

    database: str
    #: The day it ended, as ISO 8601 has it.
    day: str
    tests: int
    skipped: int
    #: The text of each failure, by the name of its test.
    failed: dict[str, str]
    #: How many reads the router sent to which role, by reason.
    reads: dict[str, dict[str, int]]
    seconds: float

    @property
    def passed(self) -> int:
        return self.tests - self.skipped - len(self.failed)

    @property
    def share(self) -> float | None:
        """Of the reads, those that a replica was to answer (0 to 1)."""
        reads = {role: sum(by_reason.values()) for role, by_reason in self.reads.items()}
        total = sum(reads.values())
        return reads.get("replica", 0) / total if total else None


def _kept(suite: Suite, with_us: bool) -> Path:
    return FOLDER / "results" / f"{suite.key}-{'with' if with_us else 'without'}.json"


def last(suite: Suite, with_us: bool) -> Run | None:
    """The last run that ended, if there was one."""
    kept = _kept(suite, with_us)
    return Run(**json.loads(kept.read_text())) if kept.exists() else None


@contextlib.contextmanager
def _databases(suite: Suite, with_us: bool) -> Iterator[tuple[str, dict[str, Any]]]:
    """Version of the server and DATABASES, where the suite does not bring its own."""
    if not suite.databases:
        import sqlite3

        yield f"SQLite {sqlite3.sqlite_version}", {}
        return
    with start(suite.database.lower(), replicas=1) as cluster:
        databases = {}
        for alias, name in suite.databases.items():
            cluster.create_database(name)
            # As Django's documentation asks of the databases of its own suite.
            test = {"CHARSET": "utf8mb4"} if suite.database == "MySQL" else {}
            databases[alias] = {**cluster.databases(name)["default"], "TEST": test}
        if with_us:
            databases["replica1"] = cluster.databases(suite.databases["default"])["replica1"]
        yield f"{suite.database} {cluster.version}", databases


def run(suite: Suite, with_us: bool, tests: list[str]) -> Run:
    """Run a suite and keep what became of it; ``tests``, if any, are run instead of all of it."""
    results = FOLDER / "results" / f"{suite.key}-{'with' if with_us else 'without'}"
    shutil.rmtree(results, ignore_errors=True)
    results.mkdir(parents=True)
    folder = source(suite, results)
    with _databases(suite, with_us) as (database, databases):
        environment = {
            **os.environ,
            **suite.environment,
            "FOREIGN_RESULTS": str(results),
            "FOREIGN_WITH_US": "1" if with_us else "0",
            "PYTHONPATH": os.pathsep.join([str(INSIDE), str(folder)]),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        for unwanted in ("VIRTUAL_ENV", "DJANGO_SETTINGS_MODULE"):
            environment.pop(unwanted, None)
        if databases:
            environment["FOREIGN_DATABASES"] = json.dumps(databases)
        if suite.settings:
            environment |= {"FOREIGN_SETTINGS": suite.settings, "DJANGO_SETTINGS_MODULE": "foreign_settings"}
        if suite.runner == "pytest":
            command = ["-m", "pytest", "-p", "foreign_pytest", "-p", "no:cacheprovider", "-q"]
        else:
            command = [str(INSIDE / "foreign_launch.py")]
        started = time.monotonic()
        with (results / "output.txt").open("w") as output:
            arguments = [str(PYTHON), *command, *suite.arguments, *(tests or suite.tests)]
            subprocess.run(arguments, cwd=folder, env=environment, stdout=output, stderr=subprocess.STDOUT, check=False)
        seconds = time.monotonic() - started
    outcome = results / "outcome.json"
    if not outcome.exists():
        raise RuntimeError(f"{suite.key} did not get to its end: see {results / 'output.txt'}")
    day = date.today().isoformat()
    counts = json.loads(outcome.read_text())
    ended = Run(database=database, day=day, **counts, reads=_reads(results), seconds=seconds)
    if not tests:
        _kept(suite, with_us).write_text(json.dumps(asdict(ended), indent=1))
    return ended


def _reads(results: Path) -> dict[str, dict[str, int]]:
    """What the routers of all the processes of a run answered."""
    total: dict[str, Counter[str]] = {}
    for counted in results.glob("reads-*.json"):
        for role, by_reason in json.loads(counted.read_text()).items():
            total.setdefault(role, Counter()).update(by_reason)
    return {role: dict(by_reason) for role, by_reason in total.items()}
