"""The table of all suites: a run refreshes the lines of its own suite and leaves the others'."""

from __future__ import annotations

import re
from pathlib import Path

from tests.foreign.explained import cause
from tests.foreign.run import Run
from tests.foreign.suites import CORE, SUITES, WAGTAIL, Suite

TABLE = Path(__file__).parents[2] / "docs" / "foreign-suites.md"
#: Below this share of reads answered by a replica a run proves nothing.
LEAST_SHARE = 0.30

_HEAD = f"""\
# Other people's test suites

Each suite is run as its authors publish it, and again with a mirrored replica and `replicant.ReplicaRouter`: every test
that may use `default` may use its replica too, nothing is exempt. A test that counts the queries of `default` counts
those of its replica with them. Where a replica was to answer less than 30 % of the reads, the run proves nothing and is
invalid. Passed and failed are given without / with us.

`make test-foreign` makes the table; with a suite's name (`ARGS=wagtail-sqlite`) it refreshes that suite's lines alone.

- `django-core` is what of Django's own suite is most about databases (`django-sqlite`, `django-mysql`: all of it):
  {", ".join(CORE.split())}.
- Of wagtail's 7,000 tests those are run that are most about databases, its models and its admin where it changes pages:
  {", ".join(WAGTAIL.split())}.
- django-oauth-toolkit's source distribution has the tests without the settings, models and fixtures that they need:
  those are ours, and what fails without us compares keys that are its authors'.

| suite | database | run on | tests | skipped | passed | failed | reads *replica* | new failures |
|---|---|---|---|---|---|---|---|---|
"""
_CAUSES = "\n## What fails only with us, and why\n\n"
#: A row, or one of the causes: name of the suite and of the database.
_LINE = re.compile(r"(?:\| (\S+) \S+ \| (\S+) |- (\S+), (\S+): )")


def new_failures(without: Run, with_us: Run) -> list[str]:
    """The tests that fail with us only."""
    return sorted(set(with_us.failed) - set(without.failed))


def unexplained(suite: Suite, without: Run, with_us: Run) -> list[str]:
    """The new failures that nobody has found the cause of."""
    return [test for test in new_failures(without, with_us) if cause(suite.name, test) is None]


def _lines(suite: Suite, without: Run, with_us: Run) -> list[str]:
    """A suite's row, then the causes of what fails with us only."""
    share = with_us.share or 0.0
    new = new_failures(without, with_us)
    cells = [
        f"{suite.name} {suite.version}",
        with_us.database,
        with_us.day,
        with_us.tests,
        with_us.skipped,
        f"{without.passed} / {with_us.passed}",
        f"{len(without.failed)} / {len(with_us.failed)}",
        f"{share:.0%}" + ("" if share >= LEAST_SHARE else " (invalid)"),
        len(new),
    ]
    by_cause: dict[str, list[str]] = {}
    for test in new:
        by_cause.setdefault(cause(suite.name, test) or "cause not found", []).append(f"`{test}`")
    return [
        f"| {' | '.join(map(str, cells))} |\n",
        *(f"- {suite.name}, {suite.database}: {why}: {', '.join(tests)}\n" for why, tests in sorted(by_cause.items())),
    ]


def refreshed(table: str, suite: Suite, without: Run, with_us: Run) -> str:
    """The text of the table with one suite's lines made anew, and the others' as they are in ``table``."""
    lines: dict[str, list[str]] = {}
    for line in table.splitlines(keepends=True):
        if found := _LINE.match(line):
            name, database = filter(None, found.groups())
            lines.setdefault(f"{name}-{database.lower()}", []).append(line)
    lines[suite.key] = _lines(suite, without, with_us)
    known = [lines[each.key] for each in SUITES if each.key in lines]
    causes = "".join(line for _, *causes in known for line in causes)
    return _HEAD + "".join(row for row, *_ in known) + (_CAUSES + causes if causes else "")


def write(suite: Suite, without: Run, with_us: Run) -> None:
    """Refresh a suite's lines in the table."""
    TABLE.write_text(refreshed(TABLE.read_text(), suite, without, with_us))
