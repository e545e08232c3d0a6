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

from demo import DATABASES, build_site, sqlite_folder, start_servers, versions
from stories import NOTES, PARTS, compare
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
#: How long the replicas may take to catch up, in seconds.
CATCH_UP = 20.0
WIDTH = 118


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--db",
        choices=DATABASES,
        default=os.environ.get("DB") or "sqlite",
        help="which databases (default: the environment's DB, or sqlite)",
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
    if options.db not in DATABASES:
        parser.error(f"DB={options.db}: choose from {', '.join(DATABASES)}")
    options.routers = dict(ROUTERS)
    for replacement in options.replace:
        place, _, router = replacement.partition("=")
        if place not in ROUTERS or not router:
            parser.error(f"--replace {replacement!r}: PLACE is one of {', '.join(map(repr, ROUTERS))}")
        options.routers[place] = router
    return options


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
    wrong, story = 0, ""
    for name in parts:
        if PARTS[name].story != story:
            story = PARTS[name].story
            print("\n".join([f"\n{story}", *textwrap.wrap(NOTES.get(story, ""), WIDTH), "-" * WIDTH]))
        for place in options.routers:
            ending = now[place].tell(name)
            if name == "readers":
                ending = compare(ending, later[place].tell(name))
            as_it_should = ending.well == (place == "replicant")
            wrong += not as_it_should
            show(PARTS[name].title, place, ending, as_it_should)
            if options.verbose:
                show_queries(ending)
        sys.stdout.flush()
    print()
    if wrong:
        marks = (
            "1 ending is not as it should be: see the mark" if wrong == 1 else f"{wrong} endings are not: see the marks"
        )
        print(f"{marks} (!).")
        return 1
    print("Every story ends badly with the naive routers, and well with replicant.")
    return 0


def show(title: str, place: str, ending: Ending, as_it_should: bool) -> None:
    verdict = ("well" if ending.well else "BADLY") + ("" if as_it_should else " (!)")
    lines = textwrap.wrap(ending.saw, 64) or [""]
    print(f"  {title:<25} {place:<14} {lines[0]:<65} {verdict}")
    for line in lines[1:]:
        print(f"  {'':<40} {line}")


def show_queries(ending: Ending) -> None:
    from fansite.query_bar import in_a_line

    for alias, reason, sql in ending.queries:
        why = f"      {alias:<9} {reason or '-':<12} "
        text = in_a_line(" ".join(sql.split()))
        print(textwrap.fill(text, WIDTH, initial_indent=why, subsequent_indent=" " * (len(why) + 2)))


# The processes


class Teller:
    """A process of teller.py."""

    def __init__(self, process: subprocess.Popen[str], pause: Callable[[], None], resume: Callable[[], None]) -> None:
        self._process = process
        self._pause = pause
        self._resume = resume

    def tell(self, name: str) -> Ending:
        self._resume()
        self._write(name)
        assert self._process.stdout is not None
        for line in self._process.stdout:
            said = json.loads(line)
            if "ending" in said:
                return Ending(**said["ending"])
            self._pause()
            self._write("paused")
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
        yield Teller(process, databases.pause, databases.resume)
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
    """``pause`` has the replicas catch up and then stand still, until ``resume``."""

    about: str
    pause: Callable[[], None]
    resume: Callable[[], None]


@contextmanager
def files() -> Iterator[Databases]:
    from replicator import Copy, Replicator

    with sqlite_folder(f"story-{os.getpid()}") as folder, ExitStack() as stack:
        third = {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / "replica3.sqlite3"),
            "TEST": {"MIRROR": "default"},
        }
        prepare(third)
        report = folder / "lag.json"
        copies = [Copy(alias, folder / f"{alias}.sqlite3", 0) for alias in REPLICAS]
        replicator = Replicator(folder / "primary.sqlite3", copies, report)
        replicator.start()
        stack.callback(replicator.stop)

        def caught_up(since: float) -> bool:
            return all(known["state_at"] > since for known in json.loads(report.read_text(encoding="utf-8")).values())

        def pause() -> None:
            replicator.resume()
            now = time.time()
            while not caught_up(now):
                if time.time() > now + CATCH_UP:
                    raise SystemExit(f"The copies have not caught up within {CATCH_UP:g} s.")
                time.sleep(0.01)
            replicator.pause()

        yield Databases("A primary and its replicas, each an SQLite file.", pause, replicator.resume)


@contextmanager
def servers(engine: str) -> Iterator[Databases]:
    with start_servers(engine, len(REPLICAS)) as cluster:
        cluster.create_database("lantern")
        settings = cluster.databases("lantern")
        third = settings.pop(REPLICAS[-1])
        os.environ["REPLICANT_DEMO_DATABASES"] = json.dumps(settings)
        prepare(third)

        def resume() -> None:
            for node in cluster.replicas:
                node.resume_replication()

        def pause() -> None:
            resume()
            cluster.wait_until_caught_up(CATCH_UP)
            for node in cluster.replicas:
                node.pause_replication()

        yield Databases(f"{cluster.engine} {cluster.version}, a primary and its replicas.", pause, resume)


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
