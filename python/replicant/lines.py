"""The sockets of this process's own connections to replicas, so that a read that waits for a silent one can be ended.

No driver has a time limit that spares a slow report and ends a wait for a server that will never answer. The monitor
can tell the two apart, and shuts down the sockets under the drivers' hands: what waits there fails at once.
"""

from __future__ import annotations

import contextlib
import os
import socket
import weakref
from collections import defaultdict
from typing import TYPE_CHECKING

from replicant.engines import engine_of
from replicant.prober import allocate_lock

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: A replica that has answered no probe for so many seconds is not waited for any longer: two probes, and longer than
#: one that is merely busy should take.
SILENCE_SECONDS = 1.5

#: Where a connection keeps its line.
_ATTRIBUTE = "_replicant_line"


class _Line:
    """A second descriptor of a connection's socket: the driver's own may be closed, and another file by now."""

    def __init__(self, descriptor: int) -> None:
        self._lock = allocate_lock()
        self._process = os.getpid()
        self._descriptor: int | None = os.dup(descriptor)

    def hang_up(self) -> None:
        with self._lock:
            # A parent's connections are none of its child's business.
            if self._descriptor is not None and self._process == os.getpid():
                with contextlib.suppress(OSError), socket.socket(fileno=os.dup(self._descriptor)) as handle:
                    handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()


_lines: defaultdict[str, weakref.WeakSet[_Line]] = defaultdict(weakref.WeakSet)


def opened(connection: BaseDatabaseWrapper) -> None:
    """A connection was opened."""
    closed(connection)
    with contextlib.suppress(Exception):
        # Of an engine or a driver that hides it, or closed in the meantime: then it cannot be ended from here.
        descriptor = engine_of(connection).socket_of(connection)
        if descriptor is not None:
            line = connection.__dict__[_ATTRIBUTE] = _Line(descriptor)
            _lines[connection.alias].add(line)


def closed(connection: BaseDatabaseWrapper) -> None:
    """The connection is of no use any more."""
    line: _Line | None = connection.__dict__.pop(_ATTRIBUTE, None)
    if line is not None:
        line.close()


def hang_up(alias: str) -> None:
    """End whatever waits for an answer of ``alias`` in this process."""
    for line in list(_lines.get(alias, ())):
        line.hang_up()
