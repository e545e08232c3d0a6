"""The MySQL client protocol, as far as an administrator without a password on a Unix socket needs it.

Source: "Client/Server Protocol" in the MySQL internals documentation; MariaDB speaks the same dialect of it
here.
"""

from __future__ import annotations

import struct

from .wire import NULL, Connection, QueryError, Row

# Capability flags: LONG_PASSWORD, PROTOCOL_41, TRANSACTIONS, SECURE_CONNECTION, MULTI_STATEMENTS,
# MULTI_RESULTS, PLUGIN_AUTH.
_CAPABILITIES = 0x1 | 0x200 | 0x2000 | 0x8000 | 0x10000 | 0x20000 | 0x80000
_UTF8MB4 = 45
_LARGEST_PACKET = 0xFFFFFF
_MORE_RESULTS = 0x8
_COM_INIT_DB, _COM_QUERY = b"\x02", b"\x03"
_OK, _MORE_AUTH, _LOCAL_INFILE, _EOF, _ERROR = 0x00, 0x01, 0xFB, 0xFE, 0xFF


class MySQLConnection(Connection):
    """A connection as `root` without a password."""

    columns: tuple[str, ...] = ()
    """The column names of the last rows."""

    _sequence = 0

    def query(self, sql: str) -> list[Row]:
        self._command(_COM_QUERY + sql.encode())
        rows: list[Row] = []
        more = True
        while more:
            result, more = self._read_result()
            if result is not None:
                rows = result
        return rows

    def use(self, database: str) -> None:
        """Make `database` the default one."""
        self._command(_COM_INIT_DB + database.encode())
        self._read_packet()

    def _log_in(self) -> None:
        self._read_packet()
        user = b"root\0"
        hello = struct.pack("<IIB23x", _CAPABILITIES, _LARGEST_PACKET, _UTF8MB4)
        self._send(hello + user + b"\0" + b"mysql_native_password\0")
        # Whatever the plugin, the answer for an empty password is an empty packet.
        while (kind := self._read_packet()[0]) != _OK:
            if kind == _EOF:
                self._send(b"")
            elif kind != _MORE_AUTH:
                raise ConnectionError(f"unexpected packet {kind:#x} while logging in")

    def _command(self, body: bytes) -> None:
        self._sequence = 0
        self._send(body)

    def _send(self, body: bytes) -> None:
        if len(body) >= _LARGEST_PACKET:
            raise ValueError("a statement of 16 MiB or more")
        self._socket.sendall(struct.pack("<I", len(body))[:3] + bytes([self._sequence]) + body)
        self._sequence = (self._sequence + 1) % 256

    def _read_packet(self) -> bytes:
        body = b""
        while True:
            header = self._read(4)
            size = int.from_bytes(header[:3], "little")
            self._sequence = (header[3] + 1) % 256
            body += self._read(size)
            if size < _LARGEST_PACKET:
                break
        if body[:1] == bytes([_ERROR]):
            code = int.from_bytes(body[1:3], "little")
            text = body[9:] if body[3:4] == b"#" else body[3:]
            raise QueryError(str(code), text.decode(errors="replace"))
        return body

    def _read_result(self) -> tuple[list[Row] | None, bool]:
        """Read one result: its rows (None for a statement that has none) and whether another one follows."""
        head = self._read_packet()
        if head[0] == _OK:
            _, at = _length(head, 1)
            _, at = _length(head, at)
            return None, bool(_flags(head, at) & _MORE_RESULTS)
        if head[0] == _LOCAL_INFILE:
            raise ConnectionError("the server asked for a local file")
        columns, _ = _length(head, 0)
        self.columns = tuple(_column(self._read_packet()) for _ in range(columns or 0))
        self._read_packet()
        rows: list[Row] = []
        while True:
            packet = self._read_packet()
            if packet[0] == _EOF and len(packet) < 9:
                return rows, bool(_flags(packet, 3) & _MORE_RESULTS)
            rows.append(_row(packet))


def _flags(packet: bytes, at: int) -> int:
    return int.from_bytes(packet[at : at + 2], "little")


def _length(packet: bytes, at: int) -> tuple[int | None, int]:
    """Read a length-encoded integer: the number (None for NULL) and where the next field begins."""
    first = packet[at]
    if first < 0xFB:
        return first, at + 1
    if first == 0xFB:
        return None, at + 1
    size = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(packet[at + 1 : at + 1 + size], "little"), at + 1 + size


def _column(packet: bytes) -> str:
    """The name in a column definition: the fifth string, after catalogue, schema, table and its own name."""
    return _row(packet, most=5)[4]


def _row(packet: bytes, most: int = 1 << 16) -> Row:
    fields: list[str] = []
    at = 0
    while at < len(packet) and len(fields) < most:
        size, at = _length(packet, at)
        if size is None:
            fields.append(NULL)
            continue
        fields.append(packet[at : at + size].decode(errors="replace"))
        at += size
    return tuple(fields)
