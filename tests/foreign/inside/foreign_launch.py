"""Starts a suite that Django's own runner runs: ``foreign_launch.py runtests.py ...`` or ``-m django test ...``."""

from __future__ import annotations

import os
import runpy
import sys
import unittest
from pathlib import Path
from typing import Any

import django
import foreign_mirrors
from foreign_arrange import WITH_US


def _report_what_is_run() -> None:
    from django.test.runner import DiscoverRunner

    run_suite = DiscoverRunner.run_suite
    process = os.getpid()

    def reported(self: DiscoverRunner, suite: Any, **kwargs: Any) -> unittest.TestResult:
        result: unittest.TestResult = run_suite(self, suite, **kwargs)
        # Tests of a runner run suites of their own; the outermost ends last.
        if os.getpid() == process:
            failed = {test.id(): text for test, text in [*result.errors, *result.failures]}
            failed |= {test.id(): "unexpected success" for test in result.unexpectedSuccesses}
            foreign_mirrors.write_outcome(result.testsRun, len(result.skipped), failed)
        return result

    DiscoverRunner.run_suite = reported


def _install_our_app() -> None:
    """Django's own suite replaces INSTALLED_APPS by a list of its own before it sets Django up."""
    setup = django.setup

    def set_up(*args: Any, **kwargs: Any) -> None:
        from django.conf import settings

        if "replicant" not in settings.INSTALLED_APPS:
            settings.INSTALLED_APPS.append("replicant")
        setup(*args, **kwargs)

    django.setup = set_up


def main() -> None:
    if WITH_US:
        _install_our_app()
    _report_what_is_run()
    foreign_mirrors.install()
    arguments = sys.argv[1:]
    sys.path[0] = str(Path.cwd())
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    main()
