"""What tests of positions share: the engine of an alias, and the primary's position as its administrator sees it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from django.db import connection, connections

from replicant._core import Position
from replicant.engines import engine_of
from tests.app.models import Tag
from tests.servers import Cluster

#: A wait takes longer than its timeout by a round trip, on a machine that does other things as well.
SLACK_SECONDS = 0.4


def engine_for(alias: str) -> Any:
    connections[alias].ensure_connection()
    return engine_of(connections[alias])


def driver_query(alias: str, sql: str) -> Any:
    with connections[alias].connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()


def position_of(cluster: Cluster) -> Position:
    """The position of the primary, as its administrator sees it."""
    text = cluster.primary.position()
    if cluster.engine == "postgresql":
        file = cluster.primary.value("SELECT pg_walfile_name(pg_current_wal_insert_lsn())")
        text = f"{int(file[:8], 16)}:{text}"
    return Position(cluster.engine, text)


on_both = pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def write() -> Position:
    """Create a row and return the position of its transaction."""
    Tag.objects.create(name="x")
    position = engine_for("default").ask_position(connection)
    assert position is not None
    return position


def wait(alias: str, position: Position, seconds: float) -> tuple[Position | None, float]:
    """Wait for a position: what the engine returned, and how long it took."""
    waiter = engine_for(alias)
    start = time.monotonic()
    reached = waiter.wait(connections[alias], position, seconds)
    return reached, time.monotonic() - start
