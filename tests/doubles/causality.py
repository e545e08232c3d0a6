"""Judges by time only: what wrote, or must see something, reads from the primary for ``PIN_SECONDS``."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from django.conf import settings
from django.db import connections

from replicant import _core

if TYPE_CHECKING:
    from replicant._core import Position


class Causality(NamedTuple):
    cluster: str
    position: Position | None
    written: float | None
    unpublished: bool
    member: str | None
    read: float | None


_record = _core.record
#: By record and cluster: when it wrote; what was required of it, and when.
_written: dict[tuple[_core.Record, str], float] = {}
_required: dict[_core.Record, list[tuple[float, Causality]]] = {}


class _Noted:
    """A record that notes its writes here too."""

    def __init__(self) -> None:
        self.record = _record()

    def __hash__(self) -> int:
        return hash(self.record)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Noted) and self.record == other.record

    def wrote(self, alias: str) -> None:
        _written[self.record, alias] = time.monotonic()
        self.record.wrote(alias)


_core.record = _Noted


def _pin(cluster: str) -> float:
    return settings.REPLICANT[cluster].get("PIN_SECONDS", 5.0)


def current() -> tuple[Causality, ...]:
    now = time.monotonic()
    record = _record()
    found = []
    for cluster in settings.REPLICANT:
        pending = cluster in connections and any(
            noted.record == record
            for noted in getattr(getattr(connections[cluster], "_replicant_tracker", None), "_pending", ())
        )
        ages = [now - _written[record, cluster]] if (record, cluster) in _written else []
        position = None
        for since, item in _required.get(record, ()):
            if item.cluster == cluster:
                ages += [item.written + now - since] if item.written is not None else []
                if item.position is not None:
                    position = item.position if position is None else position.union(item.position)
        ages = [age for age in ages if age < _pin(cluster)]
        if pending or ages or position:
            written = 0.0 if pending else min(ages, default=None)
            found.append(Causality(cluster, position, written, pending, None, None))
    return tuple(found)


def has_written() -> bool:
    record = _record()
    return any(written == record for written, _ in _written)


def require(items: Sequence[Causality]) -> None:
    record = _record()
    for item in items:
        _required.setdefault(record, []).append((time.monotonic(), item))
        if item.position is not None or (item.written is not None and item.written < _pin(item.cluster)):
            record.wrote(item.cluster)
