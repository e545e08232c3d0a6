"""``python -m tests.foreign [suite...]``: other people's test suites, without us and with us."""

from __future__ import annotations

import argparse
import sys

from tests.foreign import report
from tests.foreign.environment import prepare
from tests.foreign.run import Run, last, run
from tests.foreign.suites import SUITES, Suite


def _say(suite: Suite, with_us: bool, ended: Run) -> None:
    share = f", {ended.share:.0%} of the reads answered replica" if ended.share is not None else ""
    print(
        f"{suite.key} {'with' if with_us else 'without'} us: {ended.tests} tests, {ended.passed} passed, "
        f"{len(ended.failed)} failed, {ended.skipped} skipped in {ended.seconds:.0f} s{share}",
        flush=True,
    )


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.foreign", description=__doc__)
    names = [suite.key for suite in SUITES]
    parser.add_argument("suites", nargs="*", metavar="suite", help=f"some of {', '.join(names)} (default: all)")
    parser.add_argument(
        "--only", choices=("with", "without"), help="run one of the two, and compare with the last other"
    )
    parser.add_argument("--no-build", action="store_true", help="take the environment and our wheel as they are")
    parser.add_argument("--tests", nargs="+", default=[], metavar="TEST", help="only these; changes no table")
    options = parser.parse_args()
    if unknown := sorted(set(options.suites) - set(names)):
        parser.error(f"unknown suite: {', '.join(unknown)} (there are {', '.join(names)})")
    if not options.no_build:
        prepare()
    status = 0
    for suite in SUITES:
        if options.suites and suite.key not in options.suites:
            continue
        for with_us in (False, True):
            if options.only in (None, "with" if with_us else "without"):
                _say(suite, with_us, run(suite, with_us, options.tests))
        without, with_us = last(suite, with_us=False), last(suite, with_us=True)
        if options.tests or without is None or with_us is None:
            continue
        for test in report.unexplained(suite, without, with_us):
            print(f"  fails only with us: {test}")
            status = 1
        if (with_us.share or 0.0) < report.LEAST_SHARE:
            print("  invalid: too few reads were answered replica")
            status = 1
        report.write(suite, without, with_us)
    return status


if __name__ == "__main__":
    sys.exit(main())
