"""What an error says about the server it came from, whatever the engine."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import Any

from replicant.engines.redaction import redacted

_LONGEST = 300


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
    DEMOTED = "demoted"
    """The server takes no writes; perhaps it is not the primary any more."""
    CONFLICT = "conflict"
    """A standby had to apply what the statement still wanted to see; elsewhere, or later, it works."""


def described(error: BaseException, settings: Mapping[str, Any]) -> str:
    """An error in one line, without what is secret in the ``settings`` of the database that it came from."""
    text = " ".join(redacted(str(error), settings).split())
    return f"{type(error).__name__}: {text}"[:_LONGEST]
