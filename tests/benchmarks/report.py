"""Runs each part and writes what it found: ``target/bench/<part>.txt`` and ``.json``."""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import django

from tests.benchmarks.empty_extension import RESULTS

PACKAGES = (
    "django",
    "django-replicant",
    "django-multidb-router",
    "django-replicated",
    "django-balancer",
    "django-rw-router",
    "mysqlclient",
)


def decisions(*, quick: bool) -> None:
    from tests.benchmarks import criteria, decisions

    results, missing = decisions.measure(launches=1 if quick else 3, rounds=12 if quick else 25)
    judged = criteria.judge(results)
    _write(
        "decisions",
        decisions.text(results, missing) + "\n" + criteria.text(judged),
        {**decisions.plain(results, missing), "criteria": [criterion.plain() for criterion in judged]},
    )


def instructions(*, quick: bool) -> None:
    from tests.benchmarks import instructions

    counted = instructions.count(instructions.QUICK if quick else instructions.STATES)
    _write("instructions", instructions.text(counted), {"instructions": counted})


def core(*, quick: bool) -> None:
    from tests.benchmarks import core, criteria

    measured = core.measure(quick=quick)
    judged = core.judge(measured)
    _write(
        "core",
        core.text(measured) + "\n" + criteria.text(judged),
        {"nanoseconds": measured, "criteria": [criterion.plain() for criterion in judged]},
    )


def capture(*, quick: bool) -> None:
    _set_up_django()
    from tests.benchmarks import capture, criteria

    results = capture.measure(commits=300 if quick else 3000)
    judged = capture.judge(results)
    _write(
        "capture",
        capture.text(results) + "\n" + criteria.text(judged),
        {
            "microseconds": {name: spread.plain() for name, spread in results.items()},
            "criteria": [criterion.plain() for criterion in judged],
        },
    )


def middleware(*, quick: bool) -> None:
    _set_up_django()
    from tests.benchmarks import criteria, middleware
    from tests.benchmarks.criteria import Criterion

    added = middleware.measure_stores(rounds=40 if quick else 400)
    judged = [Criterion(f"microseconds a request, {name}", figure, middleware.LIMIT) for name, figure in added.items()]
    _write(
        "middleware",
        criteria.text(judged),
        {"microseconds": added, "criteria": [criterion.plain() for criterion in judged]},
    )


def guard(*, quick: bool) -> None:
    _set_up_django()
    from tests.benchmarks import criteria, guard
    from tests.benchmarks.criteria import Criterion

    measured = guard.measure(quick=quick)
    judged = [Criterion("nanoseconds that the guard adds on a replica", measured[guard.ON_REPLICA], guard.LIMIT)]
    _write(
        "guard",
        guard.text(measured) + "\n" + criteria.text(judged),
        {"nanoseconds": measured, "criteria": [criterion.plain() for criterion in judged]},
    )


def end_to_end(*, quick: bool) -> None:
    from tests.benchmarks.end_to_end import run

    outcomes = run.measure(requests=600 if quick else 10_000)
    _write("end_to_end", run.text(outcomes), {"sites": [outcome.plain() for outcome in outcomes]})


def dead_replica(*, quick: bool) -> None:
    from tests.benchmarks import criteria, dead_replica
    from tests.benchmarks.criteria import Criterion

    outcome = dead_replica.measure(requests=200 if quick else 3000)
    judged = [Criterion(dead_replica.CRITERION, outcome.ratio.median, dead_replica.LIMIT)]
    _write(
        "dead_replica",
        dead_replica.text(outcome) + "\n" + criteria.text(judged),
        {**outcome.plain(), "criteria": [criterion.plain() for criterion in judged]},
    )


def charts(*, quick: bool) -> None:
    from tests.benchmarks import charts

    for name in charts.draw():
        print(f"target/bench/{name}")


def read(part: str) -> dict[str, Any] | None:
    """What a part has measured, by this run or an earlier one."""
    path = RESULTS / f"{part}.json"
    found: dict[str, Any] | None = json.loads(path.read_text()) if path.is_file() else None
    return found


def _set_up_django() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()


def _write(part: str, text: str, plain: dict[str, Any]) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    run = _environment()
    where = ", ".join(f"{name} {value}" for name, value in run.items())
    (RESULTS / f"{part}.txt").write_text(f"{text}\n{where}\n")
    (RESULTS / f"{part}.json").write_text(json.dumps({"run": run, **plain}, indent=1) + "\n")
    print(f"\n{text}\n{where}\n")


def _environment() -> dict[str, str]:
    found = {"Python": platform.python_version(), "processors": str(os.cpu_count()), "machine": _processor()}
    if hasattr(os, "getloadavg"):
        found["load before the end"] = f"{os.getloadavg()[0]:.1f}"
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else f"{sys.platform} {platform.machine()}"
