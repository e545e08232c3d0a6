"""What the guard costs a statement on a replica's alias, and on the primary's: ``python -m tests.benchmarks guard``.

The reader alone, by statement; and a whole ``cursor.execute()`` with and without the guard, in turn, so that whatever
else the machine does falls on both. The statement goes to an SQLite database in memory.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

from replicant import _core

STATEMENTS = {
    "get(pk=...)": ('SELECT "app_item"."id", "app_item"."name" FROM "app_item" WHERE "app_item"."id" = %s LIMIT 21'),
    "a page of a list, with a join": (
        'SELECT "blog_post"."id", "blog_post"."title", "blog_post"."slug", "blog_post"."body", '
        '"blog_post"."author_id", "blog_post"."created", "blog_post"."published", "auth_user"."id", '
        '"auth_user"."username" FROM "blog_post" '
        'INNER JOIN "auth_user" ON ("blog_post"."author_id" = "auth_user"."id") WHERE ("blog_post"."published" IS NOT '
        'NULL AND "auth_user"."is_active") ORDER BY "blog_post"."created" DESC LIMIT 20'
    ),
    "40 columns, 50 keys": "SELECT {} FROM t WHERE id IN ({})".format(
        ", ".join(f'"shop_order"."column_number_{number}"' for number in range(40)), ", ".join(["%s"] * 50)
    ),
}
ON_REPLICA = "execute on replica1, added by the guard"
#: In nanoseconds: what a statement on a replica may cost.
LIMIT = 1500.0
_ROUNDS = 300
_CALLS = 200


def _time(call: Callable[[], Any]) -> float:
    start = time.perf_counter_ns()
    for _ in range(_CALLS):
        call()
    return (time.perf_counter_ns() - start) / _CALLS


def measure(*, quick: bool) -> dict[str, float]:
    """Nanoseconds: medians of interleaved runs, for a whole statement the difference of two."""
    rounds = _ROUNDS // 10 if quick else _ROUNDS
    found = {}
    for name, sql in STATEMENTS.items():
        found[f"reader, {name}"] = statistics.median(
            _time(lambda sql=sql: _core.refusal(sql, "postgresql")) for _ in range(rounds)
        )
    for alias in ("replica1", "default"):
        found[f"execute on {alias}, added by the guard"] = _added(alias, rounds)
    return found


def _added(alias: str, rounds: int) -> float:
    from tests.databases import use_databases

    databases = {name: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"} for name in ("default", "replica1")}
    with use_databases(databases, REPLICANT={"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": None}}):
        from django.db import connections

        from replicant import ReplicaRouter

        ReplicaRouter()
        with connections[alias].cursor() as cursor:
            tracker = connections[alias]._replicant_tracker  # type: ignore[attr-defined]
            sql = "SELECT 1 AS a, 2 AS b, 3 AS c FROM (SELECT 1) AS x WHERE 1 = 1 AND 2 = 2 ORDER BY 1 LIMIT 21"
            cursor.execute(sql)
            is_guarded = tracker._is_guarded
            times: dict[bool, list[float]] = {True: [], False: []}
            for _ in range(rounds):
                for guarded in (True, False):
                    tracker._is_guarded = guarded and is_guarded
                    times[guarded].append(_time(lambda: cursor.execute(sql)))
            return statistics.median(
                with_it - without for with_it, without in zip(times[True], times[False], strict=True)
            )


def text(measured: dict[str, float]) -> str:
    """The figures as lines."""
    return "\n".join(f"{name:<50}{nanoseconds:8.0f} ns" for name, nanoseconds in measured.items())
