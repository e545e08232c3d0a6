"""Every statement of a block of code: where it went, and why.

A decision is not a statement: a router is asked for querysets that are never evaluated, and not asked for
``.using(alias)``. Statements are counted where they are sent, at the cursor.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(frozen=True)
class Query:
    """A statement that was sent."""

    alias: str
    """The database alias it was sent to."""
    sql: str
    """Its text, without parameters."""
    reason: str | None
    """Why it went there: a reason of the contract's table, ``"write"``, or None if no router was asked.

    It is the reason of this thread's last decision for that alias that no statement has followed yet, so that a
    queryset that is built and never evaluated can lend its reason to a later ``.using(alias)``.
    """
    seconds: float
    """How long it took, until the server answered."""


recording: ContextVar[list[Query] | None] = ContextVar("replicant.recording", default=None)


@contextmanager
def record_queries() -> Iterator[list[Query]]:
    """Collect the statements that are sent inside the block, in this task and in the threads it waits for.

    The list fills as they are answered. Blocks nest; the innermost collects.
    """
    queries: list[Query] = []
    outer = recording.get()
    recording.set(queries)
    try:
        yield queries
    finally:
        # Not by token: an async block may be left in another context than it was entered in.
        recording.set(outer)
