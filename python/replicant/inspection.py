"""Inspection: where a read would go, and the state of every member."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from replicant import _core, tokens
from replicant.connections import observations, server_map
from replicant.monitor import topology

if TYPE_CHECKING:
    from django.db.models import Model


class Decision(NamedTuple):
    """Where a read would go, and why."""

    alias: str | None
    """The database alias; None if the router leaves the decision to Django."""
    reason: str | None
    """The code of the contract's table (``"sticky"``, ``"pinned"``, ...); None if the router leaves the decision to
    Django."""
    eligible: tuple[str, ...]
    """The aliases of the replicas that may serve this read."""


def explain(model: type[Model], **hints: Any) -> Decision:
    """Tell where a read of ``model`` would go now, and why. Counts and changes nothing, and never waits.

    ``hints`` are the hints that Django passes to a router, such as ``instance``. Raises ``NoReplicaAvailable`` if the
    read would, and ``ImproperlyConfigured`` if the settings cannot be used.
    """
    return Decision(*_core.explain(model, hints))


def status() -> dict[str, Any]:
    """The state of every cluster as this process knows it, as plain data.

    ``{"clusters": {primary: {"members": [...]}}}``; each member has ``alias``, ``role`` (``"primary"`` or
    ``"replica"``), ``state`` (``"up"``, ``"lagging"``, ``"ejected"``, ``"probing"``, ``"down"``, ``"multiplexed"``),
    ``position`` (text, as the engine prints it), ``lag`` and ``latency`` (seconds; None if they are not known),
    ``reported_lag`` (the lag in seconds that a replica itself reports: ``Seconds_Behind_Source``, or on PostgreSQL the
    age of the last transaction that it replayed while it has received more) and ``configured_delay`` (seconds). Both
    are None if they are not known or the account may not query them, and neither decides anything. Each member also has
    ``server`` (the alias that has the settings of the server behind this member: another alias after a promotion),
    ``found`` (whether it was found at run time, and no settings list it), ``weight`` (also 0 while the member is
    missing from the topology that ``TOPOLOGY`` follows; its state is then ``"down"``), ``reads`` (how many reads this
    process sent to the member, by reason) and ``share`` (of the cluster's reads, 0 to 1; None before the first read).

    ``{"tokens": {"rejected": {...}}}``: how many tokens this process has ignored, by reason (``"too_long"``,
    ``"forged"``, which includes damaged tokens and tokens of another ``SECRET_KEY``, and ``"expired"``).
    """
    clusters: dict[str, Any] = {}
    for primary, members in _core.snapshot().items():
        reads = [sum(member["reads"].values()) for member in members]
        total = sum(reads)
        clusters[primary] = {
            "members": [
                {
                    **member,
                    "server": server_map.server_of(member["alias"]),
                    "reported_lag": observations.reported(member["alias"]).lag,
                    "configured_delay": observations.reported(member["alias"]).delay,
                    "found": member["alias"] in topology.view_of(primary).found,
                    "share": count / total if total else None,
                }
                for member, count in zip(members, reads, strict=True)
            ]
        }
    return {"clusters": clusters, "tokens": {"rejected": dict(tokens.rejected)}}
