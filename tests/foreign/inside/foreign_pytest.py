"""A plugin for suites that are run by pytest."""

from __future__ import annotations

from typing import Any

import foreign_mirrors
import pytest
from django.conf import LazySettings
from foreign_arrange import REPLICA, WITH_US, arrange

_tests: set[str] = set()
_skipped: set[str] = set()
_failed: dict[str, str] = {}


def _arrange_what_is_configured() -> None:
    """A suite may have no settings module and call ``settings.configure()``."""
    configure = LazySettings.configure

    def arranged(self: LazySettings, *args: Any, **options: Any) -> None:
        arrange(options)
        configure(self, *args, **options)

    LazySettings.configure = arranged


def _set_up_the_replica() -> None:
    """pytest-django makes those databases only that the collected tests list."""
    from pytest_django import fixtures

    get_databases = fixtures._get_databases_for_setup

    def made_with_the_replica(items: Any) -> tuple[set[str], set[str]]:
        aliases, serialized = get_databases(items)
        return (aliases | {REPLICA} if "default" in aliases else aliases), serialized

    fixtures._get_databases_for_setup = made_with_the_replica


_arrange_what_is_configured()
foreign_mirrors.install()
if WITH_US:
    _set_up_the_replica()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _tests.add(report.nodeid)
    if report.failed:
        _failed[report.nodeid] = str(report.longrepr)
    elif report.skipped:
        _skipped.add(report.nodeid)


def pytest_collectreport(report: pytest.CollectReport) -> None:
    if report.failed:
        _failed[report.nodeid] = str(report.longrepr)


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    foreign_mirrors.write_outcome(len(_tests), len(_skipped), _failed)
