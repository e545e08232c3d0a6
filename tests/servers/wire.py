"""What the two wire clients share: one administrator's connection to one server, over its Unix socket.

The manager speaks the protocols itself (text queries only) because a client process per question costs 10 to
40 ms, the Python drivers are not installed when `make demo` starts, and a driver's own chatter would disturb
the statement counts that tests rely on.
"""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod

NULL = "NULL"
"""How a NULL appears in a row, as in the servers' own clients."""

Row = tuple[str, ...]


class QueryError(RuntimeError):
    """The server refused a statement; `code` is its error number, or SQLSTATE on PostgreSQL."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class Connection(ABC):
    """One open connection; any OSError out of it leaves it unusable, a QueryError does not."""

    def __init__(self, path: str, timeout: float) -> None:
        """Connect to the Unix socket at `path`; `timeout` (seconds) also bounds every later answer."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._buffer = b""
        try:
            self._socket.settimeout(timeout)
            self._socket.connect(path)
            self._log_in()
        except BaseException:
            self._socket.close()
            raise

    @abstractmethod
    def _log_in(self) -> None: ...

    @abstractmethod
    def query(self, sql: str) -> list[Row]:
        """Run `sql` (one or several statements) and return the rows of the last one that gave any."""

    def settimeout(self, seconds: float) -> None:
        """Bound every later answer; TimeoutError when one takes longer."""
        self._socket.settimeout(seconds)

    def close(self) -> None:
        self._socket.close()

    def _read(self, size: int) -> bytes:
        while len(self._buffer) < size:
            chunk = self._socket.recv(65536)
            if not chunk:
                raise ConnectionResetError("the server closed the connection")
            self._buffer += chunk
        answer, self._buffer = self._buffer[:size], self._buffer[size:]
        return answer
