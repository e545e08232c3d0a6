"""MySQL and MariaDB.

The file is long, since each engine is one file: all that differs between servers is read side by side.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from django.db import DatabaseError

from replicant._core import Position
from replicant.engines import connect_deadline, mysql_session_track
from replicant.engines.capture import NOTHING, UNKNOWN, Captured
from replicant.engines.failure import Failure
from replicant.engines.generic import drop_pool as drop_pool
from replicant.engines.query import ask, ask_rows, matched_nothing
from replicant.engines.sample import SINCE, Reported, Sample, ask_first_known, position_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attribute of a connection that keeps its :class:`_Session`.
_ATTRIBUTE = "_replicant_session"
#: The attribute of a connection that keeps whether its server is MySQL or MariaDB.
_DIALECT = "_replicant_dialect"

#: The failure for each error number. Both drivers use 0 for a connection that was closed earlier.
_FAILURES = {
    **dict.fromkeys((1053, 2002, 2003, 2005), Failure.GONE),
    # 2026: the connection ended during the TLS handshake.
    **dict.fromkeys((0, 1927, 2006, 2013, 2026, 2055, 3169, 4031), Failure.ENDED),
    1040: Failure.FULL,
    # A read_only server, a read-only transaction, read-only mode.
    **dict.fromkeys((1290, 1792, 1836), Failure.DEMOTED),
}

_CANNOT_CONNECT = 2003

#: MySQL takes 0 as "no limit".
_SHORTEST_WAIT_SECONDS = 0.001

_COMPILER = "django.db.backends.mysql.compiler"


def read_only_sql(read_only: bool) -> str | None:
    # Applies to every later transaction of the session; a statement in autocommit is a transaction, too.
    return f"SET SESSION TRANSACTION READ {'ONLY' if read_only else 'WRITE'}"


def refused_as_read_only(error: DatabaseError) -> bool:
    return failure(error) is Failure.DEMOTED


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # The flag is in every answer of the server, but no driver exposes it.
    return None


def failure(error: BaseException) -> Failure:
    number = error.args[0] if error.args else None
    return _FAILURES.get(number, Failure.NOTHING) if isinstance(number, int) else Failure.NOTHING


def is_gone(error: BaseException) -> bool:
    return failure(error) in (Failure.GONE, Failure.ENDED)


def kind(connection: BaseDatabaseWrapper) -> Literal["mysql", "mariadb"]:
    # Django would query the server once. Every driver learns the server's version at the handshake.
    told = getattr(connection.connection, "get_server_info", None)
    if told is not None:
        return "mariadb" if "mariadb" in str(told()).lower() else "mysql"
    return "mariadb" if getattr(connection, "mysql_is_mariadb", False) else "mysql"


def dialect(connection: BaseDatabaseWrapper) -> Literal["mysql", "mariadb"]:
    """The kind of server, kept with the connection object; "mysql" if no driver knows the server's version."""
    known: Literal["mysql", "mariadb"] | None = connection.__dict__.get(_DIALECT)
    if known is None:
        if not hasattr(connection.connection, "get_server_info"):
            return "mysql"
        known = connection.__dict__[_DIALECT] = kind(connection)
    return known


# Positions of writes


class _Session(NamedTuple):
    """One session, and the function that reads its commit reports (None if they cannot be read)."""

    driver: Any
    kind: Literal["mysql", "mariadb"]
    read: mysql_session_track.Reader | None


def init_session(connection: BaseDatabaseWrapper, initialise: Callable[[], None]) -> None:
    """Initialise a new session as Django does; the statement that sets the isolation level also enables the reports."""
    # Django would send the isolation level in a separate statement.
    level, connection.isolation_level = connection.isolation_level, None  # type: ignore[attr-defined]
    try:
        initialise()
    finally:
        connection.isolation_level = level  # type: ignore[attr-defined]
    variable = "tx_isolation" if kind(connection) == "mariadb" else "transaction_isolation"
    assignments = [f"SESSION {variable} = '{level.upper().replace(' ', '-')}'"] if level else []
    _prepare(connection, assignments)


