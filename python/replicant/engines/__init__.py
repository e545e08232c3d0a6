"""The differences between database servers. One file per engine, chosen by Django's ``connection.vendor``."""

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
    """The operations that the package needs from an engine.

    Every query goes through the driver's own cursor, on a session that is open: neither the user's query log nor this
    package's tracker records it. A method that costs a round trip says so. Database errors are Django's.
    """

    def read_only_sql(self, read_only: bool) -> str | None:
        """The one statement that makes the server treat a session as read-only, or as writable again; None if there is
        no such statement."""

    def refused_as_read_only(self, error: DatabaseError) -> bool:
        """Whether a server refused a statement because the session, or the server, is read-only."""

    def in_transaction(self, connection: BaseDatabaseWrapper) -> bool | None:
        """Whether the driver knows, without a query, that a transaction is open; None if the driver cannot tell."""

    def failure(self, error: BaseException) -> Failure:
        """The state of the server that an error shows; ``error`` is Django's, raised from the driver's, or the driver's
        own."""

    def is_gone(self, error: BaseException) -> bool:
        """Whether an error says that the server, or at least this connection to it, is gone; ``error`` is Django's,
        raised from the driver's, or the driver's own."""

    def kind(self, connection: BaseDatabaseWrapper) -> Literal["mysql", "mariadb", "postgresql"] | None:
        """The kind of positions that this server has; None if only time can tell whether a replica has a write."""

    def prepare_capture(self, connection: BaseDatabaseWrapper) -> None:
        """Make a new session report what it commits, if the package can read such reports from the driver.

        One round trip on MySQL and MariaDB. No round trip with ``replicant.backends``, which do this when they connect.
        """

    def captured(self, connection: BaseDatabaseWrapper, *, many: bool = False) -> Captured:
        """The position that the last statement published, if it was a COMMIT or ran in autocommit. Sends no query and
        never raises.

        The caller must call it at once, before the cursor is closed or anything else is sent: Django's ``atomic`` sends
        a SET after its COMMIT. ``many``: ``executemany`` sent the statement.
        """

    def changed_nothing(self, connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
        """Whether ``sql``, just executed on ``cursor`` (Django's or the driver's), surely changed nothing.

        The caller must call it after every statement that may have written, because the engine for SQLite compares the
        count of changes with the count at the last call. On PostgreSQL an UPDATE or DELETE that found no row costs a
        round trip once per session and table.
        """

    def ask_position(self, connection: BaseDatabaseWrapper) -> Position | None:
        """The position that contains everything that any session has published so far, in one round trip; None if the
        server cannot tell.

        The caller must call it when the user's statement is complete, not while further results are to be fetched.
        """

    def position(self, connection: BaseDatabaseWrapper) -> Position | None:
        """The position that this server has applied, or written itself, in one round trip; None if it cannot tell."""

    def wait(self, connection: BaseDatabaseWrapper, position: Position, seconds: float) -> Position | None:
        """Wait for at most ``seconds`` until this server has ``position``, in one round trip; 0 queries without a wait.

        Returns the position that the server then has, or None if that position does not contain ``position``. Begins no
        transaction. An open snapshot stays as old as it is, however long the wait is.
        """

    def prepare_probe(self, connection: BaseDatabaseWrapper, seconds: float) -> None:
        """Change the settings of a connection that is not open yet, and that only :meth:`probe` will use.

        Neither the connection attempt nor an answer may take much longer than ``seconds``, as far as the driver can
        limit the time.
        """

    def probe(self, connection: BaseDatabaseWrapper) -> Sample:
        """Probe a member: one round trip that any database user may make. Raises ``django.db.DatabaseError``."""

    def replicates(self, connection: BaseDatabaseWrapper) -> bool | None:
        """Whether this server replicates from another one; None if the user lacks the privileges to query it. One round
        trip, on MySQL up to three.

        Probes do not always query it. The monitor queries it from a server that takes writes although it is not known
        to be the primary, and from a server that was the primary. Raises ``django.db.DatabaseError`` if the connection
        is lost.
        """

    def reported(self, connection: BaseDatabaseWrapper) -> Reported | None:
        """The lag that this server reports, if it is a replica; None if this user may not query it.

        Never called on a connection that reads or probes use, because the answer may take long. Raises
        ``django.db.DatabaseError`` if the connection is lost.
        """

    def session_values(self, connection: BaseDatabaseWrapper, names: Sequence[str]) -> dict[str, Any]:
        """The values that these settings have in this session, in one round trip.

        Raises ``django.db.DatabaseError``. Never called for an engine whose session settings cannot be copied.
        """

    def set_session_values(self, connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
        """Give settings of this session the values that :meth:`session_values` returned earlier. Raises
        ``django.db.DatabaseError``."""

    def socket_of(self, connection: BaseDatabaseWrapper) -> int | None:
        """The file descriptor of an open connection's socket; None if it has no socket, or the driver hides it."""

    def connect(
        self,
        connection: BaseDatabaseWrapper,
        connect: Callable[[dict[str, Any]], Any],
        parameters: dict[str, Any],
        seconds: float,
        in_use: Callable[[], int],
    ) -> Any:
        """Open a driver's connection by Django's ``get_new_connection``, within ``seconds``.

        The driver may limit the precision: the drivers for MySQL, and psycopg2, take whole seconds. ``in_use`` counts
        the open connections of the same alias in this process. If they are all the connections that a pool may have,
        the pool is exhausted and the server is healthy.
        """

    def drop_pool(self, pools: dict[str, Any], alias: str) -> None:
        """Close the pool that Django keeps for all threads in ``pools``. A connection in use is closed when it is given
        back."""

    def adopt(self, connection: BaseDatabaseWrapper) -> None:
        """Adapt a new connection object of ``replicant.backends``."""

    def connection_parameters(self, parameters: dict[str, Any], database: Any) -> None:
        """Add the parameters with which ``replicant.backends`` connect (``database`` is ``connection.Database``)."""

    def init_session(self, connection: BaseDatabaseWrapper, initialise: Callable[[], None]) -> None:
        """Initialise a new session of ``replicant.backends`` as Django does (``initialise``), and prepare capture."""


def is_ours(wrapper: type[Any]) -> bool:
    """Whether a connection class belongs to :mod:`replicant.backends`, which this module must not import."""
    return hasattr(wrapper, "replicant_check")


def engine_of(connection: BaseDatabaseWrapper | type[BaseDatabaseWrapper]) -> Engine:
    """The engine of a connection or of a connection class; GIS and other derived backends have their base's vendor."""
    if stand_ins and (stand_in := stand_ins.get(getattr(connection, "alias", ""))) is not None:
        return cast(Engine, stand_in)
    return cast(Engine, _ENGINES.get(connection.vendor, generic))


def dialect_of(connection: BaseDatabaseWrapper) -> str:
    """The core's name for a server's SQL dialect: Django's vendor, but "mariadb" for MariaDB. Sends no query."""
    vendor = connection.vendor
    return mysql.dialect(connection) if vendor == "mysql" else vendor
