"""Starting the demo, and ending it."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.slow

PROJECT = Path(__file__).parent.parent


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_everything(start: Callable[..., Any], by: signal.Signals) -> None:
    demo = start()
    # A browser that keeps its connection open must not keep the demo alive.
    with closing(socket.create_connection(("127.0.0.1", demo.port))) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert connection.recv(12) == b"HTTP/1.1 200"
        assert demo.folder.is_dir()

        assert demo.end(by) == 0

    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", demo.port))
    # It was the first of a process group: nobody is left in it.
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.process.pid, 0)
    assert not demo.folder.exists()


def test_a_taken_port_is_said_to_be_taken(demo: Any) -> None:
    second = subprocess.run(
        [sys.executable, str(PROJECT / "demo.py"), "--port", str(demo.port)], capture_output=True, text=True, timeout=20
    )
    assert second.returncode == 1
    assert second.stderr == f"Port {demo.port} is taken: choose another with --port.\n"
    assert demo.folder.is_dir()


@pytest.mark.servers
@pytest.mark.parametrize(
    ("engine", "driver"), [("mysql", "MySQLdb"), ("mariadb", "MySQLdb"), ("postgresql", "psycopg")]
)
def test_the_demo_runs_on_real_servers_that_lag(
    start: Callable[..., Any], engine: str, driver: str, wait_until: Callable[..., None]
) -> None:
    there = "import sys; from tests.servers.install import find; sys.exit(find(sys.argv[1]) is None)"
    if (
        find_spec(driver) is None
        or subprocess.run([sys.executable, "-c", there, engine], cwd=PROJECT.parent).returncode
    ):
        pytest.fail(f"{engine} or its driver is not installed: see `python -m tests.servers list`")
    demo = start("--db", engine, "--lag", "5")
    browser = demo.browser().log_in()

    page = browser.post("/banners/new/", title="Fog", text="Slow down", colour="sea")

    assert "Slow down" in page.text
    assert ("default", "pinned") in page.queries()
    stands_for, is_pinned = page.visitor
    assert re.match(r"Your token stands for the position \S+\d", stands_for)
    assert is_pinned
    assert (page.member("replica1")["serves"], page.member("replica2")["serves"]) == ("not yet", "not yet")
    # The one replica catches up at once, and may serve this browser; the other may not.
    browser.delay("replica1", 0)
    wait_until(lambda: ("replica1", "sticky") in browser.get(page.path).queries(), 5, "replica1 has the banner")
    shown = browser.get(page.path)
    assert "Slow down" in shown.text
    assert not shown.visitor[1]
    assert (shown.member("replica1")["serves"], shown.member("replica2")["serves"]) == ("yes", "not yet")
    assert shown.member("replica1")["position"] != shown.member("replica2")["position"] != ""
    # The statistics ask for replica2 by name, but this browser's own are not in there.
    assert browser.get("/statistics/").aliases() == {"replica1", "default"}
    assert browser.delay("replica2", 1).member("replica2")["slider"] == "1"
    wait_until(lambda: "replica2" in browser.get("/statistics/").aliases(), 5, "replica2 has the banner")
    assert demo.end() == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(demo.process.pid, 0)


def test_the_checks_find_nothing_and_the_migrations_are_complete(tmp_path: Path) -> None:
    environment = {**os.environ, "REPLICANT_DEMO_FOLDER": str(tmp_path)}
    for command in (["check", "--fail-level", "WARNING"], ["makemigrations", "--check", "--dry-run"]):
        done = subprocess.run(
            [sys.executable, "-X", "dev", "-W", "error", str(PROJECT / "manage.py"), *command],
            env=environment,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, ""), done


def test_another_router_can_be_put_in_place(tmp_path: Path) -> None:
    code = "import django; django.setup(); from django.db import router; print(router.routers)"
    environment = {
        **os.environ,
        "REPLICANT_DEMO_FOLDER": str(tmp_path),
        "REPLICANT_DEMO_ROUTER": "types.SimpleNamespace",
        "DJANGO_SETTINGS_MODULE": "fansite.settings",
    }
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=PROJECT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[namespace()]\n"


ASGI = """
import asyncio, os, re, sqlite3
from pathlib import Path

import django
from django.core.management import call_command

django.setup()
call_command("migrate", verbosity=0)
call_command("seed")

from django.conf import settings
from django.db import connections
from asgiref.sync import sync_to_async
from django.test import AsyncClient
from replicator import Copy, Replicator

connections.close_all()
folder = Path(os.environ["REPLICANT_DEMO_FOLDER"])
copies = [Copy(alias, folder / f"{alias}.sqlite3", 0) for alias in ("replica1", "replica2")]
replicator = Replicator(folder / "primary.sqlite3", copies)
replicator.start()
replicator.stop()
settings.ALLOWED_HOSTS.append("testserver")


async def main():
    # The first request imports the URLs: slow, and no finding.
    asyncio.get_running_loop().slow_callback_duration = 5
    # Several at once, in one event loop: each has its own scope and its own bar.
    client = AsyncClient()
    for response in await asyncio.gather(*(client.get("/") for _ in range(5)), client.get("/statistics/")):
        assert int(response["Content-Length"]) == len(response.content)
        print(response.status_code, *re.findall(r'data-alias="(.*?)"', response.content.decode()))
    # Python 3.13 warns of one that is still open at the end.
    await sync_to_async(connections.close_all)()


asyncio.run(main())
"""


def test_under_asgi_each_of_several_requests_at_once_has_its_own_replica_and_bar(tmp_path: Path) -> None:
    # The monitor looks at them before they are copies.
    for alias in ("replica1", "replica2"):
        (tmp_path / f"{alias}.sqlite3").touch()
    environment = {
        **os.environ,
        "REPLICANT_DEMO_FOLDER": str(tmp_path),
        "DJANGO_SETTINGS_MODULE": "fansite.settings",
    }
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-c", ASGI],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr
    *fronts, statistics = done.stdout.splitlines()
    assert len(fronts) == 5
    for front in fronts:
        assert front in {"200" + " replica1" * 5, "200" + " replica2" * 5}
    assert statistics == "200" + " replica2" * 3
