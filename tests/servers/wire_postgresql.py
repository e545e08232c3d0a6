"""The PostgreSQL frontend/backend protocol 3.0, as far as an administrator trusted on a Unix socket needs it.

Source: chapter "Frontend/Backend Protocol" of the PostgreSQL manual; simple queries, text format.
"""

from __future__ import annotations

import struct

from .wire import NULL, Connection, QueryError, Row

ADMINISTRATOR = "administrator"
_PROTOCOL = 196608  # 3.0


class PostgreSQLConnection(Connection):
    """A connection as the administrator to one database."""

    def __init__(self, path: str, timeout: float, database: str = "postgres") -> None:
        self._database = database
        super().__init__(path, timeout)

    def query(self, sql: str) -> list[Row]:
        self._send(b"Q", sql.encode() + b"\0")
        rows: list[Row] = []
        error: QueryError | None = None
        while True:
            kind, body = self._receive()
            if kind == b"T":
                rows = []
            elif kind == b"D":
                rows.append(_row(body))
            elif kind == b"E":
                error = _error(body)
            elif kind == b"Z":
                if error is not None:
                    raise error
                return rows

    def _log_in(self) -> None:
        fields = f"user\0{ADMINISTRATOR}\0database\0{self._database}\0client_encoding\0UTF8\0\0".encode()
        body = struct.pack("!I", _PROTOCOL) + fields
        self._socket.sendall(struct.pack("!I", len(body) + 4) + body)
        while True:
            kind, answer = self._receive()
            if kind == b"E":
                raise _error(answer)
            if kind == b"R" and answer[:4] != b"\0\0\0\0":
                raise ConnectionError("the server wants a password")
            if kind == b"Z":
                return

    def _send(self, kind: bytes, body: bytes) -> None:
        self._socket.sendall(kind + struct.pack("!I", len(body) + 4) + body)

    def _receive(self) -> tuple[bytes, bytes]:
        header = self._read(5)
        size: int = struct.unpack("!I", header[1:])[0]
        return header[:1], self._read(size - 4)


def _row(body: bytes) -> Row:
    fields = []
    at = 2
    for _ in range(int.from_bytes(body[:2], "big")):
        size = int.from_bytes(body[at : at + 4], "big", signed=True)
        at += 4
        if size < 0:
            fields.append(NULL)
            continue
        fields.append(body[at : at + size].decode(errors="replace"))
        at += size
    return tuple(fields)


def _error(body: bytes) -> QueryError:
    parts = {part[:1]: part[1:].decode(errors="replace") for part in body.split(b"\0") if part}
    return QueryError(parts.get(b"C", "?"), parts.get(b"M", "?"))
