"""The table of other people's suites: what a run of one of them changes in it."""

from __future__ import annotations

import pytest

from tests.foreign.report import refreshed
from tests.foreign.run import Run
from tests.foreign.suites import SUITES, Suite

BY_KEY = {suite.key: suite for suite in SUITES}
CORE_ON_SQLITE, CORE_ON_MYSQL, TOOLBAR = (
    BY_KEY[key] for key in ("django-core-sqlite", "django-core-mysql", "django-debug-toolbar-sqlite")
)


def ended(suite: Suite, *failed: str, replica: int = 0) -> Run:
    """A run of ten tests, with a share of reads in percent that a replica answered."""
    reads = {"replica": {"balanced": replica}, "primary": {"pinned": 100 - replica}}
    return Run(f"{suite.database} 1.0", "2026-01-01", 10, 1, dict.fromkeys(failed, "why"), reads, 1.0)


def with_us(table: str, suite: Suite, *failed: str, replica: int = 90) -> str:
    return refreshed(table, suite, ended(suite), ended(suite, *failed, replica=replica))


def test_a_suite_has_a_row_and_the_causes_of_what_fails_with_us_only() -> None:
    version = CORE_ON_SQLITE.version
    table = with_us("", CORE_ON_SQLITE, "basic.tests.ModelRefreshTests.test_refresh_unsaved", "new.test")
    assert f"| django-core {version} | SQLite 1.0 | 2026-01-01 | 10 | 1 | 9 / 7 | 0 / 2 | 90% | 2 |\n" in table
    assert "- django-core, SQLite: asserts that a read's alias is `default`" in table
    assert "- django-core, SQLite: cause not found: `new.test`" in table


def test_what_fails_without_us_too_is_no_new_failure() -> None:
    table = refreshed("", TOOLBAR, ended(TOOLBAR, "a"), ended(TOOLBAR, "a", replica=90))
    assert "| 8 / 8 | 1 / 1 | 90% | 0 |" in table
    assert "## What fails only with us" not in table


def test_a_run_in_which_the_replica_answered_little_is_marked_as_invalid() -> None:
    assert "| 29% (invalid) |" in with_us("", TOOLBAR, replica=29)


def test_a_run_of_one_suite_leaves_the_lines_of_the_others() -> None:
    table = with_us(with_us("", CORE_ON_SQLITE, "a"), CORE_ON_MYSQL, "b")
    kept = [line for line in table.splitlines() if "SQLite" in line and "django-core" in line]
    assert len(kept) == 2
    table = with_us(with_us(table, TOOLBAR), CORE_ON_MYSQL, "c")
    assert [line for line in table.splitlines() if line in kept] == kept
    assert "`b`" not in table
    assert "`c`" in table


@pytest.mark.parametrize("suite", SUITES, ids=lambda suite: suite.key)
def test_the_lines_of_every_suite_are_found_again(suite: Suite) -> None:
    table = with_us("", suite, "a")
    assert with_us(table, suite, "a") == table
