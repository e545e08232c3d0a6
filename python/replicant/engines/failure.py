"""The state of a server as an error shows it; the same values for every engine."""

from __future__ import annotations

import enum
import traceback
from collections.abc import Mapping
from typing import Any

from replicant.engines.redaction import redacted

_LONGEST = 300
#: The attribute of an error that marks it as the end of a connection attempt.
_CONNECTING = "_replicant_connecting"


class Failure(enum.Enum):
    """The reason why a statement or a connection attempt failed."""

    NOTHING = "nothing"
    """Nothing is wrong with the server. The cause is the statement, the user's privileges, or a lock timeout."""
    GONE = "gone"
    """The server does not answer, or it is shutting down."""
    ENDED = "ended"
    """This connection has ended. Other connections to the server may still work."""
    FULL = "full"
    """The server takes no more connections."""
    REFUSED = "refused"
    """The server answered and refused the connection, and the driver does not give the reason: perhaps the server is
    starting, perhaps the password is wrong."""
    DEMOTED = "demoted"
    """The server takes no writes; perhaps it is no longer the primary."""
    CONFLICT = "conflict"
    """A standby had to apply a change to rows that the statement still needed. The statement works on another server,
    or later."""


def mark_connecting(error: BaseException) -> None:
    """Mark an error, and the driver's error that caused it, as the end of a connection attempt."""
    for each in (error, error.__cause__):
        if each is not None:
            each.__dict__[_CONNECTING] = True


def ended_connecting(error: BaseException) -> bool:
    """Whether an error ended a connection attempt."""
    return _CONNECTING in error.__dict__


def described(error: BaseException, settings: Mapping[str, Any]) -> str:
    """An error in one line, without the secrets in the ``settings`` of its database."""
    text = " ".join(redacted(str(error), settings).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST]


def drop_frames(error: BaseException) -> None:
    """Release the objects that the frames of an error hold.

    When a connection attempt takes too long, psycopg leaves its unfinished connection, with a socket, in those frames,
    in a reference cycle that only the garbage collector would free.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
