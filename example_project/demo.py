"""Runs the example project: databases, demo data, replication that lags, and the site. Ctrl-C ends all of it.

With ``--db sqlite``, the default, nothing is needed but Django and this package. The others start real servers.
"""

# ruff: noqa: T201 - a command says what it does on its standard output

from __future__ import annotations

import argparse
import errno
import importlib.util
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parent
HOST = "127.0.0.1"
#: How much later than its lag a copy may be on a busy machine, in seconds.
LATE = 1.0
PREFERRED_PORT = 8000
DATABASES = ("sqlite", "mysql", "mariadb", "postgresql")
DRIVERS = {
    "mysql": ("MySQLdb", "mysqlclient"),
    "mariadb": ("MySQLdb", "mysqlclient"),
    "postgresql": ("psycopg", "psycopg"),
}


def add_database_option(parser: argparse.ArgumentParser) -> None:
    """Add ``--db``: which databases the site runs on."""

    # A function, since argparse does not compare a default with ``choices``.
    def known(name: str) -> str:
        if name not in DATABASES:
            raise argparse.ArgumentTypeError(f"DB={name}: choose from {', '.join(DATABASES)}")
        return name

    parser.add_argument(
        "--db",
        type=known,
        metavar="{" + ",".join(DATABASES) + "}",
        default=os.environ.get("DB") or "sqlite",
        help="which databases (default: the environment's DB, or sqlite)",
    )


def parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_database_option(parser)
    parser.add_argument("--port", type=int, help=f"where to listen (default: {PREFERRED_PORT} if it is free, else any)")
    parser.add_argument(
        "--lag",
        type=float,
        default=2.0,
        metavar="SECONDS",
        help="how far replica1 is behind; replica2 is twice as far (default: 2)",
    )
    options = parser.parse_args(arguments)
    if options.lag < 0:
        parser.error("a replica cannot be ahead of its primary")
    return options


def main(arguments: list[str] | None = None) -> int:
    options = parse(arguments)
    # Both end the demo in the same way, wherever it is; SIGINT also where a shell without job control ignores it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with ExitStack() as stack:
            run(options, stack)
    except KeyboardInterrupt:
        return 0
    return 0


def run(options: argparse.Namespace, stack: ExitStack) -> None:
    """Start everything, in order, and wait; the stack ends it in reverse."""
    lags = {"replica1": options.lag, "replica2": 2 * options.lag}
    server = listen(options.port)
    stack.callback(server.server_close)
    port = server.server_address[1]
    os.environ["DJANGO_SETTINGS_MODULE"] = "fansite.settings"
    replicas = files(port, lags) if options.db == "sqlite" else servers(options.db, lags)
    about = stack.enter_context(replicas)
    stack.callback(stop_monitor)
    serve(server, stack)
    print(f"\nThe Lantern Keepers are at http://{HOST}:{port}/  (log in as demo, password demo)\n")
    print(f"{about}\n{welcome(lags)}\n\nCtrl-C ends the demo.", flush=True)
    threading.Event().wait()


def welcome(lags: dict[str, float]) -> str:
    behind = " and ".join(f"{alias} {lag:g} s" for alias, lag in lags.items())
    return (
        f"The replicas are behind on purpose: {behind}.\n"
        "Open the bar at the foot of any page: it names the database behind each query, and why, says how far each\n"
        "one is, and has a slider for how far behind it shall be. Then log in, save a banner and look who serves\n"
        "its page, now and a few seconds later; buy an emoticon set, and another you cannot afford; write a post;\n"
        "see that the statistics come from replica2 as long as it has what you have written."
    )


# The site


def listen(port: int | None) -> Any:
    """A server that has its port, and so tells two demos apart, but does not answer yet."""
    from django.core.servers.basehttp import ThreadedWSGIServer, WSGIRequestHandler

    try:
        return ThreadedWSGIServer((HOST, PREFERRED_PORT if port is None else port), WSGIRequestHandler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        if port is not None:
            raise SystemExit(f"Port {port} is taken: choose another with --port.") from None
        return ThreadedWSGIServer((HOST, 0), WSGIRequestHandler)


def build_site(*, migrations: bool = True) -> None:
    """Load the site; make its tables and its demo data on the primary.

    Without ``migrations`` the tables are made from the models as they are, which takes a tenth of the time.
    Leaves no connection open, of the monitor neither.
    """
    import django
    from django.apps import apps
    from django.conf import settings
    from django.core.management import call_command
    from django.db import connections

    from replicant.monitor import cluster_monitor

    django.setup()
    if not migrations:
        settings.MIGRATION_MODULES = {app.label: None for app in apps.get_app_configs()}
    call_command("migrate", verbosity=0, interactive=False, run_syncdb=not migrations)
    call_command("createcachetable", verbosity=0)
    call_command("seed")
    connections.close_all()
    cluster_monitor.stop()


def serve(server: Any, stack: ExitStack) -> None:
    from django.contrib.staticfiles.handlers import StaticFilesHandler

    from fansite.wsgi import application

    server.set_app(StaticFilesHandler(application))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, name="site")
    thread.start()
    stack.callback(thread.join)
    stack.callback(server.shutdown)


