"""The five stories, and that they could end otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).parent.parent
ROW = re.compile(r"^  (\S.{23}) +(documentation|passed around|replicant) .* (BADLY|well)( \(!\))?$", re.MULTILINE)
SQLITE = [
    "saved in the app",
    "saved in the browser",
    "buys a set",
    "given to two at once",
    "OAuth: the code",
    "OAuth: the token",
    "cache: set, then incr",
    "pages read",
]
AS_IT_SHOULD_BE = [("documentation", "BADLY"), ("passed around", "BADLY"), ("replicant", "well")]
STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; sys.path.insert(0, '.'); "


def tell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "story.py"), *arguments],
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=120,
    )


def run_without(module: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in the project's folder, as where the module is not installed."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", WITHOUT + code, module],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def endings(told: subprocess.CompletedProcess[str]) -> dict[str, list[tuple[str, str]]]:
    """What each part came to with each router."""
    found: dict[str, list[tuple[str, str]]] = {}
    for part, place, verdict, _ in ROW.findall(told.stdout):
        found.setdefault(part.strip(), []).append((place, verdict))
    return found


def test_every_story_ends_badly_with_the_naive_routers_and_well_with_replicant() -> None:
    told = tell(**STRICT)
    assert (told.returncode, told.stderr) == (0, ""), told
    assert endings(told) == dict.fromkeys(SQLITE, AS_IT_SHOULD_BE)
    assert "(!)" not in told.stdout
    assert not list((PROJECT / "run").glob("story-*"))


def test_on_a_server_a_lock_on_a_replica_excludes_nobody_and_the_other_is_refused() -> None:
    # Without the last story, which is the same on every engine.
    parts = ["api", "browser", "payment", "coin", "row_lock", "code", "token", "cache"]
    told = tell("--db", "mariadb", "-v", *(f"--only={part}" for part in parts))
    assert (told.returncode, told.stderr) == (0, ""), told
    assert endings(told) == dict.fromkeys([*SQLITE[:-1], "raw FOR UPDATE"], AS_IT_SHOULD_BE)
    assert told.stdout.count("the lock let both in at once") == 2
    assert len(re.findall(r"replica1 +- +SELECT 1 AS id, GET_LOCK", told.stdout)) >= 1
    assert re.search(r"default +use_primary +SELECT 1 AS id, GET_LOCK", told.stdout)
    assert re.search(r"default +transaction +SELECT \* FROM shop_wallet WHERE user_id = %s FOR UPDATE", told.stdout)
    assert re.search(r"replica[12] +- +SELECT \* FROM shop_wallet WHERE user_id = %s FOR UPDATE", told.stdout)


@pytest.mark.parametrize(
    ("place", "router", "verdict"),
    [
        ("replicant", "naive_routers.DocumentedRouter", "BADLY"),
        ("documentation", "replicant.ReplicaRouter", "well"),
    ],
)
def test_a_story_that_does_not_end_as_it_should_fails(place: str, router: str, verdict: str) -> None:
    told = tell("--only", "payment", "--replace", f"{place}={router}")
    assert (told.returncode, told.stderr) == (1, ""), told
    assert re.search(rf"{place} .* {verdict} \(!\)$", told.stdout, re.MULTILINE)
    assert told.stdout.count(" (!)\n") == 1
    assert told.stdout.endswith("1 ending is not as it should be: see the mark (!).\n")


def test_what_is_missing_is_said_in_a_line() -> None:
    told = run_without("oauth2_provider", "import story; story.main(['--db', 'sqlite'])")
    assert told.returncode == 1
    assert told.stderr == ("The stories need django-oauth-toolkit: python -m pip install django-oauth-toolkit\n")
    told = run_without("MySQLdb", "import story; story.main(['--db', 'mariadb'])")
    assert told.returncode == 1
    assert told.stderr == "Django needs mysqlclient to talk to mariadb: install it, or try --db sqlite.\n"


def test_the_site_does_without_what_only_the_stories_need(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REPLICANT_DEMO_FOLDER", str(tmp_path))
    check = "import sys, manage; sys.argv[1:] = ['check', '--fail-level', 'WARNING']; manage.main()"
    done = run_without("rest_framework", check)
    assert (done.returncode, done.stderr) == (0, ""), done
