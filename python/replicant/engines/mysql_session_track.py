"""What a MySQL or MariaDB server reports of its session in passing, in the answer to every statement.

The answers (OK packets) to a COMMIT and to a statement in autocommit carry the GTID of what was committed, once the
session asks for that. Drivers keep it and have no method for it. mysqlclient's client library is read by the core;
PyMySQL leaves the packet's bytes where we can read them, if it was told when it connected that we can
(``CLIENT.SESSION_TRACK``). Neither costs a question, and both are private enough to be checked on every new session:
see ``mysql.prepare_capture``.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any, TypeAlias

from replicant import _core

#: What the last answer reported: the GTIDs of what it committed, or the new value of the variable that is named. Empty
#: if it reported nothing; None if that cannot be told, since the last answer was an error or a result set.
Reader: TypeAlias = Callable[..., bytes | None]

#: Of a capability, and of a server's status in an answer.
_SESSION_TRACK = 1 << 23
_SESSION_STATE_CHANGED = 0x4000
#: The kinds of items in an OK packet.
_SYSTEM_VARIABLES, _GTIDS = 0, 3


def reader(driver: Any) -> Reader | None:
    """How to read what servers report on this driver's connection; None where there is no way known to us."""
    extension = sys.modules.get("MySQLdb._mysql")
    if extension is not None and isinstance(driver, extension.connection):
        if hasattr(driver, "_get_native_connection") and _core.load_mysql_client(str(extension.__file__)):
            return functools.partial(_core.mysql_session_state, driver)
    elif _keeps_packets(driver):
        return functools.partial(_packet_state, driver)
    return None


# PyMySQL


def tell_pymysql(parameters: dict[str, Any]) -> None:
    """Have a connection that PyMySQL makes with these parameters say to the server that we understand its reports."""
    parameters["client_flag"] = parameters.get("client_flag", 0) | _SESSION_TRACK


def _keeps_packets(driver: Any) -> bool:
    """Whether the driver is PyMySQL, told to take the reports; from now on it keeps every OK packet."""
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
        """PyMySQL's connection; ``commit()`` alone would throw away what the server answered."""

        def _execute_command(self, *args: Any, **kwargs: Any) -> Any:
            self.replicant_packet = None
            return super()._execute_command(*args, **kwargs)

        def _read_ok_packet(self, *args: Any, **kwargs: Any) -> Any:
            self.replicant_packet = super()._read_ok_packet(*args, **kwargs)
            return self.replicant_packet

    return Connection


def _packet_state(driver: Any, variable: bytes | None = None) -> bytes | None:
    result = driver._result
    # A statement has a result, which is a result set if it has columns; what the driver sends on its own has none.
    packet = driver.replicant_packet if result is None else result
    if packet is None or not driver.open or packet.has_next or getattr(packet, "field_count", 0):
        return None
    if not packet.server_status & _SESSION_STATE_CHANGED:
        return b""
    return _find(packet.message, variable)


def _find(message: bytes, variable: bytes | None) -> bytes | None:
    """The item looked for in the last part of an OK packet: a text for people, then the session's items."""
    text, at = _length(message, 0)
    size, at = _length(message, at + text)
    end = at + size
    while at < end:
        kind = message[at]
        size, at = _length(message, at + 1)
        following = at + size
        if kind == _GTIDS and variable is None:
            at += 1  # how they are encoded: there is one way
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
    """A number of the protocol's "length-encoded" kind, and where it ends."""
    first = message[at]
    if first < 0xFB:
        return first, at + 1
    width = {0xFC: 2, 0xFD: 3, 0xFE: 8}[first]
    return int.from_bytes(message[at + 1 : at + 1 + width], "little"), at + 1 + width
