"""PostgreSQL servers that refuse a connection, in languages of their own: libpq hands out no SQLSTATE for that."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Iterator

import pytest
from django.db import OperationalError, connections, router

from replicant.engines import Failure, postgresql
from replicant.engines.failure import mark_connecting
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.failing_replicas import naive, names, state
from tests.databases import ours, use_databases
from tests.monitoring import FAST, NEVER, watching
from tests.servers import Cluster
from tests.servers.machine import HOST, wait_until

__all__ = ["naive"]

WRONG_PASSWORD = {
    "German": ("28P01", "FATAL", "Passwort-Authentifizierung für Benutzer »u« fehlgeschlagen"),
    "Korean": ("28P01", "치명적오류", '사용자 "u"의 password 인증을 실패했습니다'),
}
STARTS = {
    "German": ("57P03", "FATAL", "das Datenbanksystem startet"),
    "Korean": ("57P03", "치명적오류", "데이터베이스 시스템이 새로 가동 중입니다."),
}
_SECONDS = 30.0


@contextlib.contextmanager
def refusing(state: str, severity: str, text: str) -> Iterator[tuple[int, list[int]]]:
    """A server that answers each attempt to connect with this error: its port, and the attempts."""
    fields = {b"S": severity, b"V": "FATAL", b"C": state, b"M": text}
    body = b"".join(name + value.encode() + b"\0" for name, value in fields.items()) + b"\0"
    attempts: list[int] = []

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, contextlib.suppress(OSError, struct.error):
                    _startup(client)
                    attempts.append(1)
                    client.sendall(b"E" + struct.pack("!i", len(body) + 4) + body)

    with socket.create_server((HOST, 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1], attempts
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def _startup(client: socket.socket) -> None:
    """Read the startup message; the requests for TLS and GSSAPI before it are declined."""
    while True:
        length, code = struct.unpack("!ii", client.recv(8, socket.MSG_WAITALL))
        client.recv(length - 8, socket.MSG_WAITALL) if length > 8 else b""
        if code >> 16 == 3:
            return
        client.sendall(b"N")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
@pytest.mark.parametrize("language", ["German", "Korean"])
@pytest.mark.parametrize("said", [WRONG_PASSWORD, STARTS], ids=["wrong-password", "starts"])
def test_a_refusal_in_another_language_ejects_no_replica_and_fails_no_read(
    naive: Cluster, database: str, said: dict[str, tuple[str, str, str]], language: str
):
    databases = ours(naive.databases(database))
    with refusing(*said[language]) as (port, attempts):
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(NEVER)):
            router.db_for_read(Item)
            assert names() == ["0", "1", "2"]
            assert attempts
            assert state("replica1") == "up"


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_monitors_wrong_password_in_another_language_ejects_no_replica(naive: Cluster, database: str):
    databases = naive.databases(database)
    with refusing(*WRONG_PASSWORD["Korean"]) as (port, attempts):
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(FAST)):
            router.db_for_read(Item)
            wait_until(lambda: len(attempts) > 3 and "replica1" in cluster_monitor.latest(), _SECONDS, "it is probed")
            assert not cluster_monitor.latest()["replica1"].is_gone


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_server_that_says_in_english_that_it_starts_or_refuses_tcp_is_gone(naive: Cluster, database: str):
    databases = ours(naive.databases(database))
    with refusing("57P03", "FATAL", "the database system is starting up") as (port, attempts):
        databases["replica1"] = {**databases["replica1"], "PORT": str(port)}
        with use_databases(databases, REPLICANT=watching(NEVER)):
            router.db_for_read(Item)
            assert names() == ["0", "1", "2"]
            assert attempts
            assert state("replica1") == "down"
    # Nothing listens there any more.
    with use_databases(databases, REPLICANT=watching(NEVER)):
        with pytest.raises(OperationalError) as caught, connections["replica1"].wrap_database_errors:
            connections["replica1"].connect()
        assert postgresql.failure(caught.value) is Failure.ENDED


def test_a_server_that_ends_a_session_is_no_refusal():
    error = OperationalError("consuming input failed: FATAL:  Verbindung wird abgebrochen")
    assert postgresql.failure(error) is Failure.ENDED
    mark_connecting(error)
    assert postgresql.failure(error) is Failure.REFUSED
