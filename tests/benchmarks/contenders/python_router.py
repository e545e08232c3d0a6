"""The full decision in Python, as a careful author writes it: public names, one method, no call that can be saved."""

from __future__ import annotations

from bisect import bisect
from random import random
from time import monotonic
from typing import Any

from django.db import connections

from tests.benchmarks.contenders.python_state import PIN_SECONDS, PRIMARY, State, is_exempt, record, scope

EXEMPT, USE_PRIMARY, TRANSACTION, PINNED, USE_REPLICA, INSTANCE, STICKY, BALANCED, DEFAULT, UNAVAILABLE = range(10)


class PythonRouter:
    """One cluster, two replicas, the decision of the contract's table."""

    def __init__(self) -> None:
        self.state = State()
        self.exempt: dict[Any, bool] = {}
        self.counts = {alias: [0] * 10 for alias in self.state.members}

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return PRIMARY

    def db_for_read(self, model: Any, **hints: Any) -> Any:
        counts = self.counts
        origin = None
        if hints and (instance := hints.get("instance")) is not None:
            origin = instance._state.db
            if origin is not None and origin not in counts:
                return None
        exempt = self.exempt.get(model)
        if exempt is None:
            exempt = self.exempt[model] = is_exempt(model)
        if exempt:
            counts[PRIMARY][EXEMPT] += 1
            return PRIMARY
        inner = scope.get()
        if inner is not None and inner.effect == "primary":
            counts[PRIMARY][USE_PRIMARY] += 1
            return PRIMARY
        if connections[PRIMARY].in_atomic_block:
            counts[PRIMARY][TRANSACTION] += 1
            return PRIMARY
        if inner is not None and inner.in_request:
            pinned = inner.cell.written is not None and not inner.stale_ok
        else:
            cell = record.get()
            pinned = cell is not None and cell.written is not None and monotonic() - cell.written < PIN_SECONDS
        if pinned:
            counts[PRIMARY][PINNED] += 1
            return PRIMARY
        snapshot = self.state.snapshot
        if inner is not None and inner.member in snapshot.eligible:
            counts[inner.member][USE_REPLICA] += 1
            return inner.member
        if origin == PRIMARY and (inner is None or inner.effect is None):
            counts[PRIMARY][INSTANCE] += 1
            return PRIMARY
        if inner is None:
            if origin in snapshot.eligible:
                counts[origin][INSTANCE] += 1
                return origin
        elif inner.migrating:
            counts[PRIMARY][DEFAULT] += 1
            return PRIMARY
        elif (sticky := inner.cell.sticky) in snapshot.eligible:
            counts[sticky][STICKY] += 1
            return sticky
        if not snapshot.aliases:
            counts[PRIMARY][UNAVAILABLE] += 1
            return PRIMARY
        chosen = snapshot.aliases[bisect(snapshot.cumulative, random() * snapshot.total)]
        if inner is not None:
            inner.cell.sticky = chosen
        counts[chosen][BALANCED] += 1
        return chosen
