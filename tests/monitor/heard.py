"""What tests of the monitor share: an account for it, and the samples that it passes on."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from replicant.engines import Sample
from replicant.monitor import cluster_monitor, watch
from tests.monitoring import use_prober
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 20.0


@pytest.fixture
def probed(servers: Cluster, database: str) -> Cluster:
    """The cluster, with an account for the monitor that may only read."""
    use_prober(servers, database)
    return servers


def threads() -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread.name.startswith("replicant-")}


class Heard:
    """The samples that the monitor passed on, call by call."""

    def __init__(self) -> None:
        self.calls: list[list[Sample]] = []

    def __call__(self, samples: Sequence[Sample]) -> None:
        self.calls.append(list(samples))

    def of(self, alias: str) -> list[Sample]:
        return [sample for call in self.calls for sample in call if sample.alias == alias]

    def wait(self, condition: Callable[[Sample], bool], *aliases: str) -> None:
        """Wait until each of the aliases had a sample that fulfils the condition."""
        wait_until(lambda: all(any(map(condition, self.of(alias))) for alias in aliases), SECONDS, "such samples come")


@pytest.fixture
def heard(monkeypatch: pytest.MonkeyPatch) -> Heard:
    heard = Heard()
    monkeypatch.setattr(watch, "consumer", heard)
    return heard


@pytest.fixture(autouse=True)
def stopped() -> Iterator[None]:
    yield
    cluster_monitor.stop()
    wait_until(lambda: not threads(), SECONDS, "the monitor's threads end")
