"""A slice of the soak: what must hold holds, and the checker finds what does not, on every engine, under faults.

What is judged is what was recorded. A run that is to find something ends when it has, and has ample time.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consistency import machine, planted, site, soak, threads
from tests.consistency.clients import Tokens
from tests.consistency.handmade import BUGS, HandMade
from tests.consistency.history import PRIMARY, History, Read
from tests.consistency.lag import behind
from tests.consistency.verify import (
    MONOTONIC_READS,
    READ_YOUR_WRITES,
    needless_pins,
    never_returned,
    summary,
    violations,
)
from tests.servers import Cluster

#: Another one each day would be flaky; ``make soak`` is where the seeds change.
SEED = int(os.environ.get("SEED", "1"))
#: Seconds that a run has to find what it is to find. It takes less than two.
FINDS_WITHIN = 20.0


#: That the checker finds what is planted has little to do with the engine; ``make soak`` runs on each.
on_one_engine = pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)


@pytest.fixture(scope="module")
def registers(cluster: Cluster) -> Cluster:
    site.create(cluster)
    return cluster


@pytest.fixture
def session(registers: Cluster) -> Iterator[Cluster]:
    with site.site(registers, site.settings("session")):
        yield registers


def run_until(found: Callable[[History], object], cluster: Cluster, link: Any, *, restarts: bool = False) -> History:
    history = threads.run(
        cluster, seed=SEED, seconds=FINDS_WITHIN, link=link, think=0.02, returns=0.0, restarts=restarts, until=found
    )
    assert found(history), summary(history)
    return history


def breaks(*guarantees: str) -> Callable[[History], bool]:
    return lambda history: set(guarantees) <= {violation.guarantee for violation in violations(history)}


def check(history: History, kept: Path) -> None:
    """Fail, and keep the history, if it does not hold."""
    found = soak.judge(history)
    if found:
        history.save(kept)
    assert found == [], f"kept in {kept}"
    # And it was not for want of replicas, writes or faults.
    seen = summary(history)
    assert seen["writes"]["committed"] > 20, seen
    assert sum(seen["reads"].values()) - seen["reads"][PRIMARY] > 20, seen
    assert seen["faults"] > 0, seen


def kept(cluster: Cluster) -> Path:
    return soak.FOLDER / f"{cluster.engine}-{SEED}.jsonl"


# The product


def test_clients_at_once_with_faults(session: Cluster):
    history = threads.run(session, seed=SEED, seconds=4.0)
    check(history, kept(session))
    assert needless_pins(history) == []
    assert never_returned(history) == []


def test_one_step_at_a_time_with_faults(session: Cluster):
    histories = machine.run(session, seed=SEED, examples=5, keep=kept(session), returns=0.0, restarts=False)
    reads = [event for history in histories for event in history if isinstance(event, Read)]
    assert sum(read.alias != PRIMARY for read in reads) > 10


def test_reads_of_the_primary_alone_break_nothing(registers: Cluster):
    with site.site(registers, site.settings("session"), DATABASE_ROUTERS=[]):
        history = threads.run(registers, seed=SEED, seconds=0.5, link="forgotten", returns=0.0)
    assert violations(history) == []
    assert violations(history, primary_binds=True) == []
    assert set(summary(history)["reads"]) == {PRIMARY}


def test_eventual_breaks_promises(registers: Cluster):
    with site.site(registers, site.settings("eventual")):
        run_until(breaks(READ_YOUR_WRITES, MONOTONIC_READS), registers, "forgotten")


def test_eventual_breaks_promises_one_step_at_a_time(registers: Cluster, tmp_path: Path):
    with site.site(registers, site.settings("eventual")), pytest.raises(machine.Broken, match="read your writes"):
        machine.run(
            registers,
            seed=SEED,
            examples=200,
            link="forgotten",
            guarantees=(READ_YOUR_WRITES,),
            keep=tmp_path / "expected.jsonl",
            shrinks=False,
            returns=0.0,
            restarts=False,
        )


@on_one_engine
def test_time_breaks_promises_when_replicas_are_further_behind_than_its_pin(registers: Cluster):
    replicant = site.settings("time", PIN_SECONDS=0.1, MAX_LAG=None)
    with site.site(registers, replicant):
        for replica in registers.replicas:
            replica.delay(2.0)
        try:
            history = threads.run(
                registers,
                seed=SEED,
                seconds=FINDS_WITHIN,
                think=0.3,
                with_faults=False,
                returns=0.0,
                until=breaks(READ_YOUR_WRITES),
            )
        finally:
            for replica in registers.replicas:
                replica.delay(0)
    assert breaks(READ_YOUR_WRITES)(history), summary(history)


# Planted bugs


PLANTED = [
    (planted.one_has_caught_up, violations, "tokens"),
    # It takes a client that only reads and has to move: from a server that was restarted.
    (planted.probe_taken_for_what_was_read, violations, "tokens"),
    (planted.wait_inside_an_open_snapshot, breaks(READ_YOUR_WRITES), "tokens"),
    # Any token would be a cause.
    (planted.rollback_published, needless_pins, "requests"),
]


@on_one_engine
@pytest.mark.parametrize(("bug", "found", "link"), PLANTED, ids=[bug.__name__ for bug, *_ in PLANTED])
def test_each_planted_bug_is_found(registers: Cluster, bug: Any, found: Callable[[History], object], link: str):
    # Before there is any connection: what is planted takes effect on new ones.
    with bug(), site.site(registers, site.settings("session")):
        run_until(found, registers, link, restarts=bug is planted.probe_taken_for_what_was_read)


@on_one_engine
def test_a_rollback_published_where_nobody_ever_comes(registers: Cluster):
    with planted.rollback_published_at(registers.engine), site.site(registers, site.settings("session")):
        run_until(needless_pins, registers, "tokens")


@on_one_engine
@pytest.mark.parametrize("carrier", [planted.token_taken_too_early, planted.token_lost])
def test_a_token_that_is_not_the_responses_last(session: Cluster, carrier: Any):
    run_until(violations, session, lambda: carrier(Tokens()))


# The checker, on a product that is known to be right, and wrong


@on_one_engine
def test_a_product_made_by_hand_holds(registers: Cluster):
    by_hand = HandMade(registers)
    with site.site(registers, site.settings("session"), DATABASE_ROUTERS=[by_hand]):
        check(threads.run(registers, seed=SEED, seconds=2.0, link=lambda: by_hand, think=0.02), kept(registers))


@on_one_engine
@pytest.mark.parametrize("bug", BUGS)
def test_and_each_of_its_bugs_is_found(registers: Cluster, bug: str):
    by_hand = HandMade(registers, bug)
    with site.site(registers, site.settings("session"), DATABASE_ROUTERS=[by_hand]):
        run_until(violations, registers, lambda: by_hand)


@on_one_engine
@pytest.mark.parametrize("carrier", [planted.token_taken_too_early, planted.token_lost])
def test_and_a_token_that_is_not_the_responses_last(registers: Cluster, carrier: Any):
    by_hand = HandMade(registers)
    with site.site(registers, site.settings("session"), DATABASE_ROUTERS=[by_hand]):
        run_until(violations, registers, lambda: carrier(by_hand))


@on_one_engine
def test_replicas_can_be_behind_by_less_than_a_second(registers: Cluster):
    with behind(registers, 0.3):
        registers.primary.query("UPDATE consistency_register SET value = -value", site.DATABASE)
        start, position = time.monotonic(), registers.primary.position()
        for replica in registers.replicas:
            assert replica.reached(position, 10.0)
            assert time.monotonic() - start > 0.25
        registers.primary.query("UPDATE consistency_register SET value = -value", site.DATABASE)
