"""The consistency checker by hand: ``python -m tests.consistency soak|verify|share|devices``."""

from __future__ import annotations

import argparse
import os
import random
import sys
from pathlib import Path

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from tests.consistency import devices, share, soak  # noqa: E402
from tests.consistency.clients import LINKS  # noqa: E402
from tests.consistency.handmade import BUGS  # noqa: E402
from tests.servers import ENGINES  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.consistency", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    soaking = commands.add_parser("soak", help="look for broken promises, as long as you like")
    sharing = commands.add_parser("share", help="compare how much replicas serve under each policy")
    comparing = commands.add_parser("devices", help="compare the stores of tokens for users with two devices")
    verifying = commands.add_parser("verify", help="judge a kept history again")
    for command, seconds in ((soaking, 60.0), (sharing, share.SECONDS), (comparing, 20.0)):
        command.add_argument("--seed", type=int, default=None, help="of the first round (default: drawn, and printed)")
        command.add_argument("--seconds", type=float, default=seconds, help="for each engine or policy")
    soaking.add_argument("--db", choices=(*ENGINES, "sqlite"), help="one engine (default: all; sqlite has no replicas)")
    soaking.add_argument("--consistency", choices=("session", "time", "eventual"), default="session")
    soaking.add_argument("--link", choices=LINKS, default=soak.LINK, help="what links a client's requests")
    soaking.add_argument(
        "--by-hand",
        nargs="?",
        const="",
        choices=("", *BUGS),
        help="soak the product made by hand instead: a check of the checker, which must find its bugs and nothing else",
    )
    for command in (sharing, comparing):
        command.add_argument("--db", choices=ENGINES, default="mysql")
    verifying.add_argument("file", type=Path)
    options = parser.parse_args()
    if options.command == "verify":
        return soak.verify(options.file)
    seed = options.seed if options.seed is not None else random.randrange(10**6)
    if options.command == "devices":
        return devices.main(options.db, options.seconds, seed)
    if options.command == "share":
        return share.main(options.db, options.seconds, seed)
    engines = [options.db] if options.db in ENGINES else list(ENGINES)
    return soak.main(engines, options.consistency, options.link, options.by_hand, options.seconds, seed)


if __name__ == "__main__":
    sys.exit(main())
