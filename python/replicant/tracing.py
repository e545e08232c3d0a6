"""Records every statement of a block of code: where it went, and why.

A router's decision is not a statement: Django calls a router for querysets that are never evaluated, and does not call
it for ``.using(alias)``. Therefore statements are counted when they are sent, at the cursor.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from replicant import _core

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The verbs of statements that Django sends by itself before or after the user's statement.
CONTROL_VERBS = frozenset({"BEGIN", "START", "COMMIT", "ROLLBACK", "SAVEPOINT", "RELEASE", "SET", "PRAGMA"})


@dataclass(frozen=True)
class Query:
    """A statement that was sent."""

    alias: str
    """The database alias that the statement was sent to."""
    sql: str
    """The text of the statement, without parameters."""
    reason: str | None
    """Why it went there: a reason of the contract's table, ``"write"``, or None if no router was called.

    It is the reason of this thread's last decision for that alias that no statement has followed yet. Therefore a later
    ``.using(alias)`` may show the reason of a queryset that was built and never evaluated.
    """
    seconds: float
    """The time until the server answered."""


recording: ContextVar[list[Query] | None] = ContextVar("replicant.recording", default=None)


@contextmanager
def record_queries() -> Iterator[list[Query]]:
    """Collect the statements that are sent inside the block, in this task and in the threads that it waits for.

    Each statement is added when it is answered. Blocks nest; the innermost block collects.
    """
    queries: list[Query] = []
    outer = recording.get()
    recording.set(queries)
    try:
        yield queries
    finally:
        # Restored with set(), not with a token: an async block may be left in another context than it was entered in.
        recording.set(outer)


def recorded(
    queries: list[Query],
    execute: Callable[..., Any],
    sql: Any,
    params: Any,
    many: bool,
    context: dict[str, Any],
) -> Any:
    """Execute a statement and add it to ``queries``."""
    connection: BaseDatabaseWrapper = context["connection"]
    alias, reason = connection.alias, None
    # A BEGIN that Django sends before a statement must not take the reason of that statement.
    if not isinstance(sql, str) or _core.verb(sql, connection.vendor) not in CONTROL_VERBS:
        decision = _core.take_decision()
        reason = decision[1] if decision is not None and decision[0] == alias else None
    start = time.perf_counter()
    try:
        return execute(sql, params, many, context)
    finally:
        queries.append(Query(alias, str(sql), reason, time.perf_counter() - start))
