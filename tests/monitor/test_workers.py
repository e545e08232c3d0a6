"""The monitor in application servers and task queues: one process per host asks the servers, all know the answers."""

from __future__ import annotations

import http.client
import itertools
import json
import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from replicant.monitor.shared_file import Samples
from tests.monitoring import ALIASES, REPOSITORY, environment, sessions, use_prober
from tests.servers import Cluster
from tests.servers.machine import free_ports, wait_until
from tests.workers.broker import queue_in

INTERVAL = 0.5
SECONDS = 30.0

Report = dict[str, Any]


class Workers(ABC):
    """A program with several worker processes."""

    count: int
    #: The longest time it may take to end. Without a monitor it takes some seconds at most; one that kept a process
    #: from ending would take Gunicorn to its graceful timeout of 30 seconds, and the others for ever.
    end_seconds = 25.0

    def __init__(self, folder: Path, databases: dict[str, Any]) -> None:
        self.folder = folder
        self.log = folder / "log"
        self.pids: set[int] = set()
        environ = {**environment(databases, INTERVAL), "REPLICANT_TEST_FOLDER": str(folder)}
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", *self.command()], env=environ, cwd=REPOSITORY, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    @abstractmethod
    def command(self) -> list[str]: ...

    @abstractmethod
    def work(self) -> set[int]:
        """Have the workers do something that reads; returns who did."""

    def begin(self) -> None:
        """Wait until every worker has read."""

        def all_have_read() -> bool:
            assert self.process.poll() is None, self.log.read_text()
            self.pids |= self.work()
            return len(self.pids) == self.count

        self.wait_until(all_have_read, "all workers have read")

    def reports(self) -> dict[int, Report]:
        """What the workers that live have heard."""
        reports = [json.loads(file.read_text()) for file in self.folder.glob("report-*.json")]
        return {report["pid"]: report for report in reports if Path(f"/proc/{report['pid']}").exists()}

    def wait(self, *pids: int, since: int = 0) -> dict[int, Report]:
        """Wait until these workers have heard answers to questions that were asked after ``since``; what they heard."""

        def all_know() -> bool:
            reports = self.reports()
            return all(
                pid in reports and {heard[1] for heard in after(reports[pid], since)} == {*ALIASES} for pid in pids
            )

        self.wait_until(all_know, f"{pids} know")
        reports = self.reports()
        return {pid: reports[pid] for pid in pids}

    def wait_until(self, condition: Callable[[], bool], what: str) -> None:
        try:
            wait_until(condition, SECONDS, what)
        except TimeoutError as error:
            pytest.fail(f"{error}; they say:\n{self.log.read_text()}")

    def stop(self) -> float:
        """End it as its supervisor would; returns how many seconds it took."""
        begun = time.monotonic()
        self.process.terminate()
        self.process.wait(SECONDS)
        return time.monotonic() - begun

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Web(Workers):
    def __init__(self, folder: Path, databases: dict[str, Any]) -> None:
        (self.port,) = free_ports(1)
        super().__init__(folder, databases)

    def work(self) -> set[int]:
        with ThreadPoolExecutor(8) as pool:
            return {pid for pid in pool.map(self.request, range(8)) if pid is not None}

    def request(self, number: int) -> int | None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("GET", "/", headers={"Connection": "close"})
            return int(connection.getresponse().read())
        except (OSError, http.client.HTTPException):
            # It is still starting.
            return None
        finally:
            connection.close()


class Gunicorn(Web):
    count = 4

    def command(self) -> list[str]:
        return ["gunicorn", "--preload", "--workers=4", f"--bind=127.0.0.1:{self.port}", "tests.workers.preloaded:wsgi"]


class Uvicorn(Web):
    count = 2

    def command(self) -> list[str]:
        return ["uvicorn", "--workers=2", f"--port={self.port}", "--log-level=warning", "tests.workers.site:asgi"]


class Celery(Workers):
    """With this transport its workers share a lock: after one was killed, the others may get no work and not end.

    With a monitor or without.
    """

    count = 2
    numbers = itertools.count()

    def __init__(self, folder: Path, databases: dict[str, Any]) -> None:
        self.queue = queue_in(folder, "outgoing")
        super().__init__(folder, databases)

    def command(self) -> list[str]:
        pool = ["--pool=prefork", "--concurrency=2", "--without-gossip", "--without-mingle", "--without-heartbeat"]
        return ["celery", "--app=tests.workers.tasks", "worker", *pool, "--loglevel=WARNING"]

    def work(self) -> set[int]:
        files = []
        for _ in range(4):
            number = next(self.numbers)
            self.queue.send_task("read", [number])
            files.append(self.folder / f"done-{number}")
        for message in (self.folder / "outgoing").iterdir():
            message.rename(self.folder / "queue" / message.name)
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), SECONDS, "the tasks are done")
        return {int(file.read_text()) for file in files}


@pytest.fixture(params=[Gunicorn, Uvicorn, Celery])
def workers(request: pytest.FixtureRequest, servers: Cluster, database: str, tmp_path: Path) -> Iterator[Workers]:
    use_prober(servers, database)
    workers = request.param(tmp_path, dict(connections.settings))
    try:
        yield workers
    finally:
        workers.kill()


def after(report: Report, since: int) -> list[list[Any]]:
    return [heard for heard in report["heard"] if heard[2] > since]


def first_heard(report: Report, since: int) -> int:
    """When this process had heard of all members' answers to questions that were asked after ``since``."""
    return max(min(heard[0] for heard in after(report, since) if heard[1] == alias) for alias in ALIASES)


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_one_asks_and_all_know_also_after_it_was_killed(workers: Workers, servers: Cluster):
    limit = 2 * INTERVAL * 1e9
    workers.begin()
    known = workers.wait(*workers.pids, since=time.monotonic_ns() + int(6 * INTERVAL * 1e9))
    assert len(known) == workers.count
    assert [sessions(node) for node in servers.nodes] == [1, 1, 1]
    (prober,) = (pid for pid, report in known.items() if report["probes"])
    assert len({report["file"] for report in known.values()}) == 1
    for pid, report in known.items():
        assert first_heard(report, 0) - report["began"] < limit
        for alias in ALIASES:
            times = [(heard[0], heard[2]) for heard in report["heard"] if heard[1] == alias]
            for (_, asked_before), (heard_at, _) in itertools.pairwise(times):
                # Until the news came, this was how old the last sample was.
                assert heard_at - asked_before < limit, (pid == prober, alias)

    killed_at = time.monotonic_ns()
    os.kill(prober, signal.SIGKILL)
    survivors = workers.wait(*known.keys() - {prober}, since=killed_at)
    for report in survivors.values():
        assert first_heard(report, killed_at) - killed_at < limit
    wait_until(lambda: [sessions(node) for node in servers.nodes] == [1, 1, 1], SECONDS, "one session each is left")


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_they_end_as_ever_and_leave_nothing_that_is_in_the_way(workers: Workers, servers: Cluster):
    workers.begin()
    known = workers.wait(*workers.pids)
    assert workers.stop() < workers.end_seconds
    wait_until(lambda: not any(sessions(node) for node in servers.nodes), SECONDS, "its sessions end")
    wait_until(lambda: not workers.reports(), SECONDS, "all workers end")
    # Some end by a signal, and leave the file behind: it is nobody's, and whoever comes next takes it over.
    (name,) = {report["file"] for report in known.values() if report["file"]}
    left = Samples(name)
    assert left.elect()
    left.close()
