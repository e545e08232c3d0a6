"""psycopg 3, connecting within parts of a second: by itself it takes whole ones, and never less than two.

Its pool tries for half a minute unless it is told otherwise, and Django does not tell it.
"""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar
from typing import Any

_until: ContextVar[float | None] = ContextVar("replicant_connect_until", default=None)


def can_be(database: Any) -> bool:
    """Whether this driver connects step by step, so that it can be stopped between two of them."""
    return hasattr(getattr(database, "Connection", None), "_connect_gen") and hasattr(database, "errors")


class Database:
    """Stands for the driver's module, but connects within so many seconds."""

    def __init__(self, database: Any, seconds: float) -> None:
        self._database = database
        self._seconds = seconds

    def __getattr__(self, name: str) -> Any:
        return getattr(self._database, name)

    def connect(self, *arguments: Any, **parameters: Any) -> Any:
        token = _until.set(time.monotonic() + self._seconds)
        try:
            return _connection_class(self._database).connect(*arguments, **parameters)
        finally:
            _until.reset(token)


class Pool:
    """Stands for a pool of connections, but gives one within so many seconds.

    ``in_use``: how many of them are in use. Where that is all of them, nothing is wrong with the server.
    """

    def __init__(self, pool: Any, seconds: float, in_use: Callable[[], int]) -> None:
        self._pool = pool
        self._seconds = seconds
        self._in_use = in_use

    def __getattr__(self, name: str) -> Any:
        return getattr(self._pool, name)

    def getconn(self) -> Any:
        errors: Any = sys.modules["psycopg_pool"]
        try:
            return self._pool.getconn(timeout=min(self._seconds, self._pool.timeout))
        except errors.PoolTimeout:
            if self._in_use() < self._pool.max_size:
                raise
            raise errors.TooManyRequests(f"all {self._pool.max_size} connections of the pool are in use") from None


@functools.cache
def _connection_class(database: Any) -> Any:
    class Connection(database.Connection):  # type: ignore[misc]
        @classmethod
        def _connect_gen(cls, *arguments: Any, **keywords: Any) -> Generator[Any, Any, Any]:
            steps = super()._connect_gen(*arguments, **keywords)
            return _in_time(steps, _until.get(), database.errors.ConnectionTimeout)

    return Connection


def _in_time(steps: Generator[Any, Any, Any], until: float | None, late: type[Exception]) -> Generator[Any, Any, Any]:
    """The same steps; psycopg takes the next one as soon as it can, and at least ten times in a second."""
    try:
        step = next(steps)
        while True:
            ready = yield step
            if until is not None and time.monotonic() >= until:
                raise late("connection timeout expired")
            step = steps.send(ready)
    except StopIteration as end:
        return end.value
    finally:
        steps.close()