def prepare_capture(connection: BaseDatabaseWrapper) -> None:
    if _session(connection) is None:
        _prepare(connection, [])


def _prepare(connection: BaseDatabaseWrapper, assignments: list[str]) -> None:
    """Enable commit reports in the session if the driver can be read, in one statement with these assignments."""
    driver = connection.connection
    engine = kind(connection)
    reader = mysql_session_track.reader(driver)
    if reader is not None:
        try:
            _set(connection, [*assignments, *_REPORTS[engine]])
        except DatabaseError as error:
            # A proxy, or a server that is older than these variables.
            if is_gone(error):
                raise
            reader = None
        else:
            # The answer to this statement shows whether the server, the library and the reader all work.
            variable, expected = _ECHO[engine]
            with connection.wrap_database_errors:
                reported = reader(variable) or b""
            if not any(each in reported for each in expected):
                reader = None
            assignments = []
    if assignments:
        _set(connection, assignments)
    setattr(connection, _ATTRIBUTE, _Session(driver, engine, reader))


# Variables that were tracked before stay tracked. A server that gives its transactions no GTID must report none, so
# that the check of the answer fails: otherwise an empty report would be taken for "nothing was committed".
_TRACKED = "@@SESSION.session_track_system_variables"
_TRACK = "SESSION session_track_system_variables ="
#: In this variable MySQL rejects a name that occurs twice, and MariaDB rejects a name beside the "*" (all names).
_TRACKS_ALREADY = {
    "mysql": f"{_TRACKED} = '*' OR FIND_IN_SET('session_track_gtids', {_TRACKED})",
    "mariadb": f"{_TRACKED} = '*' AND @@GLOBAL.log_bin",
}
_AND = f"CONCAT_WS(',', NULLIF({_TRACKED}, '')"
_MARIADB_NAMES = "'session_track_system_variables', IF(@@GLOBAL.log_bin, 'last_gtid', NULL)"
_REPORTS = {
    "mysql": [
        f"{_TRACK} IF({_TRACKS_ALREADY['mysql']}, {_TRACKED}, {_AND}, 'session_track_gtids'))",
        "SESSION session_track_gtids = IF(@@GLOBAL.gtid_mode LIKE 'ON%' AND @@GLOBAL.log_bin, 'OWN_GTID', 'OFF')",
    ],
    "mariadb": [
        f"{_TRACK} IF({_TRACKS_ALREADY['mariadb']}, {_TRACKED}, {_AND}, {_MARIADB_NAMES}))",
    ],
}
#: The report that the answer to that statement must contain: a variable, and a part of its value.
_ECHO = {
    "mysql": (b"session_track_gtids", (b"OWN_GTID",)),
    "mariadb": (b"session_track_system_variables", (b"last_gtid", b"*")),
}


def _set(connection: BaseDatabaseWrapper, assignments: list[str]) -> None:
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            cursor.execute("SET " + ", ".join(assignments))
        finally:
            cursor.close()


def _session(connection: BaseDatabaseWrapper) -> _Session | None:
    session: _Session | None = getattr(connection, _ATTRIBUTE, None)
    return session if session is not None and session.driver is connection.connection else None


def captured(connection: BaseDatabaseWrapper, *, many: bool = False) -> Captured:
    session: _Session | None = getattr(connection, _ATTRIBUTE, None)
    # Several statements have several answers, and the driver keeps only the last one.
    if session is None or session.read is None or session.driver is not connection.connection or many:
        return UNKNOWN
    try:
        reported = session.read() if session.kind == "mysql" else session.read(b"last_gtid")
        if reported is None:
            return UNKNOWN
        return Position(session.kind, reported.decode()) if reported else NOTHING
    except Exception:
        # The connection is closed, or the report is no position. In addition, an error that a private interface may
        # raise in a later version must not fail a write that succeeded.
        return UNKNOWN


