"""A TCP proxy on loopback: an endpoint that can be moved to another server, cut, and turned into a black hole."""

from __future__ import annotations

import contextlib
import selectors
import socket
import threading
from collections.abc import Iterator, Sequence

from tests.servers import Node

_BYTES = 1 << 16
#: A listener whose queue holds one connection accepts two more than that before the system drops what comes.
_FILLERS = 8


class Proxy:
    """Forwards each connection to the server that is the target when it is opened; several targets take turns.

    Runs on a thread of its own. Every method returns when what it does is in force.
    """

    def __init__(self, *targets: Node) -> None:
        self._targets: Sequence[Node] = targets
        self._turn = 0
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        self.opened = 0
        """How many connections were forwarded."""
        self._pairs: dict[socket.socket, socket.socket] = {}
        self._fillers: list[socket.socket] = []
        self._is_black_hole = False
        #: Held while bytes are forwarded or connections accepted, so that a change waits for what is under way.
        self._lock = threading.Lock()
        self._is_closed = False
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def move(self, *targets: Node) -> None:
        """Lead new connections to other servers. Those that are open stay where they are."""
        with self._lock:
            self._targets = targets

    def cut(self) -> None:
        """Close every connection."""
        with self._lock:
            for one in list(self._pairs):
                self._drop(one)

    def vanish(self) -> None:
        """Become a black hole: forward nothing that was not forwarded, accept and refuse nobody."""
        with self._lock:
            self._is_black_hole = True
            self._listener.listen(0)
            for _ in range(_FILLERS):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(self._listener.getsockname())
                self._fillers.append(filler)

    def come_back(self) -> None:
        """Be no black hole any more. What was sent meanwhile is lost with the connections it was sent on."""
        with self._lock:
            for filler in self._fillers:
                filler.close()
            self._fillers.clear()
            with contextlib.suppress(BlockingIOError):
                while True:
                    self._listener.accept()[0].close()
            self._listener.listen(128)
            for one in list(self._pairs):
                self._drop(one)
            self._is_black_hole = False

    def close(self) -> None:
        self._is_closed = True
        self._thread.join()
        for one in (*self._pairs, *self._fillers, self._listener):
            one.close()
        self._selector.close()

    # On the thread.

    def _run(self) -> None:
        while not self._is_closed:
            for key, _ in self._selector.select(0.05):
                with self._lock:
                    if self._is_black_hole:
                        # Looked at again and again, which keeps nobody waiting for longer than the loop takes.
                        break
                    if key.fileobj is self._listener:
                        self._accept()
                    elif key.fileobj in self._pairs:
                        self._forward(key.fileobj)  # type: ignore[arg-type]
            if self._is_black_hole:
                threading.Event().wait(0.005)

    def _accept(self) -> None:
        with contextlib.suppress(BlockingIOError):
            client = self._listener.accept()[0]
            target = self._targets[self._turn % len(self._targets)]
            self._turn += 1
            try:
                server = socket.create_connection((target.host, target.port))
            except OSError:
                client.close()
                return
            self.opened += 1
            for one, other in ((client, server), (server, client)):
                one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._pairs[one] = other
                self._selector.register(one, selectors.EVENT_READ)

    def _forward(self, one: socket.socket) -> None:
        try:
            data = one.recv(_BYTES)
            self._pairs[one].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._drop(one)

    def _drop(self, one: socket.socket) -> None:
        other = self._pairs.pop(one, None)
        if other is None:
            return
        self._pairs.pop(other)
        for each in (one, other):
            self._selector.unregister(each)
            each.close()


@contextlib.contextmanager
def proxy(*targets: Node) -> Iterator[Proxy]:
    made = Proxy(*targets)
    try:
        yield made
    finally:
        made.close()
