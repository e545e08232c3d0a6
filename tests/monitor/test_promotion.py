"""Who is the primary, judged by what the members say."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import pytest

from replicant._core import Position
from replicant.connections.placement import Placement
from replicant.engines import Sample
from replicant.monitor.promotion import Judge

MEMBERS = ("default", "replica1", "replica2")
BEFORE = Placement.of_settings(MEMBERS)
AFTER = Placement({"default": "replica1", "replica1": "default", "replica2": "replica2"}, frozenset({"default"}))

_times = itertools.count(1)


def said(server: str, writable: bool, applied: str | None = None, **others: Any) -> Sample:
    position = None if applied is None else Position("postgresql", applied)
    return Sample(server, server, writable, position, next(_times) * 10**9, 0.001, **others)


def writes(server: str, applied: str | None = None, replicates: bool | None = False) -> Sample:
    return said(server, True, applied, replicates=replicates)


def reads(server: str, applied: str | None = None, replicates: bool | None = None) -> Sample:
    return said(server, False, applied, replicates=replicates)


def gone(server: str) -> Sample:
    return said(server, False, error="no answer", is_gone=True)


def judged(*cycles: list[Sample], judge: Judge | None = None, before: Placement = BEFORE) -> Placement:
    judge = judge or Judge("default")
    for samples in cycles:
        before = judge.judge(before, samples)
    return before


HEALTHY = [writes("default"), reads("replica1"), reads("replica2")]
PROMOTED = [gone("default"), writes("replica1"), reads("replica2")]


def test_while_all_is_well_nobody_moves():
    assert judged(HEALTHY, HEALTHY) == BEFORE


def test_a_dead_primary_alone_moves_nobody():
    assert judged(*[[gone("default"), reads("replica1"), reads("replica2")]] * 5) == BEFORE


def test_a_dead_primary_is_replaced_by_the_second_look_that_finds_another_promoted():
    assert judged(PROMOTED) == BEFORE
    assert judged(PROMOTED, PROMOTED) == AFTER


def test_the_two_looks_must_agree():
    other = [gone("default"), reads("replica1"), writes("replica2")]
    assert judged(PROMOTED, other) == BEFORE
    assert judged(PROMOTED, HEALTHY, PROMOTED) == BEFORE


def test_a_look_that_is_not_over_changes_nothing_between_two():
    silent = [writes("replica1"), reads("replica2")]
    assert judged(PROMOTED, silent, PROMOTED) == AFTER
    late = [gone("default"), reads("replica2")]
    assert judged(PROMOTED, late, PROMOTED) == AFTER
    assert judged(PROMOTED, [gone("default"), gone("replica1")], PROMOTED) == BEFORE


def test_a_primary_that_says_itself_that_it_takes_no_writes_is_replaced_at_once():
    assert judged([reads("default"), writes("replica1"), reads("replica2")]) == AFTER
    assert judged([reads("default"), reads("replica1"), reads("replica2")]) == BEFORE


def test_an_error_that_says_nothing_of_the_server_moves_nobody():
    refused = said("default", False, error="wrong password")
    assert judged(*[[refused, writes("replica1"), reads("replica2")]] * 3) == BEFORE


def test_of_two_that_take_writes_none_replaces_the_primary(caplog: pytest.LogCaptureFixture):
    for primary in (writes("default"), gone("default"), reads("default")):
        caplog.clear()
        with caplog.at_level(logging.ERROR, "replicant"):
            both = [primary, writes("replica1"), writes("replica2")]
            assert judged(both, both, both) == BEFORE
        assert len(caplog.records) == 1


def test_a_replica_that_always_took_writes_was_not_promoted():
    open_to_all = [gone("default"), writes("replica1", replicates=True), reads("replica2")]
    assert judged(open_to_all, open_to_all) == BEFORE
    # Nor if it will not say whether it replicates, unless it was read-only before.
    untold = [gone("default"), writes("replica1", replicates=None), reads("replica2")]
    assert judged(untold, untold) == BEFORE
    assert judged(HEALTHY, untold, untold) == AFTER


def test_only_those_are_asked_if_they_replicate_whose_answer_matters():
    judge = Judge("default")
    assert [judge.doubts(BEFORE, sample) for sample in HEALTHY] == [False, False, False]
    assert judge.doubts(BEFORE, writes("replica1"))
    assert [judge.doubts(AFTER, sample) for sample in PROMOTED] == [True, False, False]


def test_an_old_primary_that_comes_back_writable_is_not_believed():
    back = [writes("default"), writes("replica1"), reads("replica2")]
    assert judged(back, back, before=AFTER) == AFTER
    alone = [writes("default"), gone("replica1"), reads("replica2")]
    assert judged(alone, alone, alone, before=AFTER) == AFTER
    # Whatever the present one says of itself.
    stepped_down = [writes("default"), reads("replica1"), reads("replica2")]
    assert judged(*[stepped_down] * 5, before=AFTER) == AFTER


def test_an_outsider_whose_primary_takes_no_writes_waits_for_a_third_one():
    stepped_down = [writes("default"), reads("replica1"), reads("replica2")]
    promoted = [writes("default"), reads("replica1"), writes("replica2")]
    after = judged(stepped_down, promoted, before=AFTER)
    assert after.servers["default"] == "replica2"
    assert after.outsiders == {"default", "replica1"}


def test_a_candidate_has_what_the_present_primary_has_while_that_one_answers(caplog: pytest.LogCaptureFixture):
    def gtids(server: str, to: int, *, writable: bool, replicates: bool | None = False) -> Sample:
        position = Position("mysql", f"3e11fa47-71ca-11e1-9e33-c80aa9429562:1-{to}")
        return Sample(server, server, writable, position, next(_times) * 10**9, 0.001, replicates=replicates)

    def look(present: Sample, to: int) -> list[Sample]:
        return [present, gtids("replica1", to, writable=True), reads("replica2")]

    stepped_down = gtids("default", 7, writable=False)
    with caplog.at_level(logging.ERROR, "replicant"):
        assert judged(*[look(stepped_down, 6)] * 3) == BEFORE
    assert "lacks writes of the present primary" in caplog.text
    assert judged(look(stepped_down, 7)) == AFTER
    # What it had written, also where what it says of itself now is less.
    said_before = [gtids("default", 7, writable=True), reads("replica1"), reads("replica2")]
    assert judged(said_before, look(gtids("default", 5, writable=False), 6)) == BEFORE
    # One that is gone cannot be compared with.
    assert judged(look(gone("default"), 6), look(gone("default"), 6)) == AFTER


def test_on_postgresql_a_candidate_is_not_behind_in_the_log():
    before = [writes("default", "1:0/50"), reads("replica1", "1:0/50"), reads("replica2", "1:0/50")]
    for place, after in (("2:0/4F", BEFORE), ("2:0/50", AFTER)):
        assert judged(before, [reads("default", "1:0/60"), writes("replica1", place), reads("replica2")]) == after


def test_a_former_primary_that_the_present_one_replicates_from_is_the_primary_again():
    # While no process looked, it was made that in an orderly way.
    def cycle(replicates: bool | None, applied: str) -> list[Sample]:
        return [writes("default", "1:0/70"), reads("replica1", applied, replicates), reads("replica2")]

    assert judged(*[cycle(True, "1:0/70")] * 2, before=AFTER).servers == BEFORE.servers
    assert judged(cycle(True, "1:0/70"), before=AFTER) == AFTER
    assert judged(*[cycle(None, "1:0/70")] * 4, before=AFTER) == AFTER
    assert judged(*[cycle(True, "1:0/80")] * 4, before=AFTER) == AFTER


def test_what_was_found_for_another_placement_counts_no_more():
    judge = Judge("default")
    assert judge.judge(BEFORE, PROMOTED) == BEFORE
    assert judge.is_undecided
    adopted = AFTER._replace(generation=1)
    assert judge.judge(adopted, [gone("replica1"), writes("replica2"), reads("default")]) == adopted
    # The second look of this placement, not the third of all.
    assert judge.judge(adopted, [gone("replica1"), writes("replica2"), reads("default")]) != adopted


def test_without_positions_an_outsider_has_to_say_that_it_replicates():
    for replicates, after in ((None, AFTER), (False, AFTER), (True, AFTER._replace(outsiders=frozenset()))):
        assert judged([reads("default", replicates=replicates), writes("replica1")], before=AFTER) == after


def test_an_old_primary_serves_when_it_has_what_was_written_since_and_nothing_else():
    judge = Judge("default")
    placement = AFTER

    def look(old: Sample, applied: str) -> bool:
        nonlocal placement
        placement = judged([old, writes("replica1", applied)], judge=judge, before=placement)
        return not placement.outsiders

    assert not look(gone("default"), "2:0/50")
    # Another timeline: it was restarted, and follows nobody.
    assert not look(reads("default", "1:0/60"), "2:0/50")
    assert not look(reads("default", "1:0/60"), "2:0/70")
    # It follows, and has yet to arrive at what the new one had when it was first asked.
    assert not look(reads("default", "2:0/40", replicates=True), "2:0/70")
    assert look(reads("default", "2:0/50", replicates=True), "2:0/70")
    assert placement.servers == AFTER.servers


def test_an_old_primary_that_has_more_than_the_new_one_does_not_serve():
    ahead = [said("default", False, "2:0/90", replicates=True), writes("replica1", "2:0/70")]
    assert judged(*[ahead] * 5, before=AFTER) == AFTER


def test_an_old_primary_that_says_that_it_does_not_replicate_does_not_serve():
    still = [reads("default", "2:0/70", replicates=False), writes("replica1", "2:0/70")]
    assert judged(*[still] * 5, before=AFTER) == AFTER


def test_what_is_found_of_servers_is_told_of_those_behind_whose_aliases_they_are():
    told = AFTER.labelled([reads("default", "1:0/60"), writes("replica1", "2:0/50"), reads("replica2", "2:0/50")])
    assert [sample.alias for sample in told] == ["replica1", "default", "replica2"]
    old, new, _ = told
    assert (old.is_gone, old.position) == (True, None)
    assert (new.is_writable, new.error) == (True, None)


def test_an_endpoint_that_follows_by_itself_is_left_alone(caplog: pytest.LogCaptureFixture):
    # "default" is an endpoint, which leads to the promoted server before anything else is noticed.
    endpoint = writes("default")._replace(server="replica1")
    with caplog.at_level(logging.ERROR, "replicant"):
        assert judged([endpoint, writes("replica1"), reads("replica2")]) == BEFORE
        # Or later: then the aliases are again what their settings say.
        assert judged([endpoint, writes("replica1"), reads("replica2")], before=AFTER) == BEFORE
    assert not caplog.records
