"""What tests of the topology share: a cluster without servers, and a view of it that is put in force."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from replicant import conf
from replicant.engines import Sample
from replicant.monitor import cluster_monitor, topology
from replicant.monitor.discovery import Member
from replicant.monitor.topology import View, recognised
from tests.databases import use_databases

A, B, C = "replica1", "replica2", "default@10.0.0.9:3306"


def mysql(alias: str, host: str, **settings: Any) -> dict[str, Any]:
    return {
        "ENGINE": "django.db.backends.mysql",
        "HOST": host,
        "USER": "application",
        "PASSWORD": "secret",
        "NAME": "site",
        "TEST": {} if alias == "default" else {"MIRROR": "default"},
        **settings,
    }


DATABASES = {
    "default": mysql("default", "10.0.0.1"),
    "replica1": mysql("replica1", "10.0.0.2", PORT=3306, OPTIONS={"charset": "utf8mb4", "unix_socket": "/s"}),
    "replica2": mysql("replica2", "pooler", PORT="6446", PROBE={"HOST": "db3.example.com", "PORT": 3306, "USER": "m"}),
}
FOLLOWING: dict[str, Any] = {"METHOD": "mysql", "ALLOW": ["10.0.0.0/24", "*.example.com"]}


def following(**keys: Any) -> dict[str, Any]:
    return {
        "default": {
            "REPLICAS": {"replica1": 2, "replica2": 1},
            "TOPOLOGY": FOLLOWING,
            "CONSISTENCY": "eventual",
            **keys,
        }
    }


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[conf.Cluster]:
    """A cluster that follows its servers. There are none, so the monitor is kept from starting."""
    monkeypatch.setattr(cluster_monitor, "start", lambda: None)
    with use_databases(DATABASES, REPLICANT=following()):
        conf.load()
        (cluster,) = conf.in_force()
        yield cluster


def found(cluster: conf.Cluster, *members: Member, samples: dict[str, Sample] | None = None, primary: str = "default"):
    return recognised(cluster, members, samples or {}, primary)


def put(*present: str, **more: tuple[str, str]) -> None:
    (cluster,) = conf.in_force()
    listed = frozenset({"default", *topology.listed(cluster)})
    assert topology.put(cluster, View({C: ("10.0.0.9", "3306"), **more}, frozenset(present), listed), present)
    conf.load()
