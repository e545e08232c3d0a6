"""The sockets of this process's own connections, so that a wait for a server that is silent or gone can be ended.

No driver has a time limit that spares a slow report and ends a wait for a server that will never answer. The monitor
can tell the two apart. It shuts down sockets while the drivers use them: statements that wait there fail at once.
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

#: The longest time that a read may lose because a replica does not answer, in seconds. It includes the time for the
#: read on another member, and is longer than a server that is merely busy should take for a probe.
SILENCE_SECONDS = 1.5
#: The part of that time for the read on another member, most often on a connection that must be opened first (PyMySQL
#: takes a tenth of a second for that where it reads the system's certificates).
_REROUTE_SECONDS = 0.5
HANG_UP_SECONDS = SILENCE_SECONDS - _REROUTE_SECONDS

#: The attribute of a connection that holds its :class:`_Line`.
_ATTRIBUTE = "_replicant_line"


class _Line:
    """A second descriptor of a connection's socket, because the number of the driver's own descriptor may belong to
    another file once the driver has closed it."""

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
            # After a fork, never touch the parent's sockets.
            if self._descriptor is not None and self._process == os.getpid():
                shut_down(self._descriptor)

    @contextlib.contextmanager
    def waiting(self, may_be_ended: bool) -> Iterator[None]:
        """Around a statement on the primary. ``may_be_ended``: whether the wait for its answer may be ended.

        The wait is cleared under the lock, so that a hang-up for this statement cannot hit a later statement.
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
"""Whether this process has ever opened a connection on which a wait can be ended."""

#: Each line under its own key object. With or without the GIL, a dictionary can be copied while other threads open and
#: close connections; its values can be listed then only with the GIL.
_lines: dict[object, weakref.ref[_Line]] = {}


def opened(connection: FollowedConnection) -> None:
    """Keep a second descriptor of a connection that was opened."""
    global is_in_use
    closed(connection)
    with contextlib.suppress(Exception):
        # An engine or a driver may hide the socket, or the socket may be closed: waits on it cannot be ended then.
        descriptor = engine_of(connection).socket_of(connection)
        if descriptor is not None:
            is_in_use = True
            key = object()
            line = _Line(connection.alias, connection.replicant_server, descriptor)
            _lines[key] = weakref.ref(line, lambda _: _lines.pop(key, None))
            connection.__dict__[_ATTRIBUTE] = line


def closed(connection: FollowedConnection) -> None:
    """Close the second descriptor of a connection that is not used any more."""
    line: _Line | None = connection.__dict__.pop(_ATTRIBUTE, None)
    if line is not None:
        line.close()


def of(alias: str) -> list[_Line]:
    """The lines of ``alias`` that are open in this process."""
    lines = [reference() for reference in _lines.copy().values()]
    return [line for line in lines if line is not None and line.alias == alias]


def line_of(connection: BaseDatabaseWrapper) -> _Line | None:
    """The line of an open connection; None where there is none."""
    line: _Line | None = connection.__dict__.get(_ATTRIBUTE)
    return line


def waiting_since(alias: str, server: str) -> float | None:
    """When the longest wait of a read in this process for ``server``, behind ``alias``, began (``time.monotonic()``);
    None if no read waits."""
    times = [line.waiting_since for line in of(alias) if line.server == server]
    return min((at for at in times if at is not None), default=None)


def hang_up(alias: str, server: str | None = None) -> None:
    """End all waits for an answer of ``alias`` in this process; with ``server``, only those for that server."""
    for line in of(alias):
        if server is None or line.server == server:
            line.hang_up()


def end_waits(primary: str) -> None:
    """End the waits of reads for an answer of ``primary``, but not of writes: the server may yet execute a write."""
    for line in of(primary):
        line.hang_up_wait()


def shut_down(descriptor: int) -> None:
    """Shut down the socket behind a descriptor: a thread that waits there for an answer gets an error at once."""
    with contextlib.suppress(OSError), socket.socket(fileno=socket.dup(descriptor)) as handle:
        handle.shutdown(socket.SHUT_RDWR)
