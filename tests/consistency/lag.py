"""Replicas that are behind by as much as one likes, less than a second too, on every engine."""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import Any, cast

from tests.servers import Cluster, Node

_CHUNK = 65536


@contextmanager
def behind(cluster: Cluster, seconds: float) -> Iterator[None]:
    """Keep every replica ``seconds`` behind the primary, and let them catch up afterwards."""
    with adjustable(cluster) as delay:
        for replica in cluster.replicas:
            delay(replica, seconds)
        yield
    cluster.wait_until_caught_up()


@contextmanager
def adjustable(cluster: Cluster) -> Iterator[Callable[[Node, float], None]]:
    """Gives what sets, at any time, how many seconds a replica is behind the primary: at first none.

    PostgreSQL holds changes back by itself. MySQL and MariaDB do so by whole seconds only: there the changes take as
    long on their way. A change that is on its way is late by what was set last, so that 0 lets all of them in.
    """
    if cluster.engine == "postgresql":
        try:
            yield lambda replica, seconds: replica.delay(seconds)
        finally:
            for replica in cluster.replicas:
                replica.delay(0)
        return
    with ExitStack() as stack:
        lines: dict[str, _Line] = {}
        for replica in cluster.replicas:
            lines[replica.name] = stack.enter_context(closing(_Line(cluster.primary)))
            stack.callback(replica.follow, cluster.primary)
            replica.follow(cast(Node, lines[replica.name]))
        # To connect takes a dozen questions, each as long as the delay: first let a change come through.
        cluster.primary.query("FLUSH PRIVILEGES")
        cluster.wait_until_caught_up()
        yield lambda replica, seconds: lines[replica.name].hold(seconds)


class _Line:
    """Stands in front of a primary, and lets what it sends arrive some seconds later. A source, to a replica."""

    running = True

    def __init__(self, source: Node) -> None:
        self._seconds = 0.0
        self._changed = threading.Condition()
        self._source = source
        self._listener = socket.create_server((source.host, 0))
        self.host, self.port = self._listener.getsockname()
        self._sockets = [self._listener]
        threading.Thread(target=self._listen, daemon=True).start()

    def hold(self, seconds: float) -> None:
        with self._changed:
            self._seconds = seconds
            self._changed.notify_all()

    def close(self) -> None:
        self.hold(0)
        for one in self._sockets:
            with suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _listen(self) -> None:
        with suppress(OSError):
            while True:
                replica, _ = self._listener.accept()
                source = socket.create_connection((self._source.host, self._source.port))
                self._sockets += [replica, source]
                late: queue.Queue[tuple[float, bytes]] = queue.Queue()
                for work in ((self._pass, replica, source), (self._hold, source, late), (self._release, late, replica)):
                    threading.Thread(target=self._until_closed, args=work, daemon=True).start()

    @staticmethod
    def _until_closed(work: Any, *arguments: Any) -> None:
        with suppress(OSError):
            work(*arguments)

    @staticmethod
    def _pass(replica: socket.socket, source: socket.socket) -> None:
        while data := replica.recv(_CHUNK):
            source.sendall(data)
        source.shutdown(socket.SHUT_RDWR)

    def _hold(self, source: socket.socket, late: queue.Queue[tuple[float, bytes]]) -> None:
        try:
            while data := source.recv(_CHUNK):
                late.put((time.monotonic(), data))
        finally:
            late.put((0.0, b""))

    def _release(self, late: queue.Queue[tuple[float, bytes]], replica: socket.socket) -> None:
        while True:
            sent, data = late.get()
            if not data:
                replica.shutdown(socket.SHUT_RDWR)
                return
            with self._changed:
                while (left := sent + self._seconds - time.monotonic()) > 0:
                    self._changed.wait(left)
            replica.sendall(data)
