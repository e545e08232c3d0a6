"""What the decision must cost at most, beside the others, and whether it does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from tests.benchmarks import contenders as c
from tests.benchmarks.decisions import Results
from tests.benchmarks.summary import table


@dataclass(frozen=True)
class Criterion:
    """A figure, the bound it must keep, and whether it does."""

    text: str
    figure: float
    bound: float
    most: bool = True

    @property
    def holds(self) -> bool:
        return self.figure <= self.bound if self.most else self.figure >= self.bound

    def plain(self) -> dict[str, Any]:
        return {**asdict(self), "holds": self.holds}

    def row(self) -> list[str]:
        bound = f"{'at most' if self.most else 'at least'} {self.bound:g}"
        return [self.text, f"{self.figure:.3g}", bound, "yes" if self.holds else "NO"]


def _ratio(one: str, other: str, kind: str) -> Callable[[Results], float]:
    return lambda results: results[one][kind].median / results[other][kind].median


_EACH: list[tuple[str, Callable[[Results], float], float, bool]] = [
    ("direct, times an empty PyO3 method", _ratio(c.REPLICANT, c.EMPTY, "direct"), 2.6, True),
    ("through Django, times the constant router", _ratio(c.REPLICANT, c.CONSTANT, "through"), 1.35, True),
    ("through Django, times faster than the full Python router", _ratio(c.PYTHON, c.REPLICANT, "through"), 4, False),
    (
        "through Django, times faster than the micro-optimised one",
        _ratio(c.FAST_PYTHON, c.REPLICANT, "through"),
        1.5,
        False,
    ),
    ("direct, in a request (sticky), times outside", _ratio(c.STICKY, c.REPLICANT, "direct"), 1.5, True),
    ("direct, in a request (STICKY off), times outside", _ratio(c.IN_REQUEST, c.REPLICANT, "direct"), 1.5, True),
    ("direct, in a request, with a position, times without", _ratio(c.REQUIRED, c.STICKY, "direct"), 1.5, True),
    ("direct, 1000 replicas, times 1", _ratio(c.THOUSAND, c.ONE_REPLICA, "direct"), 1.1, True),
    ("direct, 1000 replicas, times 2", _ratio(c.THOUSAND, c.REPLICANT, "direct"), 1.1, True),
    (
        "in place, per cent of get(pk=...)",
        lambda results: 100 * results[c.REPLICANT]["in_place"].median / results[c.NO_ROUTER]["query"].median,
        2,
        True,
    ),
]


def judge(results: Results) -> list[Criterion]:
    """Every criterion whose contenders were measured."""
    judged = []
    for text, figure_of, bound, most in _EACH:
        try:
            judged.append(Criterion(text, figure_of(results), bound, most))
        except KeyError:
            continue
    for peer in c.PEERS:
        if peer.checks and peer.name in results and c.REPLICANT in results:
            faster = _ratio(peer.name, c.REPLICANT, "through")(results)
            judged.append(Criterion(f"through Django, times faster than {peer.name}", faster, 1, most=False))
    return judged


def text(judged: list[Criterion]) -> str:
    return table(["what it must show", "measured", "bound", "holds"], [criterion.row() for criterion in judged]) + "\n"
