"""A process that tells stories with one router: story.py starts it, asks it and ends it.

Asked for a part by its name on its standard input, it answers with the ending on its standard output, one JSON object
a line; in between it asks for the replicas to catch up, or to settle: to catch up and then be behind.
"""

# ruff: noqa: T201 - its standard output is how it answers

from __future__ import annotations

import faulthandler
import json
import logging
import signal
import sys
from dataclasses import asdict
from typing import Any

from stories import PARTS
from visitor import Site

#: Everybody knows the password, and a slow hash would take longer than most stories.
HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
#: When a part hangs, in seconds.
TOO_LONG = 120


def main() -> None:
    engine = sys.argv[1]
    # Ctrl-C is for story.py, whose end is the end of the standard input here.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # A traceback on the terminal would be the expected one: what failed is in the ending.
    logging.disable(logging.CRITICAL)
    import django

    django.setup()
    from django.conf import settings
    from django.db import connections
    from django.test import modify_settings, override_settings

    # Without a guard around those who have none; and the site's bar must not take the queries that are counted here.
    own = settings.DATABASE_ROUTERS == ["replicant.ReplicaRouter"]
    clusters = {"default": {**settings.REPLICANT["default"], "GUARD": own}}
    with (
        override_settings(REPLICANT=clusters, PASSWORD_HASHERS=HASHERS),
        modify_settings(MIDDLEWARE={"remove": "fansite.query_bar.QueryBarMiddleware"}),
    ):
        site = None
        for line in sys.stdin:
            faulthandler.dump_traceback_later(TOO_LONG, exit=True)
            site = site or Site(engine, _ask)
            part = PARTS[line.strip()]
            ending = part.play(site, part.rounds)
            faulthandler.cancel_dump_traceback_later()
            _say({"ending": asdict(ending)})
    connections.close_all()


def _ask(what: str) -> None:
    _say({"ask": what})
    if not sys.stdin.readline():
        raise SystemExit("nobody is there any more")


def _say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
