"""The five stories, and that they could end otherwise."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parent.parent
#: A part, a place, and a verdict for each delay.
ROW = re.compile(
    r"^  (\S.{21}) (documentation|passed around|replicant) +((?:(?:BADLY|well|\(well\))(?: \(!\))? +)+)", re.MULTILINE
)
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
#: Longer than from one request to the next.
LONG = "0.5,5"
AS_IT_SHOULD_BE = [
    ("documentation", ["BADLY", "BADLY"]),
    ("passed around", ["BADLY", "BADLY"]),
    ("replicant", ["well", "well"]),
]
STRICT = {"PYTHONDEVMODE": "1", "PYTHONWARNINGS": "error"}
WITHOUT = "import sys; sys.modules[sys.argv[1]] = None; sys.path.insert(0, '.'); "


def tell(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(PROJECT / "story.py"), *arguments],
        env={**os.environ, **environment},
        cwd="/",
        capture_output=True,
        text=True,
        timeout=300,
    )


def run_without(module: str, code: str) -> subprocess.CompletedProcess[str]:
    """Run the code in the project's folder, as where the module is not installed."""
    return subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", WITHOUT + code, module],
        cwd=PROJECT,
        capture_output=True,
        text=True,
    )


def endings(told: subprocess.CompletedProcess[str]) -> dict[str, list[tuple[str, list[str]]]]:
    """What each part came to with each router, at each delay."""
    found: dict[str, list[tuple[str, list[str]]]] = {}
    for part, place, verdicts in ROW.findall(told.stdout):
        found.setdefault(part.strip(), []).append((place, re.findall(r"\(?\w+\)?(?: \(!\))?", verdicts)))
    return found


def test_every_story_ends_badly_with_the_naive_routers_and_well_with_replicant() -> None:
    told = tell("--delay", LONG, **STRICT)
    assert (told.returncode, told.stderr) == (0, ""), told
    assert endings(told) == dict.fromkeys(SQLITE, AS_IT_SHOULD_BE)
    assert not list((PROJECT / "run").glob("story-*"))


# A shorter delay is the same to each of them.
@pytest.mark.servers
@pytest.mark.parametrize(("engine", "delays"), [("mysql", "50ms,500ms"), ("mariadb", "500ms"), ("postgresql", "500ms")])
def test_on_servers_they_do_so_at_half_a_second_and_end_well_with_replicant_before_that_too(
    engine: str, delays: str
) -> None:
    # Without the last story, which is the same on every engine and at every delay.
    parts = ["api", "browser", "payment", "coin", "row_lock", "code", "token", "cache"]
    told = tell("--db", engine, "--delay", delays, "-v", *(f"--only={part}" for part in parts))
    assert (told.returncode, told.stderr) == (0, ""), told
    assert "(!)" not in told.stdout
    assert list(endings(told)) == [*SQLITE[:4], "raw FOR UPDATE", *SQLITE[4:-1]]
    for part, ended in endings(told).items():
        at_half_a_second = [(place, verdicts[-1:]) for place, verdicts in ended]
        assert at_half_a_second == [(place, verdicts[1:]) for place, verdicts in AS_IT_SHOULD_BE], part
        assert ended[2] == ("replicant", ["well"] * len(delays.split(","))), part
    # A lock on a replica excludes nobody, and the other is refused.
    assert told.stdout.count("the lock let both in at once") >= 2 * len(delays.split(","))
    lock = "pg_advisory_lock" if engine == "postgresql" else "GET_LOCK"
    assert re.search(rf"replica1 +- +SELECT 1 AS id, .*{lock}", told.stdout)
    assert re.search(rf"default +use_primary +SELECT 1 AS id, .*{lock}", told.stdout)
    assert re.search(r"default +transaction +SELECT \* FROM shop_wallet WHERE user_id = %s FOR UPDATE", told.stdout)
    assert re.search(r"replica[12] +- +SELECT \* FROM shop_wallet WHERE user_id = %s FOR UPDATE", told.stdout)


def test_where_replicas_are_not_behind_a_naive_router_may_look_fine() -> None:
    told = tell("--db", "mariadb", "--delay", "0", "--only", "token")
    assert (told.returncode, told.stderr) == (0, ""), told
    [ended] = endings(told).values()
    assert ended[2] == ("replicant", ["well"])
    if ("documentation", ["(well)"]) in ended or ("passed around", ["(well)"]) in ended:
        assert "There the story proves nothing." in told.stdout


@pytest.mark.parametrize("delay", ["x", "-1", "1,", "5m", "60"])
def test_a_delay_that_is_none_is_said_to_be_none(delay: str) -> None:
    told = tell(f"--delay={delay}")
    assert told.returncode == 2
    assert f"argument --delay: invalid seconds value: '{delay}'" in told.stderr


@pytest.mark.parametrize(
    ("place", "router", "verdict"),
    [
        ("replicant", "naive_routers.DocumentedRouter", "BADLY"),
        ("documentation", "replicant.ReplicaRouter", "well"),
    ],
)
def test_a_story_that_does_not_end_as_it_should_fails(place: str, router: str, verdict: str) -> None:
    told = tell("--only", "payment", "--delay", "500ms", "--replace", f"{place}={router}")
    assert (told.returncode, told.stderr) == (1, ""), told
    assert (place, [f"{verdict} (!)"]) in endings(told)["buys a set"]
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
