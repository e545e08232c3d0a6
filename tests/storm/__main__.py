"""Replicas killed, stopped and held up under the example project's load: ``python -m tests.storm`` (``make storm``).

For each engine: with two naive routers on Django's own engines, and with replicant on ours. Exits with 1 if a request
fails, reads something stale of its visitor's own or a replica does not come back with replicant; or if nothing fails
with a naive router, for then it proves nothing.
"""

from __future__ import annotations

import argparse
import random
import sys
from pathlib import Path

from tests.servers import ENGINES, start
from tests.storm import run

FOLDER = Path("target/storm")
SECONDS = 30.0


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.storm", description=__doc__)
    parser.add_argument("--db", choices=(*ENGINES, "sqlite"), help="one engine (default: all; sqlite has no replicas)")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"for each site (default: {SECONDS:g})")
    parser.add_argument("--seed", type=int, default=None, help="of what happens (default: drawn, and printed)")
    parser.add_argument("--only", choices=run.SITES, help="one site")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    FOLDER.mkdir(parents=True, exist_ok=True)
    is_well = True
    for engine in [options.db] if options.db in ENGINES else ENGINES:
        print(f"{engine}, {run.VISITORS} visitors, {options.seconds:g} s, SEED={seed}", flush=True)
        with start(engine, replicas=2) as cluster:
            run.prepare(cluster)
            for site in [options.only] if options.only else run.SITES:
                outcome = run.run(cluster, site, seconds=options.seconds, seed=seed, folder=FOLDER)
                print(f"  {outcome.about()}", flush=True)
                is_well &= outcome.is_well if site == "replicant" else outcome.is_bad
    print(f"The sites' logs are in {FOLDER}.")
    return 0 if is_well else 1


if __name__ == "__main__":
    sys.exit(main())
