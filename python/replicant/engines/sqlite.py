"""SQLite."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from replicant.engines.sample import Sample, ask

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"PRAGMA query_only = {int(read_only)}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # SQLITE_READONLY; Python 3.10's driver gives the message alone.
    return "readonly database" in str(error)


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return connection.connection is not None and bool(connection.connection.in_transaction)


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    settings = connection.settings_dict
    settings["OPTIONS"]["timeout"] = seconds
    settings["OPTIONS"].pop("init_command", None)
    name = str(settings["NAME"])
    if name != ":memory:" and not name.startswith("file:"):
        # To look must not create what is not there.
        settings["NAME"] = f"{Path(name).absolute().as_uri()}?mode=ro"


def probe(connection: BaseDatabaseWrapper) -> Sample:
    # Reads the file's header: a file that is gone, or is no database, does not answer. There are no positions.
    _, answer = ask(connection, ("PRAGMA schema_version",), lambda error: False)
    with connection.wrap_database_errors:
        file = connection.connection.execute("PRAGMA database_list").fetchone()[2]
    is_writable = not file or os.access(file, os.W_OK)
    return Sample(connection.alias, file, is_writable, None, answer.asked_at, answer.latency)


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    return None
