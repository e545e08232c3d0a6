"""Bugs to plant in the product, one seam each. The checker must catch every one of them, or it is no use.

A seam that is renamed fails loudly: nothing is planted where there is nothing to patch. Two bugs are planted in what
carries the tokens, which is outside of the product: ``token_taken_too_early`` and ``token_lost``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from django.db.backends.base.base import BaseDatabaseWrapper

from replicant._core import Position
from replicant.connections import causality, observations
from replicant.connections.tracker import Tracker
from replicant.engines import UNKNOWN, Sample
from replicant.monitor import cluster_monitor, watch
from tests.consistency.history import PRIMARY

#: By how much later a probe is taken to have been, in nanoseconds: longer than a replica is usually behind.
_TOO_LATE = 5_000_000_000
#: Positions that no server of a run ever reaches.
UNREACHED = {"mysql": "00000000-0000-0000-0000-000000000001:1-9", "mariadb": "9-9-9", "postgresql": "1:FFFF/0"}


@contextmanager
def rollback_published() -> Iterator[None]:
    """What was rolled back counts as written. It shows as pins without a cause (``verify.needless_pins``).

    Seam: ``Tracker._after_end``, called when a transaction has ended otherwise than by a commit. Takes effect on
    connections made inside the block.
    """
    with _rollback_published(UNKNOWN):
        yield


@contextmanager
def rollback_published_at(engine: str) -> Iterator[None]:
    """The same, at a position that nobody ever reaches. Seam: as above."""
    with _rollback_published(Position(engine, UNREACHED[engine])):
        yield


def _rollback_published(captured: Any) -> AbstractContextManager[Any]:
    original = Tracker._after_end

    def planted(self: Tracker, connection: BaseDatabaseWrapper, failed: bool = False) -> None:
        self._publish(connection, captured)
        original(self, connection, failed)

    return mock.patch.object(Tracker, "_after_end", planted)


@contextmanager
def one_has_caught_up() -> Iterator[None]:
    """A scope is let go as soon as the first replica has what it wrote.

    Seam: ``monitor.consumer``, through which all that is known of the servers comes.
    """

    def planted(samples: Sequence[Sample]) -> None:
        found = [sample.position for sample in samples if sample.alias != PRIMARY and sample.position is not None]
        largest = next((one for one in found if all(one.contains(other) for other in found)), None)
        observations.observe(
            [sample if sample.alias == PRIMARY else sample._replace(position=largest) for sample in samples]
        )

    with mock.patch.object(watch, "consumer", planted):
        yield


@contextmanager
def probe_taken_for_what_was_read() -> Iterator[None]:
    """What a probe had found before a read is taken for what that read showed: in a scope that moves on, and for
    tokens, whose readers are let go by a position of the primary from before.

    Seams: ``causality.position``, and ``monitor.consumer``.
    """

    def position(replica: str) -> Position | None:
        sample = cluster_monitor.latest().get(replica)
        return None if sample is None else sample.position

    def consumer(samples: Sequence[Sample]) -> None:
        # All of it, or a replica that was restarted would wait for ever to be admitted.
        observations.observe(
            [
                sample._replace(asked_at=sample.asked_at + _TOO_LATE) if sample.alias == PRIMARY else sample
                for sample in samples
            ]
        )

    with mock.patch.object(causality, "position", position), mock.patch.object(watch, "consumer", consumer):
        yield


@contextmanager
def wait_inside_an_open_snapshot() -> Iterator[None]:
    """A replica is waited for, and read from, though a transaction is open on it whose snapshot is older.

    Seam: the core reads ``connection.autocommit`` to find that out, where Django's router calls it; it is told that no
    replica is in a transaction. Takes effect on connections made inside the block.
    """

    def get(self: BaseDatabaseWrapper) -> bool:
        asked_by_the_core = sys._getframe(1).f_code.co_filename.endswith("django/db/utils.py")
        return (asked_by_the_core and self.alias != PRIMARY) or self.__dict__["planted_autocommit"]

    def put(self: BaseDatabaseWrapper, value: bool) -> None:
        self.__dict__["planted_autocommit"] = value

    with mock.patch.object(BaseDatabaseWrapper, "autocommit", property(get, put), create=True):
        yield


class token_taken_too_early:
    """What links requests, but the response carries the token as it was when the request had just begun: as if the
    middleware had stored it before the view ran, or had stored the right one when the response was gone."""

    def __init__(self, link: Any) -> None:
        self._link = link
        self._token = ""

    @contextmanager
    def open(self, texts: Sequence[str]) -> Iterator[None]:
        with self._link.open(texts):
            self._token = self._link.token()
            yield

    def token(self) -> str:
        return self._token


class token_lost:
    """What links requests, but no response carries a token at all."""

    def __init__(self, link: Any) -> None:
        self._link = link

    def open(self, texts: Sequence[str]) -> AbstractContextManager[Any]:
        return self._link.open(texts)

    def token(self) -> str:
        self._link.token()
        return ""
