"""What is known right after a statement or a COMMIT, before anybody asks the server."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

from replicant._core import Position


class Capture(Enum):
    """What is said where there is no position."""

    NOTHING = "nothing"
    """Surely nothing was published: a rollback, a read-only transaction, an UPDATE that matched nothing."""
    UNKNOWN = "unknown"
    """It cannot be told without a question."""


NOTHING: Final = Capture.NOTHING
UNKNOWN: Final = Capture.UNKNOWN

#: A position (this much was published), NOTHING or UNKNOWN.
Captured: TypeAlias = Position | Literal[Capture.NOTHING, Capture.UNKNOWN]
