"""What both full Python routers work on: the configuration, the scopes and a snapshot of who may serve.

The decision is replicant's, row by row, for one cluster of two replicas; a contender that left rows out would be
compared with something it does not do.
"""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

PRIMARY = "default"
EXEMPT_LABELS = frozenset({"sessions", "django_cache", "app.account"})
PIN_SECONDS = 5.0


class Cell:
    """What a request remembers: the sticky replica and the time of its last write."""

    __slots__ = ("sticky", "written")

    def __init__(self) -> None:
        self.sticky: Any = None
        self.written: float | None = None


@dataclass(frozen=True)
class Scope:
    """An entered scope: ``effect`` is None, "primary" or "replica"."""

    __slots__ = ("cell", "effect", "in_request", "member", "migrating", "stale_ok")
    effect: str | None
    member: Any
    stale_ok: bool
    in_request: bool
    migrating: bool
    cell: Cell


@dataclass(frozen=True)
class Snapshot:
    """Who may serve, swapped whole when that changes."""

    aliases: tuple[str, ...]
    eligible: frozenset[str]
    cumulative: tuple[float, ...]
    total: float

    @classmethod
    def of(cls, weights: dict[str, float]) -> Snapshot:
        cumulative = tuple(accumulate(weights.values()))
        return cls(tuple(weights), frozenset(weights), cumulative, cumulative[-1])


@dataclass
class State:
    """A cluster: its members and the snapshot in force."""

    snapshot: Snapshot = field(default_factory=lambda: Snapshot.of({"replica1": 1.0, "replica2": 1.0}))
    members: frozenset[str] = frozenset({PRIMARY, "replica1", "replica2"})


#: The innermost scope.
scope: ContextVar[Scope | None] = ContextVar("bench.scope", default=None)
#: What a thread or task with no request open remembers.
record: ContextVar[Cell | None] = ContextVar("bench.record", default=None)


def is_exempt(model: Any) -> bool:
    """Whether a model is always read from the primary."""
    meta = model._meta
    return meta.app_label in EXEMPT_LABELS or meta.label_lower in EXEMPT_LABELS
