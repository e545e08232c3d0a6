"""In which character set a server reads a session's statements.

With GBK, Big5, Shift JIS and similar sets a backslash, a backtick or a letter may be the second byte of a character.
If the driver sends another encoding than the session has, the server takes a text apart at other places than the
core does. Such a text may be no read, whatever it looks like: a replica refuses it, and on the primary it counts as a
write, a lock and a change of the session.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from replicant import _core
from replicant.engines.query import ask

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a connection keeps the session that was asked, with the number of its state, and what was found.
_ATTRIBUTE = "_replicant_encoding"


def may_be_misread(connection: BaseDatabaseWrapper, state: int = 0) -> bool:
    """Whether the server may read ASCII characters of a text that is not all ASCII as parts of others.

    Asks a MySQL or MariaDB server once per session, and again in another ``state`` of it: what the settings, the
    driver's files, the server's ``init_connect`` and statements make of the session, no driver knows. A PostgreSQL
    server reports it unasked.
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
    """Whether no parameter holds anything beyond ASCII, as far as that can be told."""
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
    # A driver that does not say converts what it sends.
    return "UTF8"
