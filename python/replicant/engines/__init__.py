"""What differs between database servers. One file per engine, chosen by Django's ``connection.vendor``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol, cast

from replicant.engines import generic, mysql, postgresql, sqlite
from replicant.engines.capture import NOTHING, UNKNOWN, Capture, Captured
from replicant.engines.failure import Failure, described
from replicant.engines.sample import Reported, Sample
from replicant.under_test import stand_ins

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant._core import Position

__all__ = [
    "NOTHING",
    "UNKNOWN",
    "Capture",
    "Captured",
    "Engine",
    "Failure",
    "Reported",
    "Sample",
    "described",
    "dialect_of",
    "engine_of",
]

_ENGINES: dict[str, ModuleType] = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}


class Engine(Protocol):
    """What the package asks of an engine.

    Every question goes through the driver's own cursor, on a session that is open: neither the user's query log nor
    our own tracker sees it. Those that cost a round trip say so. Database errors are Django's.
    """

    def read_only_sql(self, read_only: bool) -> str | None:
        """The one statement that makes a session read-only at the server, or no longer; None where there is none."""

    def refused_as_read_only(self, error: DatabaseError) -> bool:
        """Whether a server refused a statement because the session, or the server, is read-only."""

    def in_transaction(self, connection: BaseDatabaseWrapper) -> bool | None:
        """Whether the driver knows a transaction to be open, without asking the server; None where it cannot say."""

    def failure(self, error: BaseException) -> Failure:
        """What an error says of the server; Django's error, raised from the driver's, or the driver's own."""

    def is_gone(self, error: BaseException) -> bool:
        """Whether an error says that the server, or at least this connection to it, is gone; Django's error, raised
        from the driver's, or the driver's own."""

    def kind(self, connection: BaseDatabaseWrapper) -> Literal["mysql", "mariadb", "postgresql"] | None:
        """The kind of positions this server has; None where writes can only be judged by time."""

    def prepare_capture(self, connection: BaseDatabaseWrapper) -> None:
        """Have a new session report what it commits, where the driver can be read.

        One round trip on MySQL and MariaDB, none with our own backends, which did it when they connected.
        """

    def captured(self, connection: BaseDatabaseWrapper, *, many: bool = False) -> Captured:
        """What was published by the statement in autocommit, or by the COMMIT, that was the last thing sent: without a
        question, and never an error.

        To be called at once, before the cursor is closed or anything else is sent: Django's ``atomic`` sends a SET
        after its COMMIT. ``many``: the statement was sent by ``executemany``.
        """

    def changed_nothing(self, connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
        """Whether ``sql``, just executed on ``cursor`` (Django's or the driver's), surely changed nothing.

        To be asked after every statement that may have written: SQLite's count of changes is compared with that of the
        last time. On PostgreSQL an UPDATE or DELETE that found no row costs a round trip once per session and table.
        """

    def ask_position(self, connection: BaseDatabaseWrapper) -> Position | None:
        """What every session has published so far, in one round trip; None if the server cannot say.

        To be asked when the user's statement is through, not while further results of it are to be fetched.
        """

    def position(self, connection: BaseDatabaseWrapper) -> Position | None:
        """What this server has applied by now, or written itself, in one round trip; None if it cannot say."""

    def wait(self, connection: BaseDatabaseWrapper, position: Position, seconds: float) -> Position | None:
        """Wait for at most ``seconds`` until this server has ``position``, in one round trip; 0 only asks.

        Returns the position it then has, or None if that does not contain ``position``. Begins no transaction; an open
        snapshot stays as old as it is however long one waits.
        """

    def prepare_probe(self, connection: BaseDatabaseWrapper, seconds: float) -> None:
        """Change the settings of a connection that is still to be opened, and that only :meth:`probe` will use.

        Neither connecting nor an answer may take much longer than ``seconds``, as far as the driver can see to that.
        """

    def probe(self, connection: BaseDatabaseWrapper) -> Sample:
        """Look at a member: one round trip that any database user may make. Raises ``django.db.DatabaseError``."""

    def replicates(self, connection: BaseDatabaseWrapper) -> bool | None:
        """Whether this server follows another one; None where that takes privileges this user lacks. One round trip,
        on MySQL up to three.

        Not asked with every probe: of a server that takes writes though it is not known to be the primary, and of one
        that was the primary. Raises ``django.db.DatabaseError`` if the connection is lost.
        """

    def reported(self, connection: BaseDatabaseWrapper) -> Reported | None:
        """What this server says of its own lag, if it is a replica; None where this user may not ask.

        Never asked on a connection that reads or probes go over: the answer may take long. Raises
        ``django.db.DatabaseError`` if the connection is lost.
        """

    def session_values(self, connection: BaseDatabaseWrapper, names: Sequence[str]) -> dict[str, Any]:
        """The values that these settings have in this session, in one round trip.

        Raises ``django.db.DatabaseError``. Never called where sessions have no settings that can be copied.
        """

    def set_session_values(self, connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
        """Give settings of this session values that :meth:`session_values` had returned. Raises
        ``django.db.DatabaseError``."""

    def socket_of(self, connection: BaseDatabaseWrapper) -> int | None:
        """The file descriptor of an open connection's socket; None where there is none, or the driver hides it."""

    def connect(
        self,
        connection: BaseDatabaseWrapper,
        connect: Callable[[dict[str, Any]], Any],
        parameters: dict[str, Any],
        seconds: float,
        in_use: Callable[[], int],
    ) -> Any:
        """Open a driver's connection by Django's ``get_new_connection``, within ``seconds``.

        As far as the driver can see to that: those for MySQL, and psycopg2, take whole seconds. ``in_use`` counts the
        open connections of the same alias in this process: where a pool has no other ones, the server is sound.
        """

    def drop_pool(self, pools: dict[str, Any], alias: str) -> None:
        """Close what Django keeps for all threads in ``pools``, connections in use when they are given back."""

    def adopt(self, connection: BaseDatabaseWrapper) -> None:
        """Change what must be changed in a new connection object of our own backends."""

    def connection_parameters(self, parameters: dict[str, Any], database: Any) -> None:
        """Add what our own backends tell the driver (``database``, Django's ``connection.Database``) to connect."""

    def init_session(self, connection: BaseDatabaseWrapper, initialise: Callable[[], None]) -> None:
        """Do what Django does with a new session of our own backends (``initialise``), and ``prepare_capture``."""


def is_ours(wrapper: type[Any]) -> bool:
    """Whether a class of Django's connections is one of :mod:`replicant.backends`, which stands above this module."""
    return hasattr(wrapper, "replicant_check")


def engine_of(connection: BaseDatabaseWrapper | type[BaseDatabaseWrapper]) -> Engine:
    """The engine behind a connection, or a class of them; GIS and other derived backends have their base's vendor."""
    if stand_ins and (stand_in := stand_ins.get(getattr(connection, "alias", ""))) is not None:
        return cast(Engine, stand_in)
    return cast(Engine, _ENGINES.get(connection.vendor, generic))


def dialect_of(connection: BaseDatabaseWrapper) -> str:
    """The name that the core knows a server's SQL by: Django's vendor, but "mariadb" for MariaDB. Asks no server."""
    vendor = connection.vendor
    return mysql.dialect(connection) if vendor == "mysql" else vendor
