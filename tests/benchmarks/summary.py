"""Medians and their spread, and how they are shown."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

#: A turn counts if the empty loop around it was no slower than this times its best.
UNDISTURBED = 1.12
#: The fewest turns that a median is made of, disturbed or not.
FEWEST = 7


@dataclass(frozen=True)
class Turn:
    """One measurement, and how long an empty loop took around it."""

    value: float
    reference: float


@dataclass(frozen=True)
class Spread:
    """A median and the quartiles around it, of ``turns`` measurements."""

    median: float
    low: float
    high: float
    turns: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        if len(values) < 2:
            return cls(values[0], values[0], values[0], len(values))
        low, median, high = statistics.quantiles(values, n=4, method="inclusive")
        return cls(median, low, high, len(values))

    def plain(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        return f"{self.median:.0f} ±{(self.high - self.low) / 2:.0f}"


def undisturbed(turns: Sequence[Turn], best: float) -> list[float]:
    """The values of the turns in which nobody slowed the machine down; ``best`` is the reference of such a turn.

    Where there are too few of them, the calmest turns there are.
    """
    ordered = sorted(turns, key=lambda turn: turn.reference)
    calm = [turn for turn in ordered if turn.reference <= UNDISTURBED * best]
    return [turn.value for turn in (calm if len(calm) >= FEWEST else ordered[:FEWEST])]


def best_reference(turns: Sequence[Turn]) -> float:
    """What an empty loop takes while nobody slows the machine down: one in fifty is faster by luck."""
    return sorted(turn.reference for turn in turns)[len(turns) // 50]


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table as text: the first column to the left, the others to the right."""
    widths = [max(len(row[column]) for row in [head, *rows]) for column in range(len(head))]

    def line(cells: Sequence[str]) -> str:
        first, *rest = (cell.ljust(widths[0]) if not at else cell.rjust(widths[at]) for at, cell in enumerate(cells))
        return "  ".join([first, *rest]).rstrip()

    return "\n".join([line(head), "  ".join("-" * width for width in widths), *(line(row) for row in rows)])


def progress(text: str = "") -> None:
    """Say on a terminal how far it has come, over what was said before; with no text, go on to a new line."""
    if sys.stdout.isatty():
        print(f"\r{text} ", end="" if text else "\n", flush=True)
