"""The sockets of connections, which the monitor may shut under the drivers' hands."""

from __future__ import annotations

import contextlib
import gc
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from replicant.connections import sockets


class Connection:
    """As much of a connection as is looked at: MySQL's engine asks PyMySQL's connections for their sockets."""

    vendor = "mysql"

    def __init__(self, alias: str, server: str, connection: socket.socket) -> None:
        self.alias = alias
        self.replicant_server = server
        self.connection = connection


@pytest.fixture
def connect() -> Iterator[object]:
    """Open a connection; returns it and the server's end."""
    with contextlib.ExitStack() as stack:

        def connect(alias: str, server: str) -> tuple[Connection, socket.socket]:
            ours, theirs = socket.socketpair()
            stack.enter_context(ours)
            stack.enter_context(theirs)
            theirs.setblocking(False)
            connection = Connection(alias, server, ours)
            sockets.opened(connection)
            stack.callback(sockets.closed, connection)
            return connection, theirs

        yield connect


def has_ended(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


def test_only_what_leads_to_the_server_is_hung_up(connect):
    ends = [connect(alias, server)[1] for alias, server in [("a", "a"), ("a", "b"), ("b", "b")]]
    sockets.hang_up("a", "b")
    assert [has_ended(end) for end in ends] == [False, True, False]
    sockets.hang_up("a")
    assert [has_ended(end) for end in ends] == [True, True, False]


def test_a_connection_that_was_closed_is_left_alone_and_leaves_nothing_behind(connect):
    descriptors = Path("/proc/self/fd")
    before = len(list(descriptors.iterdir()))
    connection, end = connect("a", "a")
    sockets.closed(connection)
    sockets.hang_up("a")
    assert not has_ended(end)
    forgotten, other = connect("a", "a")
    forgotten.__dict__.clear()
    gc.collect()
    assert sockets.of("a") == []
    for each in (connection.connection, end, other):
        each.close()
    assert len(list(descriptors.iterdir())) <= before + 1


def test_connections_may_be_opened_while_they_are_listed():
    ours, theirs = socket.socketpair()
    stopping = threading.Event()

    def open_and_close() -> None:
        several = [Connection("busy", "busy", ours) for _ in range(100)]
        while not stopping.is_set():
            for connection in several:
                sockets.opened(connection)
        for connection in several:
            sockets.closed(connection)

    switches, threads = sys.getswitchinterval(), [threading.Thread(target=open_and_close) for _ in range(2)]
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for _ in range(2000):
            sockets.of("busy")
    finally:
        sys.setswitchinterval(switches)
        stopping.set()
        for thread in threads:
            thread.join()
        ours.close()
        theirs.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_leaves_its_parents_connections_alone(connect):
    _, end = connect("a", "a")
    child = os.fork()
    if child == 0:
        sockets.hang_up("a")
        os._exit(0)
    os.waitpid(child, 0)
    assert not has_ended(end)
