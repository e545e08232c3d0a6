"""The table of all suites, from the last run of each."""

from __future__ import annotations

from pathlib import Path

from tests.foreign.explained import cause
from tests.foreign.run import Run, last
from tests.foreign.suites import SUITES, Suite

TABLE = Path(__file__).parents[2] / "docs" / "foreign-suites.md"
#: Below this share of reads answered by a replica a run proves nothing.
LEAST_SHARE = 0.30

_HEAD = """\
# Other people's test suites

Each suite is run as its authors publish it, and again with a mirrored replica and `replicant.ReplicaRouter`: every test
that may use `default` may use its replica too, nothing is exempt. A test that counts the queries of `default` counts
those of its replica with them. Where a replica was to answer less than 30 % of the reads, the run proves nothing and is
invalid. Passed and failed are given without / with us. Made by `make test-foreign`, which can also run all of Django's
suite (`django-sqlite`, `django-mysql`); `django-core` is what of it is most about databases, and wagtail's line that of
its 7,000 tests. django-oauth-toolkit's source distribution has the tests without the settings, models and fixtures that
they need: those are ours, and what fails without us compares keys that are its authors'.

| suite | database | tests | skipped | passed | failed | reads *replica* | new failures |
|---|---|---|---|---|---|---|---|
"""


def new_failures(without: Run, with_us: Run) -> list[str]:
    """The tests that fail with us only."""
    return sorted(set(with_us.failed) - set(without.failed))


def line(suite: Suite, without: Run, with_us: Run) -> str:
    share = with_us.share or 0.0
    cells = [
        f"{suite.name} {suite.version}",
        with_us.database,
        with_us.tests,
        with_us.skipped,
        f"{without.passed} / {with_us.passed}",
        f"{len(without.failed)} / {len(with_us.failed)}",
        f"{share:.0%}" + ("" if share >= LEAST_SHARE else " (invalid)"),
        len(new_failures(without, with_us)),
    ]
    return f"| {' | '.join(map(str, cells))} |\n"


def unexplained(suite: Suite, without: Run, with_us: Run) -> list[str]:
    """The new failures that nobody has found the cause of."""
    return [test for test in new_failures(without, with_us) if cause(suite.name, test) is None]


def write() -> None:
    """Write the table of all suites that were run both ways."""
    lines, causes = [], []
    for suite in SUITES:
        without, with_us = last(suite, with_us=False), last(suite, with_us=True)
        if without is None or with_us is None:
            continue
        lines.append(line(suite, without, with_us))
        by_cause: dict[str, list[str]] = {}
        for test in new_failures(without, with_us):
            by_cause.setdefault(cause(suite.name, test) or "cause not found", []).append(f"`{test}`")
        causes += [
            f"- {suite.name}, {suite.database}: {why}: {', '.join(tests)}\n" for why, tests in sorted(by_cause.items())
        ]
    text = _HEAD + "".join(lines)
    if causes:
        text += "\n## What fails only with us, and why\n\n" + "".join(causes)
    TABLE.write_text(text)
