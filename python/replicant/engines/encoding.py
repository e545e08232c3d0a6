"""The character set in which a server reads a session's statements.

With GBK, Big5, Shift JIS and similar sets a backslash, a backtick or a letter may be the second byte of a character.
If the driver sends another encoding than the session has, the server splits a text into tokens differently from the
core. Such a text may not be a read, although it looks like one: the guard refuses it on a replica, and on the primary
it counts as a write, a lock and a change of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from replicant import _core
from replicant.engines.query import ask

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attribute of a connection that keeps the session that was queried, the version of its state, and the result.
_ATTRIBUTE = "_replicant_encoding"


def may_be_misread(connection: BaseDatabaseWrapper, state: int = 0) -> bool:
    """Whether the server may read an ASCII byte of a text that is not all ASCII as part of another character.

    Queries a MySQL or MariaDB server once per session, and again when the ``state`` of the session changes: no driver
    knows the character set that results from the settings, the driver's files, the server's ``init_connect`` and the
    statements sent. A PostgreSQL server reports its character set without a query.
    """
    if connection.vendor == "postgresql":
        return not _core.keeps_ascii_apart(_of_postgresql(connection.connection), "postgresql")
    if connection.vendor != "mysql":
        return False
    driver = connection.connection
    known = connection.__dict__.get(_ATTRIBUTE)
    if known is None or known[0] is not driver or known[1] != state:
        try:
            (character_set,) = ask(connection, "SELECT @@character_set_client")
        except DatabaseError:
            return True
        known = (driver, state, not _core.keeps_ascii_apart(str(character_set), "mysql"))
        connection.__dict__[_ATTRIBUTE] = known
    return bool(known[2])


def is_ascii(params: Any) -> bool:
    """Whether all parameters are ASCII, as far as their text shows it."""
    values = params.values() if isinstance(params, Mapping) else params
    if values is None or isinstance(values, (str, bytes)) or not isinstance(values, Iterable):
        values = [values]
    return all(
        value.isascii() if isinstance(value, (str, bytes, bytearray)) else f"{value}".isascii() for value in values
    )


def _of_postgresql(driver: object) -> str:
    info = getattr(driver, "info", None)
    for source, name in ((info, "parameter_status"), (driver, "get_parameter_status")):
        reported = getattr(source, name, None)
        if reported is not None:
            return str(reported("client_encoding"))
    # A driver that does not report the encoding converts the text that it sends.
    return "UTF8"
