"""No read waits for a replica whose lag and recent rate show that it cannot arrive in time, on real servers.

Only the test probes the servers. Every test runs on MySQL, MariaDB and PostgreSQL.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.test import override_settings

from replicant import _core, after, request_scope, status, token
from replicant.connections import causality
from tests.connections.requirement import REPLICAS, SECONDS, elsewhere, probe, read, replicated, settings, until, write
from tests.connections.requirement import shop as shop
from tests.servers import Cluster

#: More than a read of this test takes, also on a busy machine.
LATE = 5.0


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The replicas that are waited for, in turn."""
    found: list[str] = []
    wait = causality.wait

    def waited(replica: str, position: Any, seconds: float) -> Any:
        found.append(replica)
        return wait(replica, position, seconds)

    monkeypatch.setattr(causality, "wait", waited)
    return found


def lag_of(alias: str) -> float:
    members = status()["clusters"]["default"]["members"]
    return float(next(member["lag"] for member in members if member["alias"] == alias) or 0.0)


def fall_behind(*late: str) -> None:
    """Write and probe until these replicas, which apply nothing, are known to be late."""

    def written_and_probed() -> bool:
        elsewhere(write)
        probe()
        return all(lag_of(alias) >= LATE for alias in late)

    until(written_and_probed, "the lag is known")


def missed() -> bool:
    return any(item[-1] for item in _core.causality())


def test_a_position_of_now_is_not_waited_for_on_replicas_that_are_steadily_late(shop: Cluster, waits: list[str]):
    with override_settings(REPLICANT=settings(WAIT_SECONDS=0.05)):
        for replica in shop.replicas:
            replica.pause_replication()
        fall_behind(*REPLICAS)
        with request_scope():
            pk = write()
            assert [read(pk) for _ in range(3)] == [("default", True)] * 3
            assert (waits, missed()) == ([], True)
            sent = token()
        # Its next request does not wait for the replicas either, though the probes have changed what is known.
        with request_scope(), after(sent):
            assert read(pk) == ("default", True)
        assert waits == []
        # Replicas that are not late are waited for, as ever.
        for replica in shop.replicas:
            replica.resume_replication()
        replicated(shop)
        for replica in shop.replicas:
            replica.pause_replication()
        with request_scope():
            assert read(write()) == ("default", True)
        assert len(waits) == 1


def test_the_replica_that_can_arrive_is_waited_for(shop: Cluster, waits: list[str]):
    with override_settings(REPLICANT=settings(WAIT_SECONDS=2.0)):
        shop.replicas[0].pause_replication()
        fall_behind("replica1")
        assert shop.replicas[1].reached(shop.primary.position(), SECONDS)
        probe()
        for _ in range(5):
            with request_scope():
                pk = write()
                assert read(pk) == ("replica2", True)
        assert set(waits) == {"replica2"}