def stop_monitor() -> None:
    """It would say that the databases are down, when they end before this process does."""
    from replicant.monitor import cluster_monitor

    cluster_monitor.stop()


# Its databases


@contextmanager
def sqlite_folder(name: object, replicas: Iterable[str]) -> Iterator[Path]:
    """A folder for the files of the demo on this port, or of a story; gone afterwards.

    The replicas are there, with nothing in them: the monitor looks at them from the first query on.
    """
    folder = PROJECT / "run" / str(name)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for alias in replicas:
        (folder / f"{alias}.sqlite3").touch()
    os.environ["REPLICANT_DEMO_FOLDER"] = str(folder)
    os.environ.pop("REPLICANT_DEMO_DATABASES", None)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def files(port: int, lags: dict[str, float]) -> Iterator[str]:
    """SQLite files, the copies as far behind as the lags and the sliders say."""
    from fansite.delays import STOPS
    from replicator import Copy, Replicator

    os.environ["REPLICANT_DEMO_PIN"] = str(max(*lags.values(), *STOPS) + LATE)
    with sqlite_folder(port, lags) as folder, ExitStack() as stack:
        build_site()
        copies = {alias: Copy(alias, folder / f"{alias}.sqlite3", lag) for alias, lag in lags.items()}
        replicator = Replicator(folder / "primary.sqlite3", copies.values())
        replicator.start()
        stack.callback(replicator.stop)

        def tell(alias: str, seconds: float) -> None:
            copies[alias].lag = seconds

        offer_sliders(lags, tell, lambda alias: copies[alias].behind)
        yield f"{versions()}. A primary and two replicas, each an SQLite file in {relative(folder)}."


@contextmanager
def servers(engine: str, lags: dict[str, float]) -> Iterator[str]:
    """Real servers, with the site in them and the replicas as far behind as the lags and the sliders say."""
    with start_servers(engine, len(lags)) as cluster, ExitStack() as stack:
        from tests.consistency.lag import adjustable

        cluster.create_database("lantern")
        os.environ["REPLICANT_DEMO_DATABASES"] = json.dumps(cluster.databases("lantern"))
        build_site()
        delay = stack.enter_context(adjustable(cluster))
        nodes = dict(zip(lags, cluster.replicas, strict=True))
        for alias, lag in lags.items():
            delay(nodes[alias], lag)
        offer_sliders(lags, lambda alias, seconds: delay(nodes[alias], seconds))
        yield f"{versions()}. {cluster.engine} {cluster.version}, a primary and {len(lags)} replicas."


def offer_sliders(
    lags: dict[str, float],
    tell: Callable[[str, float], None],
    age: Callable[[str], float | None] = lambda alias: None,
) -> None:
    from fansite import delays

    delays.of_the_demo = delays.Delays(dict(lags), tell, age)


def start_servers(engine: str, replicas: int) -> Any:
    """A ``tests.servers`` cluster; ends the program with the reason if there is none to be had."""
    module, package = DRIVERS[engine]
    if importlib.util.find_spec(module) is None:
        raise SystemExit(f"Django needs {package} to talk to {engine}: install it, or try --db sqlite.")
    # Where tests.servers is: the site depends on the package, never on its tests; only its programs use the servers.
    sys.path.insert(0, str(PROJECT.parent))
    from tests.servers import ServerError, ServersUnavailable, start

    try:
        return start(engine, replicas=replicas)
    except (ServersUnavailable, ServerError) as error:
        raise SystemExit(str(error)) from None


def versions() -> str:
    import django

    import replicant

    python = ".".join(map(str, sys.version_info[:3]))
    return f"Python {python}, Django {django.__version__}, replicant {replicant.__version__}"


def relative(path: Path) -> str:
    with suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)


if __name__ == "__main__":
    sys.exit(main())
