"""A sample: the result of one probe of a member, and the one query that a probe sends."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from replicant._core import Position
from replicant.engines.query import ask

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: In the text that names a run of a server, the separator between the server and the time of its start.
SINCE = " since "

#: The parts of the text that names a run of a PostgreSQL server. The start, in microseconds, tells servers apart even
#: without the address.
_BY_ADDRESS = re.compile(rf"(?P<system>[0-9]+ )?\S* (?P<port>[0-9]+(?: .*)?){SINCE}(?P<start>[0-9]+\.[0-9]+)")

#: The attribute of a connection that keeps the index of the engine's query that its server answers.
_ATTRIBUTE = "_replicant_question"


class Sample(NamedTuple):
    """The result of one probe of a member."""

    alias: str
    server: str
    """The server that answered, and when it was started. Two servers never have the same text, and two runs of one
    server never have it either, because a server may come back with older data than it had. Empty if no server
    answered."""
    is_writable: bool
    """Whether the server takes writes; also False if it did not answer."""
    position: Position | None
    """The position that a primary has written, or that a replica has applied: the server has contained at least this
    position since ``asked_at``. None if the server cannot tell."""
    asked_at: int
    """``time.monotonic_ns()`` before the query was sent. The processes of a host share that clock."""
    latency: float
    """The time until the answer, in seconds."""
    error: str | None = None
    """The reason why there was no answer."""
    is_gone: bool = False
    """Whether the server refused, or did not answer in time. Other errors (for example a wrong password) say nothing
    about the server."""
    replicates: bool | None = None
    """Whether the server replicates from another one; None if this was not queried, or the server did not tell. Queried
    only when it matters."""
    reported_lag: float | None = None
    """:attr:`Reported.lag`, from the latest query for it."""
    configured_delay: float | None = None
    """:attr:`Reported.delay`, from the latest query for it."""

    @property
    def identity(self) -> str:
        """The server that answered, without the time of its start: the name that other servers use for it."""
        return self.server.partition(SINCE)[0]

    @property
    def run(self) -> str:
        """The run of a server, without the address by which it was reached.

        A pooler, a socket and the monitor's own route may lead to the same server.
        """
        found = _BY_ADDRESS.fullmatch(self.server)
        return self.server if found is None else f"{found['system']}{found['port']}{SINCE}{found['start']}"


class Reported(NamedTuple):
    """The lag that a replica reports, in seconds; None if it does not report it, or the user may not query it."""

    lag: float | None = None
    """The lag, as the server counts it."""
    delay: float | None = None
    """The configured replication delay."""


class Answer(NamedTuple):
    """A server's answer: the row, the time at which the query was sent, and the time until the answer."""

    row: tuple[Any, ...]
    asked_at: int
    latency: float


def ask_first_known(
    connection: BaseDatabaseWrapper,
    questions: Sequence[str],
    is_refusal: Callable[[Exception], object] = lambda error: False,
) -> Answer:
    """Query one row: send the ``questions`` in order until the server answers one.

    The later ones are simpler. If the server has no such variable or function, or this user may not read it
    (``is_refusal(error)`` is true), the next one is sent. From then on this connection starts with the query that was
    answered.

    Raises Django's database errors for every other failure.
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
    """The position that a server printed; None if it printed none, or one that the core does not accept."""
    try:
        return None if text is None else Position(kind, text)
    except ValueError:
        return None
