"""The judge, judged on histories of a few lines: for each rule one that keeps it and one that breaks it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.consistency.history import (
    Committing,
    Ended,
    Event,
    Failed,
    Fault,
    History,
    Initial,
    Opened,
    Quiet,
    Read,
    Token,
    Wrote,
)
from tests.consistency.verify import needless_pins, never_returned, stale_reads, summary, violations

START = Initial({"x": 1, "y": 2})


def wrote(client: str, write: int, register: str, outcome: str = "committed") -> list[Event]:
    """A write in autocommit."""
    return [Wrote(client, write, register), Committing(client, (write,)), Ended(client, (write,), outcome)]


def read(client: str, alias: str = "replica1", reason: str = "sticky", /, **values: int) -> Read:
    return Read(client, values, alias, reason)


def broken(*events: Event, primary_binds: bool = False) -> list[str]:
    return [violation.guarantee for violation in violations([START, *events], primary_binds=primary_binds)]


# Read your writes


def test_a_session_finds_what_it_wrote():
    assert broken(*wrote("ann", 10, "x"), read("ann", x=10)) == []


def test_a_session_does_not_find_what_it_wrote():
    assert broken(*wrote("ann", 10, "x"), read("ann", x=1)) == ["read your writes"]


def test_what_a_later_request_presents_the_token_of_is_its_own():
    first = [Opened("ann"), *wrote("ann", 10, "x"), Token("ann", 1)]
    assert broken(*first, Opened("ann", (1,)), read("ann", x=1)) == ["read your writes"]
    assert broken(*first, Opened("ann"), read("ann", x=1)) == []
    assert broken(*first, Opened("bob", (1,)), read("bob", x=1)) == ["read your writes"]


def test_a_token_stands_for_what_was_before_it():
    events = [Opened("ann"), Token("ann", 1), *wrote("ann", 10, "x"), Opened("ann", (1,)), read("ann", x=1)]
    assert broken(*events) == []


def test_a_newer_write_by_another_will_do():
    assert broken(*wrote("ann", 10, "x"), *wrote("bob", 11, "x"), read("ann", x=11)) == []


def test_of_writes_that_overlapped_either_may_have_been_last():
    overlapping = [
        Wrote("ann", 10, "x"),
        Committing("ann", (10,)),
        Wrote("bob", 11, "x"),
        Committing("bob", (11,)),
        Ended("bob", (11,), "committed"),
        Ended("ann", (10,), "committed"),
    ]
    assert broken(*overlapping, read("ann", x=11), read("bob", x=11)) == []
    assert broken(*overlapping, read("ann", x=10), read("ann", x=10)) == []


def test_what_was_rolled_back_need_not_be_found_and_what_is_unknown_may_be():
    rolled_back = [Wrote("ann", 10, "x"), Ended("ann", (10,), "rolled back")]
    assert broken(*rolled_back, read("ann", x=1)) == []
    unknown = wrote("ann", 10, "x", "unknown")
    assert broken(*unknown, read("ann", x=1)) == []
    assert broken(*unknown, read("ann", x=10), read("ann", x=1)) == ["monotonic reads"]


def test_a_transaction_finds_what_it_wrote():
    assert broken(Wrote("ann", 10, "x"), read("ann", "default", "transaction", x=10)) == []
    assert broken(Wrote("ann", 10, "x"), read("ann", x=1)) == ["read your writes"]


def test_a_server_that_lacks_an_older_write_lacks_what_came_after_it():
    """Bob's write of y is before Ann's of x in the log, so that a state without it has not got Ann's either."""
    assert broken(*wrote("bob", 10, "y"), *wrote("ann", 11, "x"), read("ann", y=2)) == ["read your writes"]
    assert broken(*wrote("ann", 11, "x"), *wrote("bob", 10, "y"), read("ann", y=2)) == []


# Monotonic reads


def test_a_session_goes_back():
    events = wrote("bob", 10, "x")
    assert broken(*events, read("ann", x=10), read("ann", "replica2", x=1)) == ["monotonic reads"]
    assert broken(*events, read("ann", x=1), read("ann", "replica2", x=10)) == []


