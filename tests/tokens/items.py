"""What tests of tokens share: requirements, clusters, clocks, and what a token says later."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.test import override_settings

from replicant import tokens
from replicant.connections.causality import Causality

UUID = "3e11fa47-71ca-11e1-9e33-c80aa9429562"
POSITIONS = {
    "mysql": f"{UUID}:1-5:7,{UUID.replace('3', '4')}:blue:3",
    "mariadb": "0-4711-5,2-3-7",
    "postgresql": "3:A/16B3748",
}
CLUSTERS = {
    "default": {"REPLICAS": ["replica1", "replica2"]},
    "other": {"REPLICAS": [], "MODELS": ["auth"]},
}


def item(
    cluster="default", position=None, written=None, unpublished=False, member=None, read=None, **more: Any
) -> Causality:
    """What a token says of one cluster."""
    return Causality(cluster, position, written, unpublished, member, read, **more)


@pytest.fixture(autouse=True)
def _clusters(site):
    with override_settings(REPLICANT=CLUSTERS):
        yield


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch):
    """Sets both clocks: ``clock.now`` in seconds."""

    class Clock:
        now = 1_800_000_000.0

    monkeypatch.setattr(time, "time", lambda: Clock.now)
    monkeypatch.setattr(tokens, "_ticks", lambda: int(Clock.now * 1000))
    return Clock


@pytest.fixture
def told(clock):
    """What a token says that is decoded some seconds later, under the settings of another site if any are given."""

    def told(*items: Causality, seconds: float = 0.0, max_age: float | None = None, **settings):
        text = tokens.encode(items)
        clock.now += seconds
        with override_settings(**settings):
            return tokens.decode(text, max_age)

    return told


@pytest.fixture
def counted():
    """How often tokens were rejected since the test began, by reason."""
    before = dict(tokens.rejected)
    return lambda: {
        reason: count - before[reason] for reason, count in tokens.rejected.items() if count != before[reason]
    }
