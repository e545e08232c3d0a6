"""The position of a write as a query after the COMMIT finds it."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from django.db import OperationalError, connection, connections
from django.db.backends.mysql import base

from replicant.connections import causality
from replicant.engines import query
from tests.app.models import Tag
from tests.databases import ours, use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.engines.positions import driver_query, engine_for, on_both, position_of, write
from tests.servers import Cluster


def test_a_question_after_the_commit_says_how_far_it_came(servers: Cluster):
    for autocommit in (True, False):
        connection.ensure_connection()
        connection.set_autocommit(autocommit)
        for _ in range(20):
            before = position_of(servers)
            Tag.objects.create(name="x")
            if not autocommit:
                connection.commit()
            asked = engine_for("default").ask_position(connection)
            assert asked is not None
            assert not before.contains(asked)
            if not autocommit and servers.engine == "postgresql":
                assert not engine_for("default").in_transaction(connection)
            for alias in ("replica1", "replica2"):
                assert engine_for(alias).wait(connections[alias], asked, 5.0)
                assert Tag.objects.using(alias).count() == Tag.objects.using("default").count()
            if not autocommit:
                connection.rollback()
        connection.set_autocommit(True)


@on_both
@pytest.mark.parametrize("driver", DRIVERS)
def test_rows_still_to_be_read_are_not_lost_to_a_question(cluster: Cluster, database: str, driver: str):
    databases = ours(cluster.databases(database))
    known = position_of(cluster)
    with mysql_driver(driver):
        module = base.DatabaseWrapper.Database.__name__
        databases["default"]["OPTIONS"] = {"cursorclass": importlib.import_module(f"{module}.cursors").SSCursor}
        with use_databases(databases):
            Tag.objects.all().delete()
            Tag.objects.bulk_create([Tag(name=f"{number}") for number in range(1000)])
            with connection.cursor() as cursor:
                cursor.execute("SELECT name FROM app_tag ORDER BY id")
                rows = [cursor.fetchone()]
                assert causality.query_position("default") is None
                assert causality.position("default") is None
                assert causality.wait("default", known, 0.1) is None
                rows += cursor.fetchall()
            assert [name for (name,) in rows] == [f"{number}" for number in range(1000)]
            # PyMySQL tells when all were read.
            assert (causality.query_position("default") is None) is (driver == "mysqlclient")


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_question_does_not_wait_for_rows_that_its_own_thread_is_to_read(servers: Cluster):
    pytest.importorskip("psycopg", reason="psycopg 2 cannot stream")
    known = write()
    with connection.connection.cursor() as cursor:
        rows = cursor.stream("SELECT generate_series(1, 1000)")
        read = [next(rows)]
        assert causality.query_position("default") is None
        assert causality.position("default") is None
        assert causality.wait("default", known, 0.1) is None
        read += rows
    assert len(read) == 1000
    assert causality.query_position("default") is not None


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_a_connection_lost_just_after_an_answer_is_an_error_of_djangos(
    servers: Cluster, monkeypatch: pytest.MonkeyPatch
):
    def ask_and_lose(wrapper: Any, sql: str) -> Any:
        row = query.ask(wrapper, sql)
        number = wrapper.connection.info.backend_pid
        servers.primary.query(f"SELECT pg_terminate_backend({number}, 5000)")
        return row

    monkeypatch.setattr("replicant.engines.postgresql.ask", ask_and_lose)
    connection.ensure_connection()
    connection.set_autocommit(False)
    with pytest.raises(OperationalError):
        engine_for("default").ask_position(connection)
    connection.close()


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_the_start_of_a_block_is_no_place_to_wait_for(servers: Cluster):
    """Insert positions behind a block's header are never replayed up to, until something more is written."""
    seen = 0
    for number in range(4000):
        size = 50 + number * 7 % 300
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_logical_emit_message(true, 'x', repeat('x', %s)), 1", [size])
        inserted = connection_lsn()
        if inserted % 8192 in (24, 40):
            asked = engine_for("default").ask_position(connection)
            if connection_lsn() == inserted:
                seen += 1
                assert engine_for("replica1").wait(connections["replica1"], asked, 5.0)
        if seen == 3:
            break
    assert seen


def connection_lsn() -> int:
    text = driver_query("default", "SELECT pg_current_wal_insert_lsn()")[0]
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


@pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)
def test_segments_of_the_usual_size_are_measured_too(servers: Cluster):
    from replicant.engines.postgresql import _end_of_record

    kib, mib = 1024, 1024**2
    for segment in (mib, 16 * mib, 1024 * mib):
        assert _end_of_record(segment + 40, 8 * kib, segment) == segment
        assert _end_of_record(segment + 8 * kib + 24, 8 * kib, segment) == segment + 8 * kib
        assert _end_of_record(segment + 8 * kib + 40, 8 * kib, segment) == segment + 8 * kib + 40
        assert _end_of_record(segment + 48, 8 * kib, segment) == segment + 48
    # With 16 MiB, the start of the second MiB is that of a block only.
    assert _end_of_record(17 * mib + 24, 8 * kib, 16 * mib) == 17 * mib
    assert _end_of_record(17 * mib + 24, 8 * kib, mib) == 17 * mib
