"""The check W015, which asks the servers: several of them are behind one alias."""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Iterator, Sequence

import pytest
from django.db import connections

from replicant import checks
from replicant.checks import check_servers
from tests.servers import Cluster, Node


@contextlib.contextmanager
def taking_turns(nodes: Sequence[Node]) -> Iterator[int]:
    """A port behind which the servers answer in turn, a connection each: a balancer, or a reader endpoint."""
    sockets = [socket.create_server(("127.0.0.1", 0))]

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_RDWR)

    def listen() -> None:
        with contextlib.suppress(OSError):
            for node in itertools.cycle(nodes):
                client, _ = sockets[0].accept()
                server = socket.create_connection((node.host, node.port))
                sockets.extend((client, server))
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=pump, args=pair, daemon=True).start()

    threading.Thread(target=listen, daemon=True).start()
    try:
        yield sockets[0].getsockname()[1]
    finally:
        for one in sockets:
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()


def test_w015_several_servers_behind_one_alias(servers: Cluster):
    aliases = ["default", "replica1", "replica2"]
    assert check_servers(None, databases=aliases) == []
    with taking_turns(servers.replicas) as port:
        connections.settings["replica1"] = {**connections.settings["replica1"], "PORT": port}
        (told,) = check_servers(None, databases=aliases)
        assert told.id == "replicant.W015"
        assert "'replica1'" in told.msg
        assert check_servers(None, databases=["default"]) == []


def test_w015_a_server_that_is_restarted_between_two_looks_is_one_server(
    servers: Cluster, monkeypatch: pytest.MonkeyPatch
):
    looks: list[str] = []

    def look(alias: str) -> str:
        if len(looks) == 2:
            servers.replicas[0].restart()
        looks.append(server_of(alias))
        return looks[-1]

    server_of = checks._server
    monkeypatch.setattr(checks, "_server", look)
    assert check_servers(None, databases=["replica1"]) == []
    assert len(looks) == 4
    assert len(set(looks)) == 1
    assert looks[0]
