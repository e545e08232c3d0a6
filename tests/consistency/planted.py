"""Bugs to plant in the product, one seam each. The checker must catch every one of them, or it is no use.

A seam that is renamed fails loudly: nothing is planted where there is nothing to patch. Two bugs are planted in what
carries the tokens, which is outside of the product: ``token_taken_too_early`` and ``token_lost``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from unittest import mock

from replicant.tracking import Tracker


@contextmanager
def rollback_published() -> Iterator[None]:
    """What was rolled back counts as written. It shows as pins without a cause (``verify.needless_pins``), and, where
    the position is one that nobody ever reaches, as clients that never return to replicas (``verify.never_returned``).

    Seam: ``Tracker._after_end``, called when a transaction has ended otherwise than by a commit. Takes effect on
    connections made inside the block.
    """
    original = Tracker._after_end

    def planted(self: Tracker, connection: Any) -> None:
        self._publish(connection)
        original(self, connection)

    with mock.patch.object(Tracker, "_after_end", planted):
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


# Not planted yet, since what they patch is not there yet:
#
# unstick when one replica has caught up
#     Wrap ``replicant.causality.observe``: before passing the samples on, give every replica's sample the largest
#     position that any replica of the cycle has. A scope is then let go as soon as the first one has what it wrote.
# the probe's position taken for what a read saw
#     Wrap ``observe`` to remember each alias's last sample, and patch the engine's ``position`` (what a scope asks of
#     the replica it leaves) to answer with that. For tokens: pass on the primary's samples with ``asked_at`` a second
#     later, so that one from before the token was issued counts as one after it.
# a wait inside an open snapshot
#     Have the question whether the connection to a replica is in a transaction (where a position is required) answered
#     with no.
# a rollback published, with positions
#     Patch the engine's ``captured`` to answer, after a ROLLBACK, with a position that the server never reaches.