def test_sessions_may_see_different_states():
    assert broken(*wrote("bob", 10, "x"), read("ann", x=10), read("eve", "replica2", x=1)) == []


def test_a_token_carries_what_was_read():
    first = [*wrote("bob", 10, "x"), Opened("ann"), read("ann", x=10), Token("ann", 1)]
    assert broken(*first, Opened("ann", (1,)), read("ann", x=1)) == ["monotonic reads"]


def test_a_read_that_was_kept_on_the_primary_binds_nobody():
    kept = [*wrote("bob", 10, "x"), read("ann", "default", "use_primary", x=10), read("ann", x=1)]
    assert broken(*kept) == []
    assert broken(*kept, primary_binds=True) == ["monotonic reads"]


def test_a_read_that_was_balanced_onto_the_primary_binds():
    assert broken(*wrote("bob", 10, "x"), read("ann", "default", "balanced", x=10), read("ann", x=1)) == [
        "monotonic reads"
    ]


# Monotonic writes


def test_whoever_finds_a_write_finds_those_before_it_of_its_session():
    events = [*wrote("bob", 10, "x"), *wrote("bob", 11, "y"), read("ann", y=11)]
    assert broken(*events, read("ann", x=10)) == []
    # The writes did not overlap, so the log alone says it, too: reads went back.
    assert broken(*events, read("ann", x=1)) == ["monotonic reads", "monotonic writes"]


def test_writes_of_one_transaction_are_found_together():
    events = [
        Wrote("bob", 10, "x"),
        Wrote("bob", 11, "y"),
        Committing("bob", (10, 11)),
        Ended("bob", (10, 11), "committed"),
        read("ann", y=11),
    ]
    assert broken(*events, read("ann", x=10)) == []
    assert broken(*events, read("ann", x=1)) == ["monotonic writes"]


def test_what_a_savepoint_took_back_is_not_among_them():
    events = [
        Wrote("bob", 10, "x"),
        Ended("bob", (10,), "rolled back"),
        Wrote("bob", 11, "y"),
        Committing("bob", (11,)),
        Ended("bob", (11,), "committed"),
        read("ann", y=11),
    ]
    assert broken(*events, read("ann", x=1)) == []


# Writes follow reads


def test_whoever_finds_a_write_finds_what_its_writer_had_found():
    events = [*wrote("eve", 10, "x"), read("bob", x=10), *wrote("bob", 11, "y"), read("ann", y=11)]
    assert broken(*events, read("ann", x=10)) == []
    assert broken(*events, read("ann", x=1)) == ["monotonic reads", "writes follow reads"]


def test_a_writer_may_have_read_on_the_primary():
    events = [
        Wrote("bob", 11, "y"),
        Wrote("eve", 10, "x"),
        Committing("eve", (10,)),
        read("bob", "default", "transaction", x=10),
        Wrote("bob", 12, "y"),
        Committing("bob", (12,)),
        Ended("eve", (10,), "committed"),
        Ended("bob", (12,), "committed"),
        read("ann", y=12),
    ]
    assert "writes follow reads" in broken(*events, read("ann", x=1))


def test_what_was_found_is_handed_on_from_writer_to_writer():
    events = [
        *wrote("eve", 10, "x"),
        *[read("dan", x=10), *wrote("dan", 11, "y")],
        *[read("bob", y=11), *wrote("bob", 12, "z"), read("ann", z=12)],
    ]
    found = violations([Initial({"x": 1, "y": 2, "z": 3}), *events, read("ann", x=1)])
    assert "writes follow reads" in [violation.guarantee for violation in found]


# Beside them


def test_one_statement_reads_one_state():
    events = [*wrote("bob", 10, "x"), *wrote("bob", 11, "y")]
    assert broken(*events, read("ann", x=10, y=2)) == []
    assert broken(*events, read("ann", x=1, y=11)) == ["one state"]


def test_only_what_was_committed_is_found():
    assert broken(Wrote("bob", 10, "x"), read("ann", x=10)) == ["committed"]
    assert broken(Wrote("bob", 10, "x"), Ended("bob", (10,), "rolled back"), read("bob", x=10)) == ["committed"]


