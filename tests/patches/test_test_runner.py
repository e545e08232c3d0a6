"""Tests of the package's users run unchanged: Django's test cases and pytest-django, in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from tests.databases import sqlite
from tests.servers import Cluster

pytestmark = pytest.mark.slow

REPOSITORY = Path(__file__).parents[2]
SECONDS = 120


def run(databases: dict[str, Any], *arguments: str) -> str:
    environment = {
        # Those of pytest are about the run around this one.
        **{name: value for name, value in os.environ.items() if not name.startswith("PYTEST")},
        "DJANGO_SETTINGS_MODULE": "tests.mirrors.settings",
        "PYTHONPATH": str(REPOSITORY),
        "REPLICANT_TEST_DATABASES": json.dumps(databases),
    }
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", *arguments],
        cwd=REPOSITORY,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def run_django(databases: dict[str, Any], *arguments: str) -> None:
    output = run(databases, "django", "test", "--noinput", *arguments, "tests.mirrors.cases")
    ran = re.search(r"^Ran (\d+) tests", output, re.MULTILINE)
    assert ran is not None, output
    assert int(ran[1]) >= 26, output


def with_our_engines(databases: dict[str, Any]) -> dict[str, Any]:
    return {
        alias: {**settings, "ENGINE": settings["ENGINE"].replace("django.db", "replicant")}
        for alias, settings in databases.items()
    }


def on_files(folder: Path) -> dict[str, Any]:
    """The replicas stand before the primary, and all have our own engine."""
    databases = with_our_engines(sqlite(folder, "replica1", "replica2", "default"))
    databases["default"]["TEST"] = {"NAME": str(folder / "test.sqlite3")}
    # A mirror of a mirror.
    databases["replica2"]["TEST"] = {"MIRROR": "replica1"}
    return databases


def test_test_cases_on_sqlite_in_memory(tmp_path: Path):
    run_django(sqlite(tmp_path, "default", "replica1", "replica2"), "tests.mirrors.serialized")


def test_test_cases_in_parallel(tmp_path: Path):
    run_django(on_files(tmp_path), "--parallel", "2")


def test_test_cases_on_servers(servers: Cluster):
    run_django(dict(connections.settings), "tests.mirrors.serialized")
    if servers.engine == "postgresql":
        # Elsewhere Django clones databases with programs that the servers' packages may lack.
        run_django(with_our_engines(connections.settings), "--parallel", "2")


PYTEST = ("pytest", "-c", "tests/mirrors/pytest.ini", "--noconftest", "-v")


def test_functions_of_pytest_django_one_after_the_other(tmp_path: Path):
    # Without the live server, which closes the connection: what a test leaves on it is the next one's to bear.
    output = run(on_files(tmp_path), *PYTEST, "tests/mirrors/functions.py", "-k", "not live_server")
    assert "6 passed" in output, output


def test_functions_of_pytest_django_on_workers_of_xdist(tmp_path: Path):
    output = run(on_files(tmp_path), *PYTEST, "-n", "2", "tests/mirrors/functions.py", "tests/mirrors/cases.py")
    assert int(re.search(r"(\d+) passed", output)[1]) >= 32, output