def changed_nothing(connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
    # MySQL fires triggers for each row only, and has no rules as PostgreSQL has.
    return matched_nothing(cursor, sql, dialect(connection))


def ask_position(connection: BaseDatabaseWrapper) -> Position | None:
    if kind(connection) == "mariadb" and not _has_unread_results(connection.connection):
        # @@last_gtid would be wrong here: another session may have made the write (a thread of the same request, or
        # this thread before it reconnected), and @@last_gtid says nothing about data that was read on a replica.
        return _position("mariadb", ask(connection, "SELECT IF(@@GLOBAL.log_bin, @@GLOBAL.gtid_current_pos, NULL)")[0])
    return position(connection)


def _has_unread_results(driver: Any) -> bool:
    """Whether the server may still send parts of the user's statement: further results, or rows of an SSCursor.

    A query of this package would make PyMySQL discard them, and make mysqlclient raise an error when the last row is
    read. mysqlclient does not tell what is unread. Therefore a connection whose rows are unbuffered by default is never
    queried.
    """
    result = getattr(driver, "_result", None)
    if getattr(result, "has_next", False) or getattr(result, "unbuffered_active", False):
        return True
    cursors = sys.modules.get("MySQLdb.cursors")
    unbuffered = getattr(cursors, "CursorUseResultMixIn", ())
    return issubclass(getattr(driver, "cursorclass", object), unbuffered)


# Positions that a server has reached


_APPLIED = {
    "mysql": "IF(@@GLOBAL.gtid_mode LIKE 'ON%', @@GLOBAL.gtid_executed, NULL)",
    # Contains the transactions that the server applied as a replica, and those it has written since it was promoted.
    "mariadb": "@@GLOBAL.gtid_current_pos",
}

# On a server that takes writes, MASTER_GTID_WAIT always waits until its time limit, because it watches only
# transactions that arrive by replication. A replica is read-only, or has at least written nothing itself.
_IS_MARIADB_REPLICA = (
    "@@GLOBAL.read_only OR CONCAT(',', @@GLOBAL.gtid_binlog_pos) NOT REGEXP CONCAT(',[0-9]+-', @@GLOBAL.server_id, '-')"
)


def position(connection: BaseDatabaseWrapper) -> Position | None:
    if _has_unread_results(connection.connection):
        return None
    engine = kind(connection)
    return _position(engine, ask(connection, f"SELECT {_APPLIED[engine]}")[0])


def wait(connection: BaseDatabaseWrapper, position: Position, seconds: float) -> Position | None:
    engine = kind(connection)
    if position.kind != engine or _has_unread_results(connection.connection):
        return None
    waiting = "NULL"
    if seconds > 0:
        duration = f"{max(seconds, _SHORTEST_WAIT_SECONDS):.6f}"
        if engine == "mysql":
            waiting = f"IF(@@GLOBAL.gtid_mode LIKE 'ON%', WAIT_FOR_EXECUTED_GTID_SET('{position}', {duration}), NULL)"
        else:
            waiting = f"IF({_IS_MARIADB_REPLICA}, MASTER_GTID_WAIT('{position}', {duration}), NULL)"
    # Columns are evaluated in order: the second column is the position when the wait is over.
    reached = _position(engine, ask(connection, f"SELECT {waiting}, {_APPLIED[engine]}")[1])
    return reached if reached is not None and reached.contains(position) else None


def _position(engine: str, text: str | bytes | None) -> Position | None:
    if text is None:
        return None
    return Position(engine, text.decode() if isinstance(text, bytes) else text)


# For the monitor

# The time of the server's start. Uptime counts up to the time at which the statement began, in whole seconds, and so
# does UNIX_TIMESTAMP(): therefore the difference does not vary by a second, and does not change when the clock is set.
# Every user may read it, even when performance_schema is off.
_STARTED = "CAST(UNIX_TIMESTAMP() - (SELECT VARIABLE_VALUE FROM {table} WHERE VARIABLE_NAME = 'Uptime') AS SIGNED)"
_STARTED_BY_ENGINE = {
    "mysql": _STARTED.format(table="performance_schema.global_status"),
    "mariadb": _STARTED.format(table="information_schema.GLOBAL_STATUS"),
}
#: The identity of the server.
_IDENTITY = {"mysql": "@@server_uuid", "mariadb": "CONCAT(@@server_id, '@', @@hostname, ':', @@port)"}
_STATE = {
    "mysql": ("@@GLOBAL.read_only OR @@GLOBAL.super_read_only OR @@GLOBAL.innodb_read_only", _APPLIED["mysql"]),
    # The transactions that a read-only server wrote itself are not its source's, and gtid_current_pos would count them
    # as if they were. A server that takes writes without a binary log counts no transactions.
    "mariadb": (
        "@@GLOBAL.read_only",
        """CASE WHEN @@GLOBAL.read_only THEN @@GLOBAL.gtid_slave_pos
            WHEN @@GLOBAL.log_bin THEN @@GLOBAL.gtid_current_pos END""",
    ),
}


def _questions(engine: str) -> tuple[str, str, str]:
    read_only, applied = _STATE[engine]
    identity = _IDENTITY[engine]
    return (
        f"SELECT {read_only}, CONCAT({identity}, '{SINCE}', {_STARTED_BY_ENGINE[engine]}), {applied}",
        f"SELECT {read_only}, {identity}, {applied}",
        "SELECT @@read_only, CONCAT(@@hostname, ':', @@port), NULL",
    )


#: The queries of a probe: whether the member is read-only, the server's identity, its position. The second query is for
#: servers that do not tell when they were started. The last one is for servers and proxies that only speak the
#: protocol.
_QUESTIONS = {engine: _questions(engine) for engine in ("mysql", "mariadb")}
#: The error numbers of an unknown variable, a variable that is not global, four kinds of missing privilege, and a table
#: that does not exist or has another structure.
_REFUSALS = frozenset({1193, 1238, 1044, 1142, 1143, 1227, 1049, 1109, 1146, 1682})


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    # The drivers take whole seconds, and 0 means no limit. The prober counts the probe as missed when its own limit is
    # over; this limit ends the attempt of a thread that is already late.
    limit = max(1, math.ceil(seconds))
    options = connection.settings_dict["OPTIONS"]
    options["connect_timeout"] = limit
    if connection.Database.__name__ in ("MySQLdb", "pymysql"):  # type: ignore[attr-defined]
        options["read_timeout"] = options["write_timeout"] = limit


def probe(connection: BaseDatabaseWrapper) -> Sample:
    engine = kind(connection)
    answer = ask_first_known(connection, _QUESTIONS[engine], _is_refusal)
    read_only, server, text = answer.row
    is_writable = str(read_only) in ("0", "OFF")
    return Sample(connection.alias, server, is_writable, position_of(engine, text), answer.asked_at, answer.latency)


def _is_refusal(error: Exception) -> bool:
    return bool(error.args) and error.args[0] in _REFUSALS


def replicates(connection: BaseDatabaseWrapper) -> bool | None:
    try:
        rows = ask_rows(connection, "SHOW REPLICA STATUS")
    except DatabaseError as error:
        if is_gone(error):
            raise
        # The statement requires the privilege REPLICATION CLIENT (on MariaDB SLAVE MONITOR), and MySQL before 8.0.22
        # does not know the keyword REPLICA.
        return None
    # Replica_IO_Running or Slave_IO_Running, and the same of SQL: "Yes", "Connecting", "No".
    threads = ("_IO_Running", "_SQL_Running")
    if any(value != "No" for row in rows for name, value in row.items() if name.endswith(threads)):
        return True
    return _follows_its_group(connection)


def reported(connection: BaseDatabaseWrapper) -> Reported | None:
    try:
        rows = ask_rows(connection, "SHOW REPLICA STATUS")
    except DatabaseError as error:
        if is_gone(error):
            raise
        return None
    # Seconds_Behind_Source or Seconds_Behind_Master, for each channel. If one channel is unknown, the lag is unknown.
    lags = [value for row in rows for name, value in row.items() if name.startswith("Seconds_Behind_")]
    delays = [row["SQL_Delay"] for row in rows if row.get("SQL_Delay") is not None]
    return Reported(
        max(map(float, lags)) if lags and None not in lags else None, max(map(float, delays)) if delays else None
    )


def _follows_its_group(connection: BaseDatabaseWrapper) -> bool | None:
    """Whether a server is a secondary of a replication group (SHOW REPLICA STATUS does not show the group's channels);
    None if this user may not read it."""
    try:
        ask(connection, "SELECT @@GLOBAL.group_replication_group_name")
        rows = ask_rows(connection, _GROUP)
    except DatabaseError as error:
        if is_gone(error):
            raise
        return None if error.args[0] == _SELECT_DENIED else False
    return any((row["state"], row["role"]) == ("ONLINE", "SECONDARY") for row in rows)


_GROUP = """
    SELECT MEMBER_STATE AS state, MEMBER_ROLE AS role FROM performance_schema.replication_group_members
    WHERE MEMBER_ID = @@GLOBAL.server_uuid
"""
_SELECT_DENIED = 1142


# Settings of sessions

#: The name that stands, among the names of variables, for the database that USE chooses.
_DATABASE = "database"


def session_values(connection: BaseDatabaseWrapper, names: Sequence[str]) -> dict[str, Any]:
    columns = ["DATABASE()" if name == _DATABASE else _variable(name) for name in names]
    return dict(zip(names, ask(connection, f"SELECT {', '.join(columns)}"), strict=True))


def set_session_values(connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
    variables = {name: value for name, value in values.items() if name != _DATABASE}
    with connection.wrap_database_errors:
        if values.get(_DATABASE) is not None:
            connection.connection.select_db(values[_DATABASE])
        if variables:
            cursor = connection.connection.cursor()
            try:
                assignments = [f"{_variable(name)} = %s" for name in variables]
                cursor.execute(f"SET {', '.join(assignments)}", list(variables.values()))
            finally:
                cursor.close()


def _variable(name: str) -> str:
    return name if name.startswith("@") else f"@@SESSION.{name}"


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    driver = connection.connection
    # PyMySQL has a socket object; mysqlclient has the file descriptor.
    sock = getattr(driver, "_sock", driver)
    return int(sock.fileno()) if hasattr(sock, "fileno") else None


# For replicant.backends


def connect(
    connection: BaseDatabaseWrapper,
    connect: Callable[[dict[str, Any]], Any],
    parameters: dict[str, Any],
    seconds: float,
    in_use: Callable[[], int],
) -> Any:
    # The drivers take whole seconds, and start anew for each answer of the handshake. Their limit ends an attempt that
    # is already late.
    limit = max(1, math.ceil(seconds))
    parameters = {**parameters, "connect_timeout": min(limit, parameters.get("connect_timeout") or limit)}
    database: Any = connection.Database  # type: ignore[attr-defined]
    late = database.OperationalError(_CANNOT_CONNECT, f"Not connected within {seconds:g} s")
    return connect_deadline.connect(lambda: connect(parameters), seconds, late)


def connection_parameters(parameters: dict[str, Any], database: Any) -> None:
    """Add the parameters that the driver (Django's ``connection.Database``) needs when it connects."""
    if getattr(database, "__name__", "") == "pymysql":
        mysql_session_track.tell_pymysql(parameters)


def adopt(connection: BaseDatabaseWrapper) -> None:
    """Make a new connection object of Django's own engines compile INSERTs in a form that returns a position."""
    if connection.ops.compiler_module == _COMPILER:
        connection.ops.compiler_module = "replicant.backends.mysql.compiler"
