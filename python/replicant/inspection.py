"""Looking inside: where a read would go, and what is known of every member."""

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
    """The database alias; None where the router has no say and Django decides."""
    reason: str | None
    """The code of the contract's table (``"sticky"``, ``"pinned"``, ...); None where the router has no say."""
    eligible: tuple[str, ...]
    """The aliases of the replicas that may serve this read."""


def explain(model: type[Model], **hints: Any) -> Decision:
    """Say where a read of ``model`` would go now, and why. Counts and changes nothing, and never waits.

    ``hints`` are those Django passes to a router, such as ``instance``. Raises ``NoReplicaAvailable`` where the
    read would, and ``ImproperlyConfigured`` if the settings cannot be used.
    """
    return Decision(*_core.explain(model, hints))


def status() -> dict[str, Any]:
    """What this process knows of every cluster, as plain data.

    ``{"clusters": {primary: {"members": [...]}}}``; each member has ``alias``, ``role`` (``"primary"`` or
    ``"replica"``), ``state`` (``"up"``, ``"lagging"``, ``"ejected"``, ``"probing"``, ``"down"``, ``"multiplexed"``),
    ``position`` (text, as the engine prints it), ``lag`` and ``latency`` (seconds; None where they are not known),
    ``reported_lag`` (seconds that a replica itself says it is behind: ``Seconds_Behind_Source``, or on PostgreSQL the
    age of the last transaction that it replayed while it has received more) and ``configured_delay`` (seconds; both are
    None where they are not known or the account may not ask, and decide nothing),
    ``server`` (the alias whose settings lead to the server behind this one: another one after a promotion), ``found``
    (whether it was found at run time, and no settings list it), ``weight`` (0 also while it is not in the view that
    ``TOPOLOGY`` follows, which shows as ``"down"``),
    ``reads`` (how many this process sent there, by reason) and ``share`` (of the cluster's reads, 0 to 1;
    None before the first). ``{"tokens": {"rejected": {...}}}``: how many tokens this process has ignored, by reason
    (``"too_long"``, ``"forged"``, which includes damaged ones and those of another ``SECRET_KEY``, and ``"expired"``).
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
