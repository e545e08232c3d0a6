"""The actions of each subpackage when settings come into force: the only module that imports all subpackages."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from django.db import connections

from replicant import conf
from replicant.connections import tracker
from replicant.engines import tenants
from replicant.monitor import topology


def _prepare() -> None:
    # Called here, too, for a site without the app in INSTALLED_APPS. Imported late, because it imports Django's models.
    from replicant import patches

    patches.install()


def _adapt(clusters: list[conf.Cluster]) -> list[conf.Cluster]:
    """The clusters without the members that a test may not use, and with the members that were found or dropped."""
    from replicant.patches import test_runner

    taken = {alias for cluster in clusters for alias in (cluster.primary, *dict(cluster.replicas))}
    adapted = [test_runner.adapted(cluster) for cluster in clusters]
    return [
        # In a test, the cluster has exactly the members that the test lists.
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
