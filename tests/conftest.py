from __future__ import annotations

import contextvars
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.core.management import call_command  # noqa: E402

from replicant.connections import server_map  # noqa: E402
from replicant.monitor import cluster_monitor  # noqa: E402
from replicant.private_folder import FOLDER_VARIABLE  # noqa: E402
from tests.databases import HOWEVER_LATE, migrate, sqlite, use_databases  # noqa: E402
from tests.servers import ENGINES, Cluster, start  # noqa: E402

ALIASES = ("default", "replica1", "replica2", "other")
#: Fixtures that start servers if their parameter names an engine. Every other fixture on servers uses one of these,
ENGINE_FIXTURES = ("backend", "cluster", "late", "own_cluster", "running", "server")
#: or one of these, which start servers always.
SERVER_FIXTURES = {"group", "lone_mariadb", "mariadb", "mysql", "postgresql"}
#: The clusters of this run, by engine. A server that cannot be had fails the tests that need it, with the reason.
clusters: dict[str, Cluster] = {}
_of_workers: dict[str, tuple[str, list[str]]] = {}


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database files with the tables in them, made once."""
    folder = tmp_path_factory.mktemp("template")
    with use_databases(sqlite(folder, *ALIASES), REPLICANT={}):
        migrate(*ALIASES)
    return folder


@pytest.fixture(autouse=True)
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """What the processes of this test share: servers of an earlier one may have had the same ports."""
    folder = tmp_path_factory.mktemp("shared")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(FOLDER_VARIABLE, str(folder))
        yield folder
        # A monitor that is about to end would leave what it knows where the next test looks.
        cluster_monitor.stop(10.0)
        # The placement of a promotion stays in force otherwise, and the next test's members are judged by it.
        server_map.keep(set())


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A primary (default), two replicas that never catch up, and a database outside of the cluster (other)."""
    folder = tmp_path / "databases"
    shutil.copytree(template, folder)
    with use_databases(sqlite(folder, *ALIASES)):
        yield folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the tests that need servers: ``make test-fast`` leaves them out. Tests that call ``start`` say so."""
    for item in items:
        if not isinstance(item, pytest.Function):
            continue
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        engines = [str(parameters.get(name)) for name in ENGINE_FIXTURES]
        if SERVER_FIXTURES & set(item.fixturenames) or any(engine.startswith(ENGINES) for engine in engines):
            item.add_marker(pytest.mark.servers)


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run each test in a context of its own: what one wrote, this thread must not remember in the next."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    contextvars.Context().run(pyfuncitem.obj, **arguments)
    return True


@pytest.fixture(scope="session", params=ENGINES)
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A real primary and two real replicas; one per engine and run."""
    engine = request.param
    clusters[engine] = start(engine, replicas=2)
    yield clusters[engine]
    clusters[engine].stop()


@pytest.fixture(scope="module")
def database(request: pytest.FixtureRequest, cluster: Cluster) -> str:
    """The name of a database that is clean for each test module, on the primary and on the replicas."""
    name = request.module.__name__.rpartition(".")[2]
    cluster.create_database(name)
    with use_databases(cluster.databases(name)):
        # In a context of its own: migrations write, and the tests' thread must not remember it.
        contextvars.copy_context().run(call_command, "migrate", verbosity=0)
    cluster.wait_until_caught_up()
    return name


@pytest.fixture
def servers(cluster: Cluster, database: str) -> Iterator[Cluster]:
    """The cluster, with Django on it, replicating."""
    with use_databases(cluster.databases(database), REPLICANT=HOWEVER_LATE):
        yield cluster
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


def _engines() -> dict[str, tuple[str, list[str]]]:
    """The servers of this process, by engine: their version and what their users were granted."""
    return {engine: (cluster.version, list(cluster.grants)) for engine, cluster in clusters.items()}


def pytest_sessionfinish(session: pytest.Session) -> None:
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["engines"] = _engines()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """A worker of pytest-xdist has ended: the servers are its own, but it has no terminal to name them on."""
    _of_workers.update(getattr(node, "workeroutput", {}).get("engines", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    import sqlite3

    engines = {**_engines(), **_of_workers}
    versions = [
        f"SQLite {sqlite3.sqlite_version}",
        *(f"{engine} {version}" for engine, (version, _) in engines.items()),
    ]
    terminalreporter.section("engines")
    terminalreporter.line(f"Django {django.__version__} on {', '.join(versions)}")
    for engine, (_, grants) in engines.items():
        for grant in grants:
            terminalreporter.line(f"{engine}: {grant}")