def test_a_read_proves_a_commit_that_was_not_answered_yet():
    committing = [Wrote("bob", 10, "x"), Committing("bob", (10,)), read("ann", x=10)]
    assert broken(*committing) == []
    assert broken(*committing, read("ann", "replica2", x=1)) == ["monotonic reads"]


def test_a_replica_may_be_ahead_of_the_primary():
    committing = [Wrote("bob", 10, "x"), Committing("bob", (10,)), read("ann", x=10)]
    behind = read("ann", "default", "pinned", x=1)
    assert broken(*committing, behind, Ended("bob", (10,), "committed")) == []
    # Acknowledged while the read was on its way, perhaps; and before it was sent.
    acknowledged = [*committing, Ended("bob", (10,), "committed")]
    assert broken(*acknowledged, behind) == []
    assert broken(*acknowledged, read("ann", x=10), behind) == ["monotonic reads"]


def test_when_all_is_quiet_nothing_is_lacking():
    assert broken(*wrote("bob", 10, "x"), read("ann", x=1)) == []
    assert broken(*wrote("bob", 10, "x"), Quiet(), read("ann", x=1)) == ["nothing lost"]


def test_a_state_from_before_the_beginning_is_older_than_all():
    assert broken(read("ann", x=-5)) == []
    assert broken(read("ann", x=1), read("ann", x=-5)) == ["monotonic reads"]


def test_a_number_that_nobody_wrote_is_an_error():
    with pytest.raises(KeyError):
        broken(read("ann", x=99))


def test_a_violation_says_what_was_missing_and_why():
    found = violations([START, *wrote("bob", 10, "y"), *wrote("ann", 11, "x"), read("ann", y=2)])
    assert [str(violation) for violation in found] == [
        "read your writes: event 7, ann read y on replica1 (sticky) and found write 2, not 10, which is before write 11"
    ]


def test_a_statement_is_stale_once_however_many_promises_it_broke():
    events = [*wrote("bob", 10, "x"), *wrote("bob", 11, "y"), read("ann", x=10, y=11), read("ann", x=1, y=2)]
    found = violations([START, *events])
    assert len(found) > 2
    assert stale_reads(found) == 1


# Liveness


def test_a_client_must_come_back_to_replicas_when_all_is_quiet():
    before = [read("ann"), read("bob"), Quiet()]
    after = [Opened("ann"), read("ann", "default", "pinned"), Opened("bob"), read("bob", "default", "pinned")]
    assert never_returned([*before, *after]) == ["ann", "bob"]
    assert never_returned([*before, *after, read("bob")]) == ["ann"]
    assert never_returned([*before, Opened("ann"), Failed("ann", "refused")]) == ["ann"]


def test_a_pin_needs_a_cause():
    pinned = read("ann", "default", "pinned")
    rolled_back = [Wrote("ann", 10, "x"), Ended("ann", (10,), "rolled back")]
    assert needless_pins([*rolled_back, pinned]) == [(2, pinned)]
    assert needless_pins([*wrote("ann", 10, "x"), pinned]) == []
    assert needless_pins([*wrote("ann", 10, "x", "unknown"), pinned]) == []
    assert needless_pins([read("ann"), pinned]) == []
    assert needless_pins([*wrote("bob", 10, "x"), Token("bob", 1), Opened("ann", (1,)), pinned]) == []
    assert len(needless_pins([*wrote("bob", 10, "x"), Token("bob", 1), Opened("ann"), pinned])) == 1


# Keeping a history


def test_a_history_in_a_file_is_judged_the_same(tmp_path: Path):
    history = History([START, Opened("ann", ()), *wrote("ann", 10, "x"), Fault("pause replica1")], {"seed": 7})
    history.add(Token("ann", history.new_token()))
    history.add(Opened("ann", (1,)))
    history.add(read("ann", x=1))
    history.save(tmp_path / "found" / "history.jsonl")
    again = History.load(tmp_path / "found" / "history.jsonl")
    assert again.about == {"seed": 7}
    assert again.events == history.events
    assert violations(again) == violations(history) != []
    assert again.new_write() == 3
    assert summary(again) == {
        "requests": 2,
        "reads": {"replica1": 1},
        "reasons": {"sticky": 1},
        "writes": {"committed": 1},
        "failed": 0,
        "faults": 1,
    }
