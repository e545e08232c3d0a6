"""The sockets of this process's own connections, so that a wait for a server that is silent or gone can be ended.

No driver has a time limit that spares a slow report and ends a wait for a server that will never answer. The monitor
can tell the two apart, and shuts down the sockets under the drivers' hands: what waits there fails at once.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import weakref
from typing import TYPE_CHECKING

from replicant.engines import engine_of
from replicant.prober import allocate_lock, shut_down

if TYPE_CHECKING:
    from replicant.backends import ReplicantMixin

#: A replica that has answered no probe for so many seconds is not waited for any longer: two probes, and longer than
#: one that is merely busy should take.
SILENCE_SECONDS = 1.5

#: Where a connection keeps its line.
_ATTRIBUTE = "_replicant_line"


class _Line:
    """A second descriptor of a connection's socket: the driver's own may be closed, and another file by now."""

    def __init__(self, alias: str, server: str, descriptor: int) -> None:
        self.alias = alias
        self.server = server
        self._lock = allocate_lock()
        self._process = os.getpid()
        self._descriptor: int | None = None
        self._descriptor = os.dup(descriptor)

    def hang_up(self) -> None:
        with self._lock:
            # A parent's connections are none of its child's business.
            if self._descriptor is not None and self._process == os.getpid():
                shut_down(self._descriptor)

    def close(self) -> None:
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def __del__(self) -> None:
        self.close()


#: By number: a dictionary's values can be listed while other threads open and close connections, a set's items cannot.
_lines: dict[int, weakref.ref[_Line]] = {}
_numbers = itertools.count()


def opened(connection: ReplicantMixin) -> None:
    """A connection was opened."""
    closed(connection)
    with contextlib.suppress(Exception):
        # Of an engine or a driver that hides it, or closed in the meantime: then it cannot be ended from here.
        descriptor = engine_of(connection).socket_of(connection)
        if descriptor is not None:
            number = next(_numbers)
            line = _Line(connection.alias, connection.replicant_server, descriptor)
            _lines[number] = weakref.ref(line, lambda _: _lines.pop(number, None))
            connection.__dict__[_ATTRIBUTE] = line


def closed(connection: ReplicantMixin) -> None:
    """The connection is of no use any more."""
    line: _Line | None = connection.__dict__.pop(_ATTRIBUTE, None)
    if line is not None:
        line.close()


def of(alias: str) -> list[_Line]:
    """Those of ``alias`` that are open in this process."""
    lines = [reference() for reference in list(_lines.values())]
    return [line for line in lines if line is not None and line.alias == alias]


def hang_up(alias: str, server: str | None = None) -> None:
    """End whatever waits for an answer of ``alias`` in this process; of one server that is, or was, behind it."""
    for line in of(alias):
        if server is None or line.server == server:
            line.hang_up()
