"""A snapshot keeps the primary's data as they are now, for later: the data that a replica that stands still would show.

On MySQL, MariaDB and PostgreSQL it is a transaction with a consistent snapshot. On SQLite it is a copy in memory, which
also has the uncommitted rows of the connection from which it was made.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.db import NotSupportedError
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant._core import Position
from replicant.engines import engine_of

#: An alias that no settings have, so that statements under it belong to no cluster.
_ALIAS = "replicant.testing snapshot"
_BEGIN = {
    "mysql": (
        "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ",
        "START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY",
    ),
    # The first query takes the snapshot. Without the savepoint, a query that fails would end the transaction.
    "postgresql": ("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", "SELECT 1", "SAVEPOINT replicant"),
}


class Snapshot:
    """The data that a connection to a primary shows now."""

    def __init__(self, primary: BaseDatabaseWrapper) -> None:
        self.position: Position | None = None
        """A position of the primary that the snapshot contains; None if the database has no positions."""
        self._vendor = primary.vendor
        # All threads that read share the session, and a driver's session is for one thread at a time.
        self._lock = threading.RLock()
        self._cursors: weakref.WeakSet[_Cursor] = weakref.WeakSet()
        settings = {**primary.settings_dict, "OPTIONS": dict(primary.settings_dict["OPTIONS"] or {})}
        settings["OPTIONS"].pop("pool", None)
        if self._vendor == "sqlite":
            settings["NAME"] = ":memory:"
        elif self._vendor not in _BEGIN:
            raise NotSupportedError(f"lag() works on SQLite, MySQL, MariaDB and PostgreSQL, not on {self._vendor}")
        self._session: Any = type(primary)(settings, _ALIAS)
        self._open()
        try:
            self._take(primary)
        except BaseException:
            self.close()
            raise

    def _open(self) -> None:
        # Does not call connect(), which would send connection_created to every receiver.
        session = self._session
        session.inc_thread_sharing()
        with session.wrap_database_errors:
            session.connection = session.get_new_connection(session.get_connection_params())
        session.set_autocommit(True)
        session.init_connection_state()

    def _take(self, primary: BaseDatabaseWrapper) -> None:
        session = self._session
        if self._vendor == "sqlite":
            primary.ensure_connection()
            _copy(primary.connection, session.connection)
            session.connection.execute("PRAGMA query_only = 1")
            return
        # Queried before the snapshot is taken, so that the snapshot contains at least this position.
        self.position = engine_of(session).ask_position(session)
        with session.connection.cursor() as cursor:
            for statement in _BEGIN[self._vendor]:
                cursor.execute(statement)

    def cursor(self, name: str | None) -> _Cursor:
        """A cursor like the one that ``create_cursor()`` of the engine's connection makes."""
        with self._lock, self._session.wrap_database_errors:
            cursor = _Cursor(self, self._session.create_cursor(name))
        self._cursors.add(cursor)
        return cursor

    @contextmanager
    def executing(self) -> Iterator[None]:
        with self._lock:
            try:
                yield
            except BaseException:
                if self._vendor == "postgresql":
                    self._session.connection.execute("ROLLBACK TO SAVEPOINT replicant")
                raise

    @property
    def is_in_use(self) -> bool:
        """Whether a cursor of this snapshot still exists, so that rows may still be fetched."""
        return bool(self._cursors)

    def close(self) -> None:
        with self._lock:
            if self._session.connection is not None:
                self._session.connection.close()
                self._session.connection = None


#: The bytes of a database's header for its read and write versions, and their value for "no write-ahead log".
_VERSIONS = slice(18, 20)
_NO_LOG = b"\x01\x01"


def _copy(source: Any, target: Any) -> None:
    """Copy the data of ``source``, including its own uncommitted rows, into the empty database of ``target``.

    ``backup()`` cannot be used: it would wait forever while ``source`` has a transaction that wrote, or an INSERT with
    unfetched rows.
    """
    (pages,) = source.execute("PRAGMA page_count").fetchone()
    if pages and hasattr(source, "serialize"):
        image = bytearray(source.serialize())
        image[_VERSIONS] = _NO_LOG
        target.deserialize(bytes(image))
        return
    # For Python 3.10, or an empty database. The dump may list a table before the tables that it refers to.
    target.execute("PRAGMA foreign_keys = OFF")
    target.executescript("\n".join(source.iterdump()))


class _Cursor:
    """The engine's cursor on a snapshot."""

    def __init__(self, snapshot: Snapshot, cursor: Any) -> None:
        self._snapshot = snapshot
        self._cursor = cursor

    def execute(self, *args: Any) -> Any:
        with self._snapshot.executing():
            return self._cursor.execute(*args)

    def executemany(self, *args: Any) -> Any:
        with self._snapshot.executing():
            return self._cursor.executemany(*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cursor, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in ("_snapshot", "_cursor"):
            super().__setattr__(name, value)
        else:
            setattr(self._cursor, name, value)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._cursor)

    def __enter__(self) -> _Cursor:
        self._cursor.__enter__()
        return self

    def __exit__(self, *args: Any) -> None:
        self._cursor.__exit__(*args)
