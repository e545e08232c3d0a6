"""What one look at a member found, and how an engine takes it: one question, one round trip."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from replicant._core import Position

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a connection remembers which of an engine's questions its server answers.
_ATTRIBUTE = "_replicant_question"


class Sample(NamedTuple):
    """What one look at a member found."""

    alias: str
    server: str
    """Which server answered: two that are different never have the same text; empty if none answered."""
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

    @classmethod
    def of_failure(cls, alias: str, asked_at: int, error: str) -> Sample:
        """The sample of a member that did not answer."""
        return cls(alias, "", False, None, asked_at, (time.monotonic_ns() - asked_at) / 1e9, error)


class Answer(NamedTuple):
    """A server's answer to a question: the row, when the question was sent, and how long the answer took."""

    row: tuple[Any, ...]
    asked_at: int
    latency: float


def ask(connection: BaseDatabaseWrapper, questions: tuple[str, ...], refused: Any) -> tuple[int, Answer]:
    """Ask for one row, on the driver's own cursor; returns which of the ``questions`` was answered, too.

    The later questions are simpler. Where a server has no such variable or function, or keeps it from this user, which
    ``refused(error)`` tells, the next one is asked, and from then on at once: it stays one round trip.

    Raises ``django.db.DatabaseError`` for everything else.
    """
    number = connection.__dict__.get(_ATTRIBUTE, 0)
    while True:
        try:
            answer = _ask(connection, questions[number])
        except Exception as error:
            if number + 1 == len(questions) or not refused(error):
                raise
            number += 1
            connection.__dict__[_ATTRIBUTE] = number
        else:
            return number, answer


def _ask(connection: BaseDatabaseWrapper, sql: str) -> Answer:
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            asked_at = time.monotonic_ns()
            cursor.execute(sql)
            row = cursor.fetchone()
            answered_at = time.monotonic_ns()
        finally:
            cursor.close()
    return Answer(tuple(row), asked_at, (answered_at - asked_at) / 1e9)


def position_of(kind: str, text: str) -> Position | None:
    """The position a server printed; None if it is more than can be handled, which leaves judging by time."""
    try:
        return Position(kind, text)
    except ValueError:
        return None
