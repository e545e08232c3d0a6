"""How far behind the replicas are told to be, and how the bar's sliders change that while the site runs.

Whoever runs the replicas knows: that is ``demo.py``, in the same process as the site. Elsewhere there are no sliders.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

#: What a slider offers beside what the demo began with, in seconds.
STOPS = (0.0, 0.05, 0.5, 5.0)


@dataclass
class Delays:
    """Times are in seconds, by alias."""

    told: dict[str, float]
    """How far behind each replica is told to be."""
    tell: Callable[[str, float], None]
    """Tells a replica; returns when it knows."""
    age: Callable[[str], float | None] = lambda alias: None
    """The age of the state a replica shows, where nobody counts positions."""
    stops: list[float] = field(init=False)

    def __post_init__(self) -> None:
        self.stops = sorted({*STOPS, *self.told.values()})

    def set(self, alias: str, stop: int) -> None:
        """Move a slider. Raises ``LookupError`` for an alias or a stop there is not."""
        seconds = dict(enumerate(self.stops))[stop]
        if self.told[alias] != seconds:
            self.tell(alias, seconds)
            self.told[alias] = seconds


#: Those of this process's demo; None where no demo runs.
of_the_demo: Delays | None = None


def in_words(seconds: float | None) -> str:
    """A time as short as the bar has room for: "50 ms", "2.3 s"; empty if it is not known."""
    if seconds is None:
        return ""
    number, unit = (seconds * 1000, "ms") if 0 < seconds < 0.9995 else (seconds, "s")
    if 0 < number < 0.05:
        return f"< 0.1 {unit}"
    return f"{number:.1f}".removesuffix(".0") + f" {unit}" if number < 9.95 else f"{number:.0f} {unit}"
