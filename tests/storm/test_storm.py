"""A slice of the storm: no visitor of the example project notices what happens to its replicas, on every engine."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import Cluster
from tests.storm import run

#: Another one each day would be flaky; ``make storm`` is where the seeds change.
SEED = int(os.environ.get("SEED", "1"))
#: So short that nothing waits but for what must be found out; that takes some ten seconds.
SECONDS = 4.0


@pytest.fixture(scope="module")
def site(cluster: Cluster) -> Cluster:
    run.prepare(cluster)
    return cluster


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_naive_requests_fail_and_visitors_miss_what_they_wrote(site: Cluster, tmp_path: Path):
    outcome = run.run(
        site,
        "documentation",
        seconds=2 * SECONDS,
        seed=SEED,
        folder=tmp_path,
        until=lambda tally: tally.failed and tally.stale,
    )
    assert outcome.tally.failed
    assert outcome.tally.stale


def test_no_request_fails_nothing_is_stale_and_every_replica_takes_its_share_again(site: Cluster, tmp_path: Path):
    outcome = run.run(site, "replicant", seconds=SECONDS, seed=SEED, folder=tmp_path)
    assert outcome.tally.failures == {}, outcome.log
    assert outcome.tally.failed == 0
    assert outcome.tally.stale == 0
    assert outcome.tally.written > 10
    assert len(outcome.returns) == 4
    assert all(seconds is not None for _, seconds in outcome.returns), outcome.returns
