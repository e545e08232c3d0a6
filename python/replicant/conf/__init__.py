"""``settings.REPLICANT``: read late, checked once, dropped when a setting changes."""

from __future__ import annotations

from replicant.conf.active import (
    Rooms,
    carried_from,
    carried_to,
    cluster_of,
    has_positions,
    in_force,
    is_consistent,
    is_guarded,
    is_judged_by_position,
    is_replica_of,
    lay_over,
    load,
    merged,
    pin_seconds,
    primary_of,
    read,
    remembers_reads,
    serving_late,
    wire,
)
from replicant.conf.cluster import Cluster, address_of, engine_class, vendor_of
from replicant.conf.reader import check

__all__ = [
    "Cluster",
    "Rooms",
    "address_of",
    "carried_from",
    "carried_to",
    "check",
    "cluster_of",
    "engine_class",
    "has_positions",
    "in_force",
    "is_consistent",
    "is_guarded",
    "is_judged_by_position",
    "is_replica_of",
    "lay_over",
    "load",
    "merged",
    "pin_seconds",
    "primary_of",
    "read",
    "remembers_reads",
    "serving_late",
    "vendor_of",
    "wire",
]
