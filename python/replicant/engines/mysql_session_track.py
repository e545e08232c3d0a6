"""Session tracking: the state of its session that a MySQL or MariaDB server reports in the answer to every statement.

The answers (OK packets) to a COMMIT and to a statement in autocommit carry the GTID of the committed transaction, once
the session enables this. The drivers keep the GTID and have no method for it. The core reads it from mysqlclient's
client library. PyMySQL keeps the bytes of the packet, which this module reads, if the connection announced
``CLIENT.SESSION_TRACK``. Neither way costs a query. Both rely on private interfaces, so that every new session is
checked: see ``mysql.prepare_capture``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from replicant import _core

#: Returns the report in the last answer: the GTIDs of the committed transactions, or the new value of the named
#: variable. Empty if the answer reported nothing; None if the last answer was an error or a result set, which carry no
#: report.
Reader: TypeAlias = Callable[..., bytes | None]

#: A bit of the client's capabilities, and a bit of the server's status in an answer.
_SESSION_TRACK = 1 << 23
_SESSION_STATE_CHANGED = 0x4000
#: The kinds of items in an OK packet.
_SYSTEM_VARIABLES, _GTIDS = 0, 3


def reader(driver: Any) -> Reader | None:
    """The function that reads the reports on this driver's connection; None if the package cannot read them."""
    extension = sys.modules.get("MySQLdb._mysql")
    if extension is not None and isinstance(driver, extension.connection):
        if hasattr(driver, "_get_native_connection") and _core.load_mysql_client(str(extension.__file__)):
            return functools.partial(_core.mysql_session_state, driver)
    elif _keeps_packets(driver):
        return functools.partial(_packet_state, driver)
    return None


# PyMySQL


def tell_pymysql(parameters: dict[str, Any]) -> None:
    """Make a connection that PyMySQL opens with these parameters announce that the client understands the reports."""
    parameters["client_flag"] = parameters.get("client_flag", 0) | _SESSION_TRACK


def _keeps_packets(driver: Any) -> bool:
    """Whether the driver is PyMySQL, and announced the reports; from now on such a connection keeps every OK packet."""
    connections = sys.modules.get("pymysql.connections")
    if connections is None or not isinstance(driver, connections.Connection):
        return False
    if not getattr(driver, "client_flag", 0) & getattr(driver, "server_capabilities", 0) & _SESSION_TRACK:
        return False
    if not all(hasattr(driver, name) for name in ("_execute_command", "_read_ok_packet", "_result", "open")):
        return False
    base = type(driver)
    if base not in _keeping_classes:
        _keeping_classes[base] = _keeping_class(base)
    driver.__class__ = _keeping_classes[base]
    driver.replicant_packet = None
    return True


_keeping_classes: dict[type[Any], type[Any]] = {}


def _keeping_class(base: type[Any]) -> type[Any]:
    class Connection(base):  # type: ignore[misc]
        """PyMySQL's connection, which also keeps the answer to ``commit()``: PyMySQL alone would discard it."""

        def _execute_command(self, *args: Any, **kwargs: Any) -> Any:
            self.replicant_packet = None
            return super()._execute_command(*args, **kwargs)

        def _read_ok_packet(self, *args: Any, **kwargs: Any) -> Any:
            self.replicant_packet = super()._read_ok_packet(*args, **kwargs)
            return self.replicant_packet

    return Connection


def _packet_state(driver: Any, variable: bytes | None = None) -> bytes | None:
    result = driver._result
    # A statement has a result, which is a result set if it has columns. A command that the driver sends itself has no
    # result.
    packet = driver.replicant_packet if result is None else result
    if packet is None or not driver.open or packet.has_next or getattr(packet, "field_count", 0):
        return None
    if not packet.server_status & _SESSION_STATE_CHANGED:
        return b""
    return _find(packet.message, variable)


def _find(message: bytes, variable: bytes | None) -> bytes | None:
    """The wanted item in the last part of an OK packet, which holds a text for people, then the session's items."""
    text, at = _length(message, 0)
    size, at = _length(message, at + text)
    end = at + size
    while at < end:
        kind = message[at]
        size, at = _length(message, at + 1)
        following = at + size
        if kind == _GTIDS and variable is None:
            at += 1  # the encoding specification; only one encoding exists
            size, at = _length(message, at)
            return message[at : at + size]
        if kind == _SYSTEM_VARIABLES and variable is not None:
            size, at = _length(message, at)
            name, at = message[at : at + size], at + size
            if name == variable:
                size, at = _length(message, at)
                return message[at : at + size]
        at = following
    return b""


def _length(message: bytes, at: int) -> tuple[int, int]:
    """An integer in the protocol's "length-encoded" format, and the offset of its end."""
    first = message[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(message[at + 1 : at + 1 + width], "little"), at + 1 + width
