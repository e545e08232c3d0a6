"""Tells five stories of read replicas, each with two naive routers and with replicant, and says how they end.

On databases of its own, whose replicas stand still where a story needs them to be behind: no ending depends on luck.
Exits with 1 if a story ends badly with replicant, or well with a naive router (then it proves nothing).
"""

# ruff: noqa: T201 - a command says what it does on its standard output

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from demo import LATE, add_database_option, build_site, sqlite_folder, start_servers, versions
from fansite.delays import in_words
from stories import NOTES, PARTS, Part, compare
from teller import HASHERS
from visitor import Ending

PROJECT = Path(__file__).resolve().parent
NEEDED = {"oauth2_provider": "django-oauth-toolkit", "rest_framework": "djangorestframework"}
REPLICAS = ("replica1", "replica2", "replica3")
#: What takes each place, by its dotted path.
ROUTERS = {
    "documentation": "naive_routers.DocumentedRouter",
    "passed around": "naive_routers.PassedAroundRouter",
    "replicant": "replicant.ReplicaRouter",
}
DELAYS = "0,50ms,500ms,5s"
#: How long the replicas may take to catch up, in seconds.
CATCH_UP = 20.0
WIDTH = 118
#: Of a verdict: "BADLY (!)", and a space.
CELL = 10


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_database_option(parser)
    parser.add_argument(
        "--delay",
        type=seconds,
        default=DELAYS,
        metavar="SECONDS,...",
        help=f"how far the replicas are behind, each in turn (default: {DELAYS})",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show the queries behind each ending")
    parser.add_argument("--only", action="append", choices=PARTS, metavar="PART", help=f"one of {', '.join(PARTS)}")
    parser.add_argument(
        "--replace",
        action="append",
        default=[],
        metavar="PLACE=ROUTER",
        help=f"another router in the place of {', '.join(map(repr, ROUTERS))}: its dotted path",
    )
    options = parser.parse_args(arguments)
    options.routers = dict(ROUTERS)
    for replacement in options.replace:
        place, _, router = replacement.partition("=")
        if place not in ROUTERS or not router:
            parser.error(f"--replace {replacement!r}: PLACE is one of {', '.join(map(repr, ROUTERS))}")
        options.routers[place] = router
    return options


def seconds(text: str) -> list[float]:
    """The delays in a list of numbers; "s" may stand behind each, or "ms"."""
    found = []
    for one in text.split(","):
        number = one.strip()
        delay = float(number[:-2]) / 1000 if number.endswith("ms") else float(number.removesuffix("s"))
        if not 0 <= delay < 60:
            raise ValueError(f"{one}: not from 0 to 60 s")
        found.append(delay)
    return found


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    missing = [package for module, package in NEEDED.items() if importlib.util.find_spec(module) is None]
    if missing:
        raise SystemExit(f"The stories need {' and '.join(missing)}: python -m pip install {' '.join(missing)}")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            return run(options, stack)
    except KeyboardInterrupt:
        return 130


def run(options: argparse.Namespace, stack: ExitStack) -> int:
    # Where there are no positions, only time tells.
    os.environ["REPLICANT_DEMO_PIN"] = str(max(5.0, *options.delay) + LATE)
    open_databases = files() if options.db == "sqlite" else servers(options.db)
    databases = stack.enter_context(open_databases)
    print(f"{versions()}. {databases.about}", flush=True)
    parts = [name for name in PARTS if options.db in PARTS[name].engines and name in (options.only or PARTS)]

    def tellers(settings: str) -> dict[str, Teller]:
        return {
            place: stack.enter_context(teller(router, settings, databases, options.db))
            for place, router in options.routers.items()
        }

    now = tellers("fansite.settings")
    later = tellers("fansite.with_third_replica") if "readers" in parts else {}
    table = Table(options.db, options.delay, options.verbose)
    for name in parts:
        for place in options.routers:
            endings = []
            for delay in options.delay:
                endings.append(now[place].tell(name, delay))
                if name == "readers":
                    endings[-1] = compare(endings[-1], later[place].tell(name, delay))
            table.show(PARTS[name], place, endings)
    return table.end()


# The table


class Table:
    """Prints how each part ended with each router: a row for both, a column for each delay."""

    def __init__(self, engine: str, delays: list[float], verbose: bool) -> None:
        self._engine = engine
        self._delays = delays
        self._verbose = verbose
        self._story = ""
        self._wrong = 0
        self._proved_nothing = False

    def show(self, part: Part, place: str, endings: list[Ending]) -> None:
        if part.story != self._story:
            self._story = part.story
            columns = "".join(f"{in_words(delay):<{CELL}}" for delay in self._delays)
            print("\n".join(["", part.story, *textwrap.wrap(NOTES.get(part.story, ""), WIDTH)]))
            print(f"{'  the replicas are behind by':<39}{columns.rstrip()}\n{'-' * WIDTH}")
        verdicts = "".join(
            f"{self._verdict(part, place, delay, ending):<{CELL}}"
            for delay, ending in zip(self._delays, endings, strict=True)
        )
        # One of the endings in full: the last bad one, if there is any.
        told = next((ending for ending in reversed(endings) if not ending.well), endings[-1])
        start = f"  {part.title:<22} {place:<13} {verdicts} "
        print(textwrap.fill(told.saw, WIDTH, initial_indent=start, subsequent_indent=" " * len(start)))
        if self._verbose:
            for delay, ending in zip(self._delays, endings, strict=True):
                print(f"    {in_words(delay)}: {ending.saw}")
                show_queries(ending)
        sys.stdout.flush()

    def _verdict(self, part: Part, place: str, delay: float, ending: Ending) -> str:
        if not ending.well:
            self._wrong += place == "replicant"
            return "BADLY (!)" if place == "replicant" else "BADLY"
        if place == "replicant":
            return "well"
        if part.must_end_badly(self._engine, delay):
            self._wrong += 1
            return "well (!)"
        self._proved_nothing = True
        return "(well)"

    def end(self) -> int:
        print()
        if self._proved_nothing:
            print("(well): the replicas had it in time, as they may at that delay. There the story proves nothing.")
        if self._wrong:
            marks = "1 ending is not as it should be: see the mark"
            if self._wrong > 1:
                marks = f"{self._wrong} endings are not as they should be: see the marks"
            print(f"{marks} (!).")
            return 1
        print("Every story ends badly with the naive routers where the delay suffices, and well with replicant at any.")
        return 0


def show_queries(ending: Ending) -> None:
    from fansite.query_bar import in_a_line

    for alias, reason, sql in ending.queries:
        why = f"      {alias:<9} {reason or '-':<12} "
        text = in_a_line(" ".join(sql.split()))
        print(textwrap.fill(text, WIDTH, initial_indent=why, subsequent_indent=" " * (len(why) + 2)))


# The processes


class Teller:
    """A process of teller.py."""

    def __init__(self, process: subprocess.Popen[str], settle: Callable[[float], None]) -> None:
        self._process = process
        self._settle = settle

    def tell(self, name: str, delay: float) -> Ending:
        """Have a part told, with replicas that are ``delay`` seconds behind from where it wants them to be."""
        self._settle(0)
        self._write(name)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "ending" in said:
                return Ending(**said["ending"])
            self._settle(delay if said["ask"] == "settle" else 0)
            self._write("done")
        raise SystemExit(f"{name}: the process ended with {self._process.wait()}")

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        # Whoever has ended is found out by reading.
        with suppress(BrokenPipeError):
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()


@contextmanager
def teller(router: str, settings: str, databases: Databases, engine: str) -> Iterator[Teller]:
    """A process with this router and these settings, which tells what it is asked for and then ends."""
    environment = {**os.environ, "REPLICANT_DEMO_ROUTER": router, "DJANGO_SETTINGS_MODULE": settings}
    process = subprocess.Popen(
        [sys.executable, str(PROJECT / "teller.py"), engine],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Teller(process, databases.settle)
    except BaseException:
        process.kill()
        raise
    finally:
        with suppress(BrokenPipeError):
            process.stdin.close()
        try:
            process.wait(10)
        finally:
            process.kill()
            process.wait()
            process.stdout.close()


# Their databases


@dataclass
class Databases:
    """``settle`` has the replicas catch up, and from then on be so many seconds behind."""

    about: str
    settle: Callable[[float], None]


@contextmanager
def files() -> Iterator[Databases]:
    from replicator import Copy, Replicator

    with sqlite_folder(f"story-{os.getpid()}", REPLICAS) as folder, ExitStack() as stack:
        third = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "replica3.sqlite3"),
            "TEST": {"MIRROR": "default"},
        }
        prepare(third)
        copies = [Copy(alias, folder / f"{alias}.sqlite3", 0) for alias in REPLICAS]
        replicator = Replicator(folder / "primary.sqlite3", copies)
        replicator.start()
        stack.callback(replicator.stop)

        def be_behind(seconds: float) -> None:
            for copy in copies:
                copy.lag = seconds

        def settle(seconds: float) -> None:
            be_behind(0)
            now = time.time()
            while any(copy.state_at <= now for copy in copies):
                if time.time() > now + CATCH_UP:
                    raise SystemExit(f"The copies have not caught up within {CATCH_UP:g} s.")
                time.sleep(0.01)
            be_behind(seconds)

        yield Databases("A primary and its replicas, each an SQLite file.", settle)


