"""The full decision in Python with every trick: what is left when nobody minds how it reads.

A closure over prebound names instead of a method, no calls but those that must be, the common path first, and this
thread's connection read where asgiref keeps it rather than through ``connections[alias]``. Whoever changes who may
serve builds the closure anew.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable
from random import random
from time import monotonic
from typing import Any

from django.db import connections

from tests.benchmarks.contenders.python_state import PIN_SECONDS, PRIMARY, State, is_exempt, record, scope

_REASONS = ("exempt", "use_primary", "transaction", "pinned", "use_replica", "instance", "sticky", "balanced")


class FastPythonRouter:
    """The same decision as :class:`PythonRouter`, bound once as an instance attribute."""

    def __init__(self) -> None:
        self.counts = [0] * len(_REASONS)
        self.db_for_read = _closure(State(), self.counts)

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return PRIMARY


def _closure(state: State, counts: list[int]) -> Callable[..., Any]:
    exempt: dict[Any, bool] = {}
    exempt_get, scope_get, record_get = exempt.get, scope.get, record.get
    storage = connections._connections._storage  # type: ignore[attr-defined]
    snapshot, members = state.snapshot, state.members
    aliases, eligible, cumulative, total = snapshot.aliases, snapshot.eligible, snapshot.cumulative, snapshot.total

    def db_for_read(model: Any, **hints: Any) -> Any:
        excluded = exempt_get(model)
        if excluded is None:
            excluded = exempt[model] = is_exempt(model)
        if excluded:
            counts[0] += 1
            return PRIMARY
        inner = scope_get()
        if inner is not None and inner.effect == "primary":
            counts[1] += 1
            return PRIMARY
        try:
            connection = storage.__dict__[PRIMARY]
        except KeyError:
            connection = connections[PRIMARY]
        if not connection.autocommit and (connection.in_atomic_block or connection.connection is not None):
            counts[2] += 1
            return PRIMARY
        if inner is None:
            cell = record_get()
            if cell is not None and cell.written is not None and monotonic() - cell.written < PIN_SECONDS:
                counts[3] += 1
                return PRIMARY
            if hints and (instance := hints.get("instance")) is not None:
                origin = instance._state.db
                if origin == PRIMARY or origin in eligible:
                    counts[5] += 1
                    return origin
                if origin is not None:
                    return None
            counts[7] += 1
            return aliases[bisect(cumulative, random() * total)]
        cell = inner.cell
        if cell.written is not None and not inner.stale_ok:
            counts[3] += 1
            return PRIMARY
        if inner.member in eligible:
            counts[4] += 1
            return inner.member
        if inner.effect is None and hints and (instance := hints.get("instance")) is not None:
            origin = instance._state.db
            if origin == PRIMARY:
                counts[5] += 1
                return PRIMARY
            if origin is not None and origin not in members:
                return None
        if inner.migrating:
            return PRIMARY
        sticky = cell.sticky
        if sticky in eligible:
            counts[6] += 1
            return sticky
        counts[7] += 1
        cell.sticky = chosen = aliases[bisect(cumulative, random() * total)]
        return chosen

    return db_for_read
