"""Connection deadlines in fractions of a second. The drivers take whole seconds, and libpq at least two.

psycopg 3 connects in steps, so that this module can stop it between two steps. Its pool tries for 30 seconds by
default, and Django does not change that default.

The other drivers connect in one library call. This module makes that call in a thread, and abandons the thread when it
is late: the driver's own limit ends the thread later. The deadline holds for each part of the attempt (several hosts,
TLS, a server that accepts the connection and sends nothing), and under gevent, where the thread is a greenlet.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
import time
from collections.abc import Callable, Generator
from contextvars import ContextVar, copy_context
from typing import Any

_until: ContextVar[float | None] = ContextVar("replicant_connect_until", default=None)


def can_be(database: Any) -> bool:
    """Whether this driver connects in steps, so that it can be stopped between two of them."""
    return hasattr(getattr(database, "Connection", None), "_connect_gen") and hasattr(database, "errors")


def connect(make: Callable[[], Any], seconds: float, late: Exception) -> Any:
    """The connection that ``make`` returns; raises ``late`` if ``make`` takes longer than ``seconds``.

    A connection that is made too late is closed.
    """
    attempt = _Attempt(make)
    context = copy_context()
    threading.Thread(target=context.run, args=(attempt.run,), name="replicant-connect", daemon=True).start()
    return attempt.result(seconds, late)


class _Attempt:
    """One call of ``make``, in a different thread from the thread that waits for its result."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._made: Any = None
        self._error: BaseException | None = None
        self._is_abandoned = False

    def run(self) -> None:
        made: Any = None
        try:
            made = self._make()
        except BaseException as error:
            self._error = error
        with self._lock:
            is_abandoned, self._made = self._is_abandoned, made
            self._ended.set()
        if is_abandoned and made is not None:
            with contextlib.suppress(Exception):
                made.close()

    def result(self, seconds: float, late: Exception) -> Any:
        try:
            self._ended.wait(seconds)
        finally:
            # In `finally`, because an exception can interrupt the wait.
            with self._lock:
                self._is_abandoned = not self._ended.is_set()
        if self._is_abandoned:
            raise late
        error, self._error = self._error, None
        if error is not None:
            try:
                raise error
            finally:
                # The error's traceback refers to this frame.
                del error
        return self._made


class Database:
    """Stands in for the driver's module, but connects within ``seconds``."""

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
    """Stands in for a pool of connections, but hands one out within ``seconds``.

    ``in_use`` returns how many connections are in use. If all of them are in use, nothing is wrong with the server.
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
    """The same steps, until the deadline. psycopg resumes this generator at least ten times a second."""
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
