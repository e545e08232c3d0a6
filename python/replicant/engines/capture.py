"""The outcome of a statement or a COMMIT as the driver reports it, before any query to the server."""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

from replicant._core import Position


class Capture(Enum):
    """The outcome when there is no position."""

    NOTHING = "nothing"
    """Surely nothing was published: a rollback, a read-only transaction, an UPDATE that matched nothing."""
    UNKNOWN = "unknown"
    """Only a query can tell the outcome."""


NOTHING: Final = Capture.NOTHING
UNKNOWN: Final = Capture.UNKNOWN

#: A position (everything up to it was published), NOTHING or UNKNOWN.
Captured: TypeAlias = Position | Literal[Capture.NOTHING, Capture.UNKNOWN]
