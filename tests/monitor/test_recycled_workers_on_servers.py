"""Workers that are recycled all the time (``gunicorn --max-requests``) follow a failover and never return.

The prober of the host is one of them, and ends in an orderly way again and again.
"""

from __future__ import annotations

import http.client
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
from django.db import connections

from tests.monitor.failover import comes_back, fail_over, names
from tests.monitor.failover import site as site
from tests.monitoring import REPOSITORY, environment
from tests.schedules import FAST, SECONDS
from tests.servers import Cluster
from tests.servers.machine import free_ports, wait_until

WORKERS = 3
#: So many requests a worker serves.
REQUESTS = 3


class Gunicorn:
    """Sync workers that write a row at each request."""

    def __init__(self, folder: Path) -> None:
        (self.port,) = free_ports(1)
        self.log = folder / "log"
        #: The names of the rows whose writing was acknowledged.
        self.acknowledged: set[str] = set()
        self._numbers = itertools.count()
        recycling = [f"--workers={WORKERS}", f"--max-requests={REQUESTS}", "--preload"]
        with self.log.open("wb") as log:
            where = f"--bind=127.0.0.1:{self.port}"
            self.process = subprocess.Popen(
                [sys.executable, "-m", "gunicorn", *recycling, where, "tests.workers.writing:wsgi"],
                env=environment(dict(connections.settings), FAST), cwd=REPOSITORY, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def write(self) -> tuple[str, str] | str:
        """Write a row: the process that did and by whose settings it reaches the primary; or an error."""
        name = f"row {next(self._numbers)}"
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=SECONDS)
        try:
            connection.request("POST", f"/{name.replace(' ', '-')}", headers={"Connection": "close"})
            response = connection.getresponse()
            answer = response.read().decode()
        except (OSError, http.client.HTTPException) as error:
            return repr(error)
        finally:
            connection.close()
        if response.status != 200:
            return answer
        self.acknowledged.add(name.replace(" ", "-"))
        process, server = answer.split()
        return process, server

    def write_all(self, count: int) -> list[tuple[str, str] | str]:
        with ThreadPoolExecutor(WORKERS) as clients:
            return list(clients.map(lambda _: self.write(), range(count)))

    def follow(self, server: str) -> None:
        """Wait until every worker is known to reach the primary by the settings of ``server``."""
        wait_until(
            lambda: {found[1] for found in self.write_all(3 * WORKERS)} == {server}, SECONDS, f"all write to {server}"
        )

    def end(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture
def gunicorn(site: Cluster, tmp_path: Path) -> Iterator[Gunicorn]:
    gunicorn = Gunicorn(tmp_path)
    yield gunicorn
    gunicorn.end()


@pytest.mark.parametrize("cluster", ["mariadb", "postgresql"], indirect=True)
def test_workers_that_are_recycled_all_the_time_stay_with_the_new_primary(
    site: Cluster, database: str, gunicorn: Gunicorn
):
    new = site.replicas[0]
    gunicorn.follow("default")
    before = set(gunicorn.acknowledged)
    old = fail_over(site, new)
    gunicorn.follow("replica1")
    while_dead = gunicorn.write_all(8 * WORKERS)
    comes_back(old)
    while_it_is_back = gunicorn.write_all(8 * WORKERS)
    for answers in (while_dead, while_it_is_back):
        assert [answer for answer in answers if isinstance(answer, str)] == []
        assert {server for _, server in answers} == {"replica1"}
        # Each worker was replaced, and its successor, too.
        assert len({answer[0] for answer in answers}) >= 2 * WORKERS
    assert names(new, database) >= gunicorn.acknowledged
    assert names(old, database) <= before
