"""The servers by hand: `python -m tests.servers list`, `install [engine...]`, `run engine [--replicas 2]`."""

from __future__ import annotations

import argparse
import contextlib
import pprint
import signal
import sys

from . import ENGINES, ServerError, ServersUnavailable, start
from .install import ensure, find, missing

_DATABASE = "demo"


def list_engines() -> int:
    """Say in one line per engine whether it is there."""
    for engine in ENGINES:
        found = find(engine)
        print(f"{engine:<11} {f'{found.version}  {found.server}' if found else missing(engine)}")
    return 0


def install(engines: list[str]) -> int:
    """Install what is missing of `engines`."""
    status = 0
    for engine in engines:
        try:
            print(f"{engine:<11} {ensure(engine).version}")
        except ServersUnavailable as error:
            print(error, file=sys.stderr)
            status = 1
    return status


def run(engine: str, replicas: int) -> int:
    """Start a cluster, say how to reach it, and end it at Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with contextlib.suppress(KeyboardInterrupt), start(engine, replicas) as cluster:
        cluster.create_database(_DATABASE)
        print(f"{cluster.engine} {cluster.version} in {cluster.folder}\n")
        for node in cluster.nodes:
            print(f"{node.name}  {node.role:<8} {node.host}:{node.port}  pid {node.pid}")
        print("\nThe application's account was made with:\n")
        for statement in cluster.grants:
            print(f"    {statement};")
        print("\nFor Django:\n")
        print(f"DATABASES = {pprint.pformat(cluster.databases(_DATABASE), sort_dicts=False, width=110)}\n")
        print("Ctrl-C ends the servers and removes their data.", flush=True)
        while True:
            signal.pause()
    return 0


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.servers", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("list", help="say which engines are there")
    some = commands.add_parser("install", help="install what is missing")
    some.add_argument("engines", nargs="*", metavar="engine", help=f"some of {', '.join(ENGINES)}; default: all")
    one = commands.add_parser("run", help="start a primary and replicas and wait for Ctrl-C")
    one.add_argument("engine", choices=ENGINES)
    one.add_argument("--replicas", type=int, default=2, metavar="N", help="how many replicas (2)")
    options = parser.parse_args(arguments)
    if unknown := sorted(set(getattr(options, "engines", [])) - set(ENGINES)):
        parser.error(f"unknown engine: {', '.join(unknown)} (there are {', '.join(ENGINES)})")
    try:
        if options.command == "install":
            return install(options.engines or list(ENGINES))
        return run(options.engine, options.replicas) if options.command == "run" else list_engines()
    except (ServersUnavailable, ServerError) as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
