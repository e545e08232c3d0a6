"""The site's process, from outside: what it runs with, its tables and members, its beginning and its end."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).parents[3]
ONE_DATABASE = "tests.benchmarks.contenders.simple.OneDatabaseRouter"
_COMMAND = [sys.executable, "-m", "tests.benchmarks.end_to_end.site"]
#: Longest wait for the process to end, in seconds.
_END = 10


def environment(databases: dict[str, Any], router: str) -> dict[str, str]:
    """For a site with these databases, whose connections stay open, and the router with this dotted path."""
    kept = {alias: {**settings, "CONN_MAX_AGE": None} for alias, settings in databases.items()}
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "example_project")]),
        "DJANGO_SETTINGS_MODULE": "tests.benchmarks.end_to_end.settings",
        "REPLICANT_DEMO_DATABASES": json.dumps(kept),
        "REPLICANT_DEMO_ROUTER": router,
    }


def with_our_engines(databases: dict[str, Any]) -> dict[str, Any]:
    """The same databases, with the engines that have a read outlive its replica."""
    return {
        alias: {**settings, "ENGINE": settings["ENGINE"].replace("django.db", "replicant")}
        for alias, settings in databases.items()
    }


def seed(databases: dict[str, Any], visitors: int) -> None:
    """Make the tables, the demo data and members ``visitor0``, ``visitor1``, ...

    With the primary alone: a naive router would look for new rows on the replicas.
    """
    alone = environment(databases, ONE_DATABASE)
    subprocess.run([*_COMMAND, "seed"], input=str(visitors), text=True, check=True, env=alone)


@contextmanager
def serving(
    environment: dict[str, str], errors: IO[str] | int | None = None
) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """Run the site; its process and its port. ``errors`` is where its log goes, if not to our own standard error."""
    with subprocess.Popen(
        _COMMAND, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise SystemExit("the site did not start")
        try:
            yield process, int(line)
        finally:
            process.stdin.close()
            process.wait(_END)
