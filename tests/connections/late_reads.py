"""What tests share in which replicas stand still and ``ON_UNAVAILABLE`` says where reads go."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from django.db import connections
from django.test import override_settings

from replicant import status
from replicant.connections import observations
from tests.connections.requirement import (
    REPLICAS,
    probe,
    settings,
)
from tests.servers import Cluster

WARNING = "serves late data"


@pytest.fixture(autouse=True)
def fresh_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit on log lines starts anew with each test."""
    monkeypatch.setattr(observations, "_late_limits", {})


@pytest.fixture
def policy(request: pytest.FixtureRequest, shop: Cluster) -> Iterator[str]:
    """Sets ``ON_UNAVAILABLE``, and pauses replication on every replica."""
    name = str(request.param)
    with override_settings(REPLICANT=settings(ON_UNAVAILABLE=name)):
        probe()
        for replica in shop.replicas:
            replica.pause_replication()
        yield name
        connections.close_all()


def under(name: str) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("policy", [name], indirect=True)


def late_reads() -> int:
    """How many reads of replicas are counted as ``unavailable``."""
    members = status()["clusters"]["default"]["members"]
    return sum(member["reads"]["unavailable"] for member in members if member["alias"] in REPLICAS)


def lines(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if WARNING in record.getMessage()]