@contextmanager
def servers(engine: str) -> Iterator[Databases]:
    with start_servers(engine, len(REPLICAS)) as cluster, ExitStack() as stack:
        from tests.consistency.lag import adjustable

        cluster.create_database("lantern")
        settings = cluster.databases("lantern")
        third = settings.pop(REPLICAS[-1])
        os.environ["REPLICANT_DEMO_DATABASES"] = json.dumps(settings)
        prepare(third)

        delay = stack.enter_context(adjustable(cluster))

        def settle(seconds: float) -> None:
            for replica in cluster.replicas:
                delay(replica, 0)
            cluster.wait_until_caught_up(CATCH_UP)
            for replica in cluster.replicas:
                delay(replica, seconds)

        yield Databases(f"{cluster.engine} {cluster.version}, a primary and its replicas.", settle)


def prepare(third_replica: dict[str, Any]) -> None:
    """The site on the primary. That there is a third replica is for with_third_replica.py alone to know."""
    os.environ["DJANGO_SETTINGS_MODULE"] = "fansite.settings"
    os.environ.pop("REPLICANT_DEMO_ROUTER", None)
    os.environ["REPLICANT_DEMO_THIRD_REPLICA"] = json.dumps(third_replica)
    from django.conf import settings

    settings.PASSWORD_HASHERS = HASHERS
    build_site(migrations=False)


if __name__ == "__main__":
    sys.exit(main())
