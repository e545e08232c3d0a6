"""What one look at a member found, and the one question it takes."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from replicant._core import Position
from replicant.engines.query import ask

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: In a server's identity, what stands before the time when it was started.
SINCE = " since "

#: What PostgreSQL's servers are told apart by. Their start, in microseconds, does so without the address.
_BY_ADDRESS = re.compile(rf"(?P<system>[0-9]+ )?\S* (?P<port>[0-9]+(?: .*)?){SINCE}(?P<start>[0-9]+\.[0-9]+)")

#: Where a connection remembers which of an engine's questions its server answers.
_ATTRIBUTE = "_replicant_question"


class Sample(NamedTuple):
    """What one look at a member found."""

    alias: str
    server: str
    """Which server answered, and when it was started: two different servers never have the same text, nor have two runs
    of one server, since a server may come back with older data than it had. Empty if none answered."""
    is_writable: bool
    """Whether it takes writes; False as well if it did not answer."""
    position: Position | None
    """What a primary has written, or a replica applied: at least this, ever since ``asked_at``. None: cannot be had."""
    asked_at: int
    """``time.monotonic_ns()`` before the question was sent. The processes of a host share that clock."""
    latency: float
    """How long the answer took, in seconds."""
    error: str | None = None
    """Why there was none."""
    is_gone: bool = False
    """It refused, or did not answer in time. Other errors say nothing of the server: a wrong password, for one."""
    replicates: bool | None = None
    """Whether it follows another server; None if it was not asked, or would not say. Asked only where it matters."""
    reported_lag: float | None = None
    """:attr:`Reported.lag`, as it was asked for last."""
    configured_delay: float | None = None
    """:attr:`Reported.delay`, as it was asked for last."""

    @property
    def identity(self) -> str:
        """Which server answered, whenever it was started: what other servers call it."""
        return self.server.partition(SINCE)[0]

    @property
    def run(self) -> str:
        """The run of a server, the same by whatever address it was reached.

        A pooler, a socket and the monitor's own way may lead to one server.
        """
        found = _BY_ADDRESS.fullmatch(self.server)
        return self.server if found is None else f"{found['system']}{found['port']}{SINCE}{found['start']}"


class Reported(NamedTuple):
    """What a replica says of its own lag, in seconds; None where it does not say, or the user may not ask."""

    lag: float | None = None
    """How far it is behind, as the server counts."""
    delay: float | None = None
    """The delay that it is configured to have."""


class Answer(NamedTuple):
    """A server's answer: the row, when the question was sent, and how long it took."""

    row: tuple[Any, ...]
    asked_at: int
    latency: float


def ask_first_known(
    connection: BaseDatabaseWrapper,
    questions: Sequence[str],
    is_refusal: Callable[[Exception], object] = lambda error: False,
) -> Answer:
    """Ask for one row: the first of the ``questions`` that this server answers.

    The later ones are simpler. Where a server has no such variable or function, or keeps it from this user, which
    ``is_refusal(error)`` tells, the next one is asked, and on this connection from then on at once.

    Raises Django's database errors for all else.
    """
    number = connection.__dict__.get(_ATTRIBUTE, 0)
    while True:
        asked_at = time.monotonic_ns()
        try:
            row = ask(connection, questions[number])
        except Exception as error:
            if number + 1 == len(questions) or not is_refusal(error):
                raise
            number += 1
            connection.__dict__[_ATTRIBUTE] = number
        else:
            return Answer(row, asked_at, (time.monotonic_ns() - asked_at) / 1e9)


def position_of(kind: str, text: str | None) -> Position | None:
    """The position a server printed; None if it printed none, or one beyond what the core takes."""
    try:
        return None if text is None else Position(kind, text)
    except ValueError:
        return None
