"""What an error says about the server it came from, whatever the engine."""

from __future__ import annotations

import enum


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
