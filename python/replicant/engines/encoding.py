"""In which character set a server reads a session's statements.

With GBK, Big5, Shift JIS and similar sets a backslash, a backtick or a letter may be the second byte of a character.
If the driver sends another encoding than the session has, the server takes a text apart at other places than the
core does.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db import DatabaseError

from replicant import _core
from replicant.engines.query import ask

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a connection keeps the driver's connection that was looked at, and what was found.
_ATTRIBUTE = "_replicant_encoding"


def may_be_misread(connection: BaseDatabaseWrapper) -> bool:
    """Whether the server may read ASCII characters of a text that is not all ASCII as parts of others.

    Asks a MySQL or MariaDB server once per session: what the settings, the driver's files and the server's
    ``init_connect`` make of the session, no driver knows. A PostgreSQL server reports it unasked.
    """
    if connection.vendor == "postgresql":
        return not _core.keeps_ascii_apart(_of_postgresql(connection.connection), "postgresql")
    if connection.vendor != "mysql":
        return False
    driver = connection.connection
    known = connection.__dict__.get(_ATTRIBUTE)
    if known is None or known[0] is not driver:
        try:
            (character_set,) = ask(connection, "SELECT @@character_set_client")
        except DatabaseError:
            return True
        known = (driver, not _core.keeps_ascii_apart(str(character_set), "mysql"))
        connection.__dict__[_ATTRIBUTE] = known
    return known[1]


def _of_postgresql(driver: object) -> str:
    info = getattr(driver, "info", None)
    for source, name in ((info, "parameter_status"), (driver, "get_parameter_status")):
        reported = getattr(source, name, None)
        if reported is not None:
            return str(reported("client_encoding"))
    # A driver that does not say converts what it sends.
    return "UTF8"
