"""Threads that meet at one point of the package's Python code: no step relies on the GIL.

No free-threaded CPython runs these; each schedule is forced, by an interruption at the point where a thread could be.
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest
from django.db import connections
from django.db.backends.signals import connection_created

from replicant import patches
from replicant.connections import connecting, server_map, sockets
from replicant.patches import test_runner


def test_a_thread_that_finds_the_patches_installed_finds_them_all(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(patches, "_installed", False)
    inside, go_on, found = threading.Event(), threading.Event(), []
    connect = connection_created.connect

    def slow(*args, **kwargs):
        inside.set()
        assert go_on.wait(60)
        return connect(*args, **kwargs)

    monkeypatch.setattr(connection_created, "connect", slow)
    monkeypatch.setattr(test_runner, "install", lambda: None)

    def second() -> None:
        patches.install()
        found.append(go_on.is_set())

    threads = [threading.Thread(target=patches.install), threading.Thread(target=second)]
    threads[0].start()
    assert inside.wait(60)
    assert not patches._installed
    threads[1].start()
    # The second thread must not return while the first is still at it.
    threads[1].join(0.2)
    assert found == []
    go_on.set()
    for thread in threads:
        thread.join(60)
    assert found == [True]


def test_no_outage_is_lost_to_another_at_the_same_time(site: Path):
    """A connection of before either outage is out of date, and so is one of between them."""

    class Interrupted(dict):
        """Another thread takes the replica out between what a thread reads here and what it writes."""

        interrupts = True

        def __setitem__(self, alias, value):
            if self.interrupts:
                self.interrupts = False
                server_map.retire(alias)
                with connecting.connecting(between):
                    pass
            super().__setitem__(alias, value)

    before, between = connections.create_connection("replica1"), connections.create_connection("replica1")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(server_map, "_outages", Interrupted())
        with connecting.connecting(before):
            pass
        server_map.retire("replica1")
        assert server_map.is_outdated(before)
        assert server_map.is_outdated(between)
        after = connections.create_connection("replica1")
        with connecting.connecting(after):
            pass
        assert not server_map.is_outdated(after)


def test_the_lines_are_listed_from_a_copy(monkeypatch: pytest.MonkeyPatch):
    """Without the GIL, a list of a dictionary's values fails while another thread adds one."""

    class Unlisted(dict):
        def values(self):
            raise RuntimeError("dictionary changed size during iteration")

    monkeypatch.setattr(sockets, "_lines", Unlisted())
    assert sockets.of("replica1") == []


def test_the_client_library_is_left_alone_while_the_gil_is_off():
    pytest.importorskip("MySQLdb._mysql")
    code = (
        "import sys, MySQLdb._mysql as driver\n"
        "from replicant import _core\n"
        "sys._is_gil_enabled = lambda: False\n"
        "print(_core.load_mysql_client(driver.__file__))\n"
        "sys._is_gil_enabled = lambda: True\n"
        "print(_core.load_mysql_client(driver.__file__))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False)
    assert (run.stdout, run.stderr) == ("False\nTrue\n", "")
