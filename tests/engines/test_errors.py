"""Which errors say that the server is gone."""

from __future__ import annotations

import threading

import pytest
from django.db import DatabaseError, OperationalError, connections

from replicant.engines import engine_of
from tests.engines.positions import engine_for, execute, wait, write
from tests.servers import Cluster


def test_a_server_lost_during_the_wait_is_an_operational_error(servers: Cluster):
    replica = servers.replicas[0]
    replica.pause_replication()
    position = write()
    engine_for("replica1")
    kill = threading.Timer(0.2, replica.kill)
    kill.start()
    try:
        with pytest.raises(OperationalError) as lost:
            wait("replica1", position, 20.0)
        assert engine_of(connections["replica1"]).is_gone(lost.value)
        kill.join()
        connections["replica1"].close()
        with pytest.raises(OperationalError) as refused:
            connections["replica1"].ensure_connection()
        assert engine_of(connections["replica1"]).is_gone(refused.value)
    finally:
        kill.join()
        replica.restart()


def test_an_error_of_the_statement_says_nothing_of_the_server(servers: Cluster):
    with pytest.raises(DatabaseError) as wrong:
        execute("SELECT nonsense")
    assert not engine_for("default").is_gone(wrong.value)


def test_psycopgs_own_errors_are_known_by_their_state():
    psycopg = pytest.importorskip("psycopg")
    judge = engine_of(type("Connection", (), {"vendor": "postgresql"})())  # type: ignore[arg-type]
    gone = [psycopg.errors.AdminShutdown, psycopg.errors.CrashShutdown, psycopg.errors.CannotConnectNow]
    gone += [psycopg.errors.ConnectionFailure, psycopg.OperationalError]
    here = [psycopg.errors.UniqueViolation, psycopg.errors.LockNotAvailable, psycopg.errors.TooManyConnections]
    here += [psycopg.errors.SerializationFailure, psycopg.errors.InvalidPassword]
    assert [error for error in gone if not judge.is_gone(error("x"))] == []
    assert [error for error in here if judge.is_gone(error("x"))] == []
