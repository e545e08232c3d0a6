"""The benchmarks: ``python -m tests.benchmarks [part ...] [--quick]``.

The parts are decisions, instructions, core, capture, middleware, guard, end_to_end, dead_replica and charts; with
nothing named, all of them. Results are text, JSON and SVG in ``target/bench/``. ``gate`` compares the instructions of
a decision with the committed figure, as ``make test`` does, and with ``--update`` commits the figure measured.
``figure`` takes the last run's chart of the decisions over into the README.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tests.benchmarks import report
from tests.benchmarks.empty_extension import RESULTS

#: The README shows it; readers with a dark screen get its dark colours.
FIGURE = Path(__file__).parents[2] / "docs" / "decisions.svg"
PARTS = ("decisions", "instructions", "core", "capture", "middleware", "guard", "end_to_end", "dead_replica", "charts")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="part", help=f"{', '.join(PARTS)}; or gate, or figure")
    parser.add_argument("--quick", action="store_true", help="fewer turns and requests: wider spreads")
    parser.add_argument("--update", action="store_true", help="gate: write the ratio measured into cost.json")
    options = parser.parse_args()
    unknown = [part for part in options.parts if part not in (*PARTS, "gate", "figure")]
    if unknown:
        parser.error(f"{', '.join(unknown)}: choose from {', '.join(PARTS)}, gate, figure")
    if "gate" in options.parts:
        from tests.benchmarks import gate

        return gate.main(update=options.update)
    if "figure" in options.parts:
        FIGURE.write_bytes((RESULTS / FIGURE.name).read_bytes())
        return 0
    for part in PARTS:
        if not options.parts or part in options.parts:
            getattr(report, part)(quick=options.quick)
    return 0


if __name__ == "__main__":
    sys.exit(main())
