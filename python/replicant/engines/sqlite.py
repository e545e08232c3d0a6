"""SQLite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from django.db import OperationalError

from replicant import _core
from replicant.engines.failure import Failure

# The same as for any other database: no positions, no connection that could be lost, and nothing to add to Django's
# backend.
from replicant.engines.generic import adopt as adopt
from replicant.engines.generic import ask_position as ask_position
from replicant.engines.generic import captured as captured
from replicant.engines.generic import connect as connect
from replicant.engines.generic import connection_parameters as connection_parameters
from replicant.engines.generic import drop_pool as drop_pool
from replicant.engines.generic import init_session as init_session
from replicant.engines.generic import kind as kind
from replicant.engines.generic import position as position
from replicant.engines.generic import prepare_capture as prepare_capture
from replicant.engines.generic import replicates as replicates
from replicant.engines.generic import reported as reported
from replicant.engines.generic import session_values as session_values
from replicant.engines.generic import set_session_values as set_session_values
from replicant.engines.generic import socket_of as socket_of
from replicant.engines.generic import wait as wait
from replicant.engines.sample import Sample, ask_first_known

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attribute of a connection that keeps the count of changed rows at the last call.
_ATTRIBUTE = "_replicant_changes"
_COUNTED = frozenset({"INSERT", "UPDATE", "DELETE", "REPLACE", "WITH"})


def read_only_sql(read_only: bool) -> str | None:
    return f"PRAGMA query_only = {int(read_only)}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # SQLITE_READONLY. The driver of Python 3.10 gives only the message.
    return "readonly database" in str(error)


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return connection.connection is not None and bool(connection.connection.in_transaction)


def failure(error: BaseException) -> Failure:
    return Failure.GONE if "unable to open database file" in str(error) else Failure.NOTHING


def is_gone(error: BaseException) -> bool:
    return failure(error) is Failure.GONE


def changed_nothing(connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
    # The driver counts changed rows, also those that triggers and foreign keys change, but no changes of the schema.
    driver = connection.connection
    last_driver, before = getattr(connection, _ATTRIBUTE, (None, 0))
    setattr(connection, _ATTRIBUTE, (driver, driver.total_changes))
    # With RETURNING, the driver counts the changes only when the last row has been read.
    if _core.verb(sql, connection.vendor) not in _COUNTED or ";" in sql or cursor.description is not None:
        return False
    return bool(driver.total_changes == (before if driver is last_driver else 0))


# For the monitor


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    settings = connection.settings_dict
    settings["OPTIONS"]["timeout"] = seconds
    settings["OPTIONS"].pop("init_command", None)
    name = str(settings["NAME"])
    if name != ":memory:" and not name.startswith("file:"):
        # A probe must not create a file that does not exist.
        settings["NAME"] = f"{Path(name).absolute().as_uri()}?mode=ro"


def probe(connection: BaseDatabaseWrapper) -> Sample:
    # The query reads the header of the file, so that it fails for a file that is no database, or that is gone.
    answer = ask_first_known(connection, ("PRAGMA schema_version",))
    with connection.wrap_database_errors:
        file = connection.connection.execute("PRAGMA database_list").fetchone()[2]
    if file and not Path(file).exists():
        raise OperationalError("unable to open database file")
    is_writable = not file or os.access(file, os.W_OK)
    return Sample(connection.alias, file, is_writable, None, answer.asked_at, answer.latency)
