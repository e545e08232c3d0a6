"""What tests on servers share: the reason for a route, and replicas that stand still."""

from __future__ import annotations

from replicant import explain
from tests.app.models import Item
from tests.databases import HOWEVER_LATE
from tests.servers import Cluster

EXEMPT = {"default": {**HOWEVER_LATE["default"], "PRIMARY_ONLY": ["app.Account"]}}


def reason() -> str | None:
    return explain(Item).reason


def pause(cluster: Cluster) -> None:
    for replica in cluster.replicas:
        replica.pause_replication()
