"""What each room does when settings are put in force: the only module that knows all rooms."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from django.db import connections

from replicant import conf
from replicant.connections import tracker
from replicant.engines import tenants
from replicant.monitor import topology


def _prepare() -> None:
    # Also for a site that left the app out of INSTALLED_APPS. Imported late: it imports Django's models.
    from replicant import patches

    patches.install()


def _adapt(clusters: list[conf.Cluster]) -> list[conf.Cluster]:
    """The clusters without what a test may not use, and with the members that were found or dropped."""
    from replicant.patches import test_runner

    taken = {alias for cluster in clusters for alias in (cluster.primary, *dict(cluster.replicas))}
    adapted = [test_runner.adapted(cluster) for cluster in clusters]
    return [
        # A test has the members that it lists.
        topology.followed(now, taken) if now is was else dataclasses.replace(now, topology=None)
        for was, now in zip(clusters, adapted, strict=True)
    ]


def _apply(clusters: Sequence[conf.Cluster]) -> None:
    for cluster in clusters:
        engine = conf.engine_class(connections.settings.get(cluster.primary, {}))
        if engine is not None:
            tenants.watch(engine, tracker.track)
    tracker.reconsider()


conf.wire(conf.Rooms(_prepare, _adapt, _apply, topology.forget))
