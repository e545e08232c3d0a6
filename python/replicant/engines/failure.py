"""What an error says about the server it came from, whatever the engine."""

from __future__ import annotations

import enum
import traceback
from collections.abc import Mapping
from typing import Any

from replicant.engines.redaction import redacted

_LONGEST = 300
#: Where an error keeps that it ended an attempt to connect.
_CONNECTING = "_replicant_connecting"


class Failure(enum.Enum):
    """What is wrong when a statement, or an attempt to connect, has failed."""

    NOTHING = "nothing"
    """Nothing is wrong with the server: the statement, its user's rights, a lock that was waited for too long."""
    GONE = "gone"
    """Nobody there, or shutting down."""
    ENDED = "ended"
    """This connection has ended, perhaps only this one."""
    FULL = "full"
    """The server takes no more connections."""
    REFUSED = "refused"
    """The server answered and refused the connection, and the driver does not say why: perhaps the server starts,
    perhaps the password is wrong."""
    DEMOTED = "demoted"
    """The server takes no writes; perhaps it is not the primary any more."""
    CONFLICT = "conflict"
    """A standby had to apply what the statement still wanted to see; elsewhere, or later, it works."""


def mark_connecting(error: BaseException) -> None:
    """Note on an error, and on the driver's error that it comes from, that it ended an attempt to connect."""
    for each in (error, error.__cause__):
        if each is not None:
            each.__dict__[_CONNECTING] = True


def ended_connecting(error: BaseException) -> bool:
    """Whether an error ended an attempt to connect."""
    return _CONNECTING in error.__dict__


def described(error: BaseException, settings: Mapping[str, Any]) -> str:
    """An error in one line, without what is secret in the ``settings`` of the database that it came from."""
    text = " ".join(redacted(str(error), settings).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST]


def drop_frames(error: BaseException) -> None:
    """Let go of what the frames of an error hold.

    Where connecting takes too long, psycopg leaves its unfinished connection there, with a socket, in a cycle of
    references that only a collection of garbage would end.
    """
    chain: BaseException | None = error
    while chain is not None:
        traceback.clear_frames(chain.__traceback__)
        chain = chain.__cause__ or chain.__context__
