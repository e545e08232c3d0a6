"""Whether a decision has become dearer: its instructions, as a ratio to an empty PyO3 method counted in the same run.

The ratio committed stands in ``cost.json``. ``python -m tests.benchmarks gate`` compares, ``gate --update`` commits.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks import instructions
from tests.benchmarks.contenders import REPLICANT, by_name
from tests.benchmarks.empty_extension import CannotBuild

COMMITTED = Path(__file__).with_name("cost.json")
#: Instructions repeat to a thousandth; compilers and interpreters differ by a few hundredths.
TOLERANCE = 0.05
UPDATE = "python -m tests.benchmarks gate --update"


@dataclass(frozen=True)
class Cost:
    """The instructions of a ``db_for_read`` (nothing set, two replicas) and of an empty PyO3 method."""

    decision: float
    empty: float

    @property
    def ratio(self) -> float:
        return self.decision / self.empty


def measure() -> Cost:
    """Count both, in one run. Raises CannotCount or CannotBuild, with what to install."""
    counted = instructions.count([by_name(REPLICANT)])[REPLICANT]
    return Cost(counted["direct"], counted["empty direct"])


def committed() -> float:
    """The ratio that a decision is allowed to have, before the tolerance."""
    ratio: float = json.loads(COMMITTED.read_text())["ratio"]
    return ratio


def complaint(cost: Cost, allowed: float) -> str | None:
    """What is wrong, with both figures; None if nothing is."""
    if cost.ratio <= allowed * (1 + TOLERANCE):
        return None
    return (
        f"A decision takes {cost.ratio:.3f} times the instructions of an empty PyO3 method ({cost.decision:.0f} to "
        f"{cost.empty:.0f}), {cost.ratio / allowed - 1:.1%} more than the {allowed:.3f} that are committed. Find what "
        f"made it dearer; if it is worth its price, run {UPDATE}."
    )


def main(*, update: bool) -> int:
    """Print the verdict; 1 if there is a complaint. With ``update`` commit the ratio instead."""
    try:
        cost = measure()
    except (instructions.CannotCount, CannotBuild) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{cost.decision:.0f} instructions to {cost.empty:.0f} of an empty PyO3 method: {cost.ratio:.3f} times")
    if update:
        COMMITTED.write_text(json.dumps({"ratio": round(cost.ratio, 3)}, indent=2) + "\n")
        return 0
    found = complaint(cost, committed())
    print(found or f"{committed():.3f} are committed.")
    return 1 if found else 0
