"""Lets every test that may use ``default`` use its replica too, and counts what our router answered."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from foreign_arrange import REPLICA, WITH_US

RESULTS = Path(os.environ["FOREIGN_RESULTS"])

Counts = dict[str, dict[str, int]]


def install() -> None:
    """List the replica wherever a test lists ``default``: in its class, and where databases are made for the run."""
    if not WITH_US:
        return
    from django.db import connections
    from django.test.runner import DiscoverRunner
    from django.test.testcases import SimpleTestCase

    validate = SimpleTestCase.__dict__["_validate_databases"].__func__
    remove_failures = SimpleTestCase.__dict__["_remove_databases_failures"].__func__
    get_databases = DiscoverRunner._get_databases

    def listing_the_replica(cls: type[SimpleTestCase]) -> frozenset[str]:
        databases: frozenset[str] = validate(cls)
        if "default" not in databases or REPLICA not in connections:
            return databases
        for name in ("queries_log", "force_debug_cursor"):
            # A test that counts the queries of ``default`` means those of its database, whatever the alias. What a
            # mirror does not have for itself is the primary's.
            vars(connections[REPLICA]).pop(name, None)
        return databases | {REPLICA}

    def at_the_end_of_a_class(cls: type[SimpleTestCase]) -> None:
        remove_failures(cls)
        counter.write()

    def made_with_the_replica(self: DiscoverRunner, suite: Any) -> dict[str, bool]:
        databases: dict[str, bool] = get_databases(self, suite)
        if "default" in databases and REPLICA in connections:
            databases.setdefault(REPLICA, databases["default"])
        return databases

    SimpleTestCase._validate_databases = classmethod(listing_the_replica)
    SimpleTestCase._remove_databases_failures = classmethod(at_the_end_of_a_class)
    DiscoverRunner._get_databases = made_with_the_replica
    os.register_at_fork(after_in_child=counter.forked)


class Counter:
    """What this process' router answered, kept in a file of its own.

    Written after each class of tests: the processes of a parallel run end without a word. What settings that a test
    overrides make the router begin anew is added up.
    """

    def __init__(self) -> None:
        self._seen: Counts = {}
        self._total: Counts = {}

    def forked(self) -> None:
        """Leave the parent's reads to the parent."""
        self._seen, self._total = self._now(), {}

    @staticmethod
    def _now() -> Counts:
        from replicant import _core

        counts: Counts = {}
        for members in _core.snapshot().values():
            for member in members:
                by_reason = counts.setdefault(member["role"], {})
                for reason, count in member["reads"].items():
                    by_reason[reason] = by_reason.get(reason, 0) + count
        return counts

    def write(self) -> None:
        now = self._now()
        for role, by_reason in now.items():
            seen, total = self._seen.get(role, {}), self._total.setdefault(role, {})
            for reason, count in by_reason.items():
                before = seen.get(reason, 0)
                total[reason] = total.get(reason, 0) + (count - before if count >= before else count)
        self._seen = now
        (RESULTS / f"reads-{os.getpid()}.json").write_text(json.dumps(self._total))


counter = Counter()


def write_outcome(tests: int, skipped: int, failed: dict[str, str]) -> None:
    """Write what became of the tests; ``failed`` is the text of each failure."""
    (RESULTS / "outcome.json").write_text(json.dumps({"tests": tests, "skipped": skipped, "failed": failed}))
    if WITH_US:
        counter.write()
