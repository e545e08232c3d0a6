"""How long our engines try to connect, whatever the driver's own limits are."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar

import pytest
from django.db import router

from replicant.engines import connect_deadline
from tests.app.models import Item
from tests.connections.failing_replicas import naive, names, state
from tests.databases import ours, use_databases
from tests.monitoring import NEVER, black_hole, watching
from tests.servers import Cluster

__all__ = ["naive"]

#: Far below what the drivers can be told: MySQL's 1 s, libpq 2 s.
SHORT = 0.2
_SECONDS = 20.0


@pytest.fixture(params=["black hole", "silent"])
def deaf(request: pytest.FixtureRequest) -> Iterator[int]:
    """A port that takes no connections, or takes them and says nothing."""
    if request.param == "black hole":
        with black_hole() as port:
            yield port
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            yield listener.getsockname()[1]


def test_a_replica_that_does_not_answer_takes_no_longer_than_connect_seconds(naive: Cluster, database: str, deaf: int):
    databases = ours(naive.databases(database))
    databases["replica1"] = {**databases["replica1"], "PORT": str(deaf)}
    with use_databases(databases, REPLICANT=watching(NEVER, CONNECT_SECONDS=SHORT)):
        router.db_for_read(Item)
        begun = time.monotonic()
        assert names() == ["0", "1", "2"]
        assert SHORT <= time.monotonic() - begun < 0.95
        assert state("replica1") == "down"


class Connection:
    def __init__(self) -> None:
        self.closed = threading.Event()

    def close(self) -> None:
        self.closed.set()


def test_a_connection_that_is_made_too_late_is_closed():
    goes_on, made = threading.Event(), Connection()

    def make() -> Connection:
        goes_on.wait(_SECONDS)
        return made

    with pytest.raises(TimeoutError, match="late"):
        connect_deadline.connect(make, 0.01, TimeoutError("late"))
    assert not made.closed.is_set()
    goes_on.set()
    assert made.closed.wait(_SECONDS)


def test_a_connection_that_is_made_in_time_stays_open_and_knows_the_context():
    variable: ContextVar[int] = ContextVar("variable")
    variable.set(7)
    made, seen = Connection(), []

    def make() -> Connection:
        seen.append(variable.get())
        return made

    assert connect_deadline.connect(make, _SECONDS, TimeoutError()) is made
    assert seen == [7]
    assert not made.closed.is_set()


def test_an_error_is_the_callers():
    def make() -> None:
        raise ValueError("refused")

    with pytest.raises(ValueError, match="refused"):
        connect_deadline.connect(make, _SECONDS, TimeoutError())
