"""A token whose position cannot be compared any more is judged by time: from when it was made, or from its receipt."""

from __future__ import annotations

import time

import pytest

from replicant import tokens
from replicant._core import Position
from replicant.connections.causality import Causality
from tests.tokens.items import UUID, item
from tests.tokens.items import _clusters as _clusters
from tests.tokens.items import clock as clock
from tests.tokens.items import told as told


def pinned(required: tuple[Causality, ...] | None) -> list[str]:
    """The clusters of time pins that begin now; nothing else is required."""
    assert required is not None
    for each in required:
        assert each.written is not None
        assert each.written < 1
        assert each == item(each.cluster, written=each.written, received=each.received)
    return [each.cluster for each in required]


def test_a_cluster_that_is_gone_is_a_time_pin_on_every_cluster_from_its_receipt(told):
    assert pinned(told(item("gone", Position("mysql", f"{UUID}:1-5")), seconds=20)) == ["default", "other"]


def test_a_member_that_is_gone_is_a_time_pin_from_its_receipt(told):
    assert pinned(told(item(member="replica3", read=1), seconds=20)) == ["default"]
    assert pinned(told(item(written=0.5, member="replica3", read=1), seconds=20)) == ["default"]


def test_a_time_pin_ends_though_its_token_is_received_again_and_again(monkeypatch):
    text = tokens.encode([item("gone", Position("mysql", f"{UUID}:1-5"))])
    begun = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: begun)
    assert [each.written for each in tokens.decode(text)] == [0, 0]
    monkeypatch.setattr(time, "monotonic", lambda: begun + 4)
    assert [each.written for each in tokens.decode(text)] == [4, 4]
    monkeypatch.setattr(time, "monotonic", lambda: begun + 6)
    assert tokens.decode(text) == ()


def test_receipts_are_bounded(monkeypatch):
    monkeypatch.setattr(tokens, "_MOST_RECEIPTS", 100)
    for _ in range(500):
        tokens.decode(tokens.encode([item(written=1)]))
    assert len(tokens._receipts) <= 100


def test_no_other_token_stands_for_one_that_cannot_be_compared():
    for unknown in (
        item("gone", written=1),
        item(member="replica3", read=1),
        item("default", Odd()),
    ):
        assert not tokens.opened(tokens.encode([unknown])).is_understood
    known = item("default", Position("mysql", f"{UUID}:1-5"), 1, False, "replica1", 2)
    assert tokens.opened(tokens.encode([known])).is_understood
    # A mere preference binds nothing.
    assert tokens.opened(tokens.encode([item(written=1, member="replica3")])).is_understood


def test_a_read_from_nobody_in_particular_stays_one(told):
    assert told(item(read=1), seconds=2) == (item(read=3),)


def test_a_member_of_another_cluster_now_is_gone(told):
    now = {"default": {"REPLICAS": []}, "other": {"REPLICAS": ["replica1"], "MODELS": ["auth"]}}
    assert pinned(told(item(member="replica1", read=1), seconds=2, REPLICANT=now)) == ["default"]


def test_a_primary_that_is_a_replica_now_is_no_cluster(told):
    now = {"other": {"REPLICAS": ["default"], "MODELS": ["auth"]}}
    assert pinned(told(item("default", written=9), seconds=2, REPLICANT=now)) == ["other"]


class Odd:
    """A position of a kind that only newer code knows."""

    kind = "oracle"

    def __str__(self) -> str:
        return "SCN 4711"


def test_a_position_of_a_kind_unknown_is_a_time_pin_from_its_receipt(told):
    assert pinned(told(item("default", Odd(), 9), seconds=20)) == ["default"]


def test_a_token_of_another_version_is_a_time_pin_on_every_cluster(clock, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tokens, "_VERSION", tokens._VERSION + 1)
    text = tokens.encode([item("default", Position("mysql", f"{UUID}:1-5"))])
    monkeypatch.setattr(tokens, "_VERSION", tokens._VERSION - 1)
    clock.now += 30
    assert pinned(tokens.decode(text)) == ["default", "other"]
    assert not tokens.opened(text).is_understood
    assert tokens.decode(text, max_age=20) is None
