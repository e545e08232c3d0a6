"""What a decision costs must not creep up. See ``tests.benchmarks.gate``."""

from __future__ import annotations

import shutil

import pytest

from tests.benchmarks import gate, instructions
from tests.benchmarks.contenders import BUSY, REPLICANT, by_name
from tests.benchmarks.empty_extension import CannotBuild
from tests.benchmarks.gate import Cost


@pytest.mark.slow
def test_a_decision_takes_no_more_instructions_than_is_committed():
    try:
        cost = gate.measure()
    except (instructions.CannotCount, CannotBuild) as error:
        pytest.fail(str(error), pytrace=False)
    complaint = gate.complaint(cost, gate.committed())
    if complaint:
        pytest.fail(complaint, pytrace=False)


@pytest.mark.slow
def test_what_other_threads_do_is_not_counted():
    counted = instructions.count([by_name(REPLICANT), BUSY])
    quiet, beside = counted[REPLICANT], counted[BUSY.name]
    # The main thread hands the GIL over and takes it back, which cost it up to 7 %. When the
    # instructions of the other thread were counted too, they added 73 %.
    assert beside["direct"] == pytest.approx(quiet["direct"], rel=0.25)
    assert beside["empty direct"] == pytest.approx(quiet["empty direct"], rel=0.25)


def test_a_rise_above_five_per_cent_is_refused_with_both_figures():
    assert gate.complaint(Cost(decision=1049, empty=500), 2.0) is None
    complaint = gate.complaint(Cost(decision=1051, empty=500), 2.0)
    assert complaint is not None
    assert "2.102" in complaint
    assert "2.000" in complaint


def test_a_missing_valgrind_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(shutil, "which", lambda *arguments, **keywords: None)
    with pytest.raises(
        instructions.CannotCount, match=r"^valgrind is missing: install it with apt-get install valgrind$"
    ):
        gate.measure()
