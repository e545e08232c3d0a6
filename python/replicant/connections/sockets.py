"""The sockets of this process's own connections, so that a wait for a server that is silent or gone can be ended.

No driver has a time limit that spares a slow report and ends a wait for a server that will never answer. The monitor
can tell the two apart, and shuts down the sockets under the drivers' hands: what waits there fails at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING

from replicant.engines import engine_of
from replicant.threads import allocate_lock

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant.connections.followed import FollowedConnection

#: A read waits for a replica that does not answer for no longer than so many seconds, whatever it then does elsewhere
#: included: longer than a server that is merely busy should take for a probe.
SILENCE_SECONDS = 1.5
#: What of that is left for the read to be executed elsewhere, most often on a connection that is to be opened first
#: (PyMySQL takes a tenth of a second for that where it reads the system's certificates).
_REROUTE_SECONDS = 0.5
HANG_UP_SECONDS = SILENCE_SECONDS - _REROUTE_SECONDS

#: Where a connection keeps its line.
_ATTRIBUTE = "_replicant_line"


class _Line:
    """A second descriptor of a connection's socket: the driver's own may be closed, and another file by now."""

    def __init__(self, alias: str, server: str, descriptor: int) -> None:
        self.alias = alias
        self.server = server
        self._lock = allocate_lock()
        self._process = os.getpid()
        #: Since when a read has waited here for an answer (``time.monotonic()``); None while none does.
        self.waiting_since: float | None = None
        self._descriptor: int | None = None
        self._descriptor = socket.dup(descriptor)

    def hang_up(self) -> None:
        with self._lock:
            # A parent's connections are none of its child's business.
            if self._descriptor is not None and self._process == os.getpid():
                shut_down(self._descriptor)

    @contextlib.contextmanager
    def waiting(self, may_be_ended: bool) -> Iterator[None]:
        """Around a statement on the primary; whether the wait for its answer may be ended.

        That ends under the lock, so that nothing that is sent afterwards is ended for this statement's sake.
        """
        self.waiting_since = time.monotonic() if may_be_ended else None
        try:
            yield
        finally:
            with self._lock:
                self.waiting_since = None

    def hang_up_wait(self) -> None:
        """Hang up if a read waits here for an answer."""
        with self._lock:
            if self.waiting_since is not None and self._descriptor is not None and self._process == os.getpid():
                shut_down(self._descriptor)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                socket.close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()


is_in_use = False
"""Whether a connection was ever opened here whose wait can be ended."""

#: Each by an object of its own. A dictionary can be copied while other threads open and close connections, with or
#: without the GIL; its values can be listed only with it.
_lines: dict[object, weakref.ref[_Line]] = {}


def opened(connection: FollowedConnection) -> None:
    """A connection was opened."""
    global is_in_use
    closed(connection)
    with contextlib.suppress(Exception):
        # Of an engine or a driver that hides it, or closed in the meantime: then it cannot be ended from here.
        descriptor = engine_of(connection).socket_of(connection)
        if descriptor is not None:
            is_in_use = True
            key = object()
            line = _Line(connection.alias, connection.replicant_server, descriptor)
            _lines[key] = weakref.ref(line, lambda _: _lines.pop(key, None))
            connection.__dict__[_ATTRIBUTE] = line


def closed(connection: FollowedConnection) -> None:
    """The connection is of no use any more."""
    line: _Line | None = connection.__dict__.pop(_ATTRIBUTE, None)
    if line is not None:
        line.close()


def of(alias: str) -> list[_Line]:
    """Those of ``alias`` that are open in this process."""
    lines = [reference() for reference in _lines.copy().values()]
    return [line for line in lines if line is not None and line.alias == alias]


def line_of(connection: BaseDatabaseWrapper) -> _Line | None:
    """The line of an open connection; None where there is none."""
    line: _Line | None = connection.__dict__.get(_ATTRIBUTE)
    return line


def waiting_since(alias: str, server: str) -> float | None:
    """Since when the read that has waited the longest in this process for ``server``, behind ``alias``, waits
    (``time.monotonic()``); None if none does."""
    times = [line.waiting_since for line in of(alias) if line.server == server]
    return min((at for at in times if at is not None), default=None)


def hang_up(alias: str, server: str | None = None) -> None:
    """End whatever waits for an answer of ``alias`` in this process; of one server that is, or was, behind it."""
    for line in of(alias):
        if server is None or line.server == server:
            line.hang_up()


def end_waits(primary: str) -> None:
    """End the waits of reads for an answer of ``primary``, and of nothing else: a write may yet be carried out."""
    for line in of(primary):
        line.hang_up_wait()


def shut_down(descriptor: int) -> None:
    """Shut down the socket behind a descriptor: whoever waits there for an answer has an error at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(descriptor)) as handle:
        handle.shutdown(socket.SHUT_RDWR)
