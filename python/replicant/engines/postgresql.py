"""PostgreSQL, with psycopg 3 or psycopg2.

The file is long, since each engine is one file: all that differs between servers is read side by side.
"""

from __future__ import annotations

import contextlib
import math
import re
import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from django.db import DatabaseError

from replicant import under_test
from replicant._core import Position
from replicant.engines import connect_deadline
from replicant.engines.failure import Failure, ended_connecting

# PostgreSQL reports no positions in its answers, and replicant.backends has nothing to add to Django's backend.
from replicant.engines.generic import adopt as adopt
from replicant.engines.generic import captured as captured
from replicant.engines.generic import connection_parameters as connection_parameters
from replicant.engines.generic import init_session as init_session
from replicant.engines.generic import prepare_capture as prepare_capture
from replicant.engines.query import ask, matched_nothing
from replicant.engines.sample import SINCE, Reported, Sample, ask_first_known

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: The attribute of a connection that keeps, per session, which tables run a trigger or a rule even if no row is found.
_ATTRIBUTE = "_replicant_acting_tables"

_IDENTIFIER = r'(?:"(?:[^"]|"")+"|[a-zA-Z_]\w*)'
#: The table of an UPDATE or DELETE.
_TARGET = re.compile(rf"\s*(?:UPDATE|DELETE\s+FROM)\s+(?:ONLY\s+)?({_IDENTIFIER}(?:\.{_IDENTIFIER})?)(?=\s)", re.I)

_SHORT_HEADER, _LONG_HEADER = 24, 40
_POLL_SECONDS = 0.001


def read_only_sql(read_only: bool) -> str | None:
    return f"SET default_transaction_read_only = {'on' if read_only else 'off'}"


def refused_as_read_only(error: DatabaseError) -> bool:
    return failure(error) is Failure.DEMOTED


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # libpq's PQTRANS_IDLE is 0 in both drivers. The server sent the status with the last answer.
    return connection.connection is not None and connection.connection.info.transaction_status != 0


_FAILURES = {
    # crash_shutdown, cannot_connect_now
    **dict.fromkeys(("57P02", "57P03"), Failure.GONE),
    # admin_shutdown, which an administrator's end of one connection also raises; idle_session_timeout
    **dict.fromkeys(("57P01", "57P05"), Failure.ENDED),
    # too_many_connections
    "53300": Failure.FULL,
    # read_only_sql_transaction
    "25006": Failure.DEMOTED,
    # serialization_failure, deadlock_detected: on a standby, conflicts with the changes that it applies
    **dict.fromkeys(("40001", "40P01"), Failure.CONFLICT),
}
#: The errors of psycopg itself. A closed pool led to a server that had already been taken out of service.
_BY_NAME = {
    "ConnectionTimeout": Failure.GONE,
    "PoolTimeout": Failure.GONE,
    "PoolClosed": Failure.ENDED,
    "TooManyRequests": Failure.FULL,
}
#: Messages of a server at the handshake, for which libpq gives no code. Only English messages are recognised; for other
#: languages see `_SAID_BY_A_SERVER`.
_REFUSES_A_USER = ("authentication failed", "no pg_hba.conf entry", "does not exist", "no password supplied")
_IS_FULL = ("too many", "connection slots are reserved")
_STARTS_OR_STOPS = ("starting up", "shutting down", "recovery mode", "not yet accepting", "not accepting connections")
#: libpq puts two spaces between the severity and the text of a server's message, in every language. No message of libpq
#: itself has this form.
_SAID_BY_A_SERVER = re.compile(r"\S:  (?=\S)")


def failure(error: BaseException) -> Failure:
    cause = error.__cause__ if error.__cause__ is not None else error
    state, text, name = _sqlstate(cause), str(cause), type(cause).__name__
    if state is not None:
        return Failure.ENDED if state.startswith("08") else _FAILURES.get(state, Failure.NOTHING)
    # Errors of libpq itself have no code (it could not connect, or the connection is gone), and neither have errors in
    # the use of the driver.
    if name in _BY_NAME:
        return _BY_NAME[name]
    if name not in ("OperationalError", "InterfaceError") or any(words in text for words in _REFUSES_A_USER):
        return Failure.NOTHING
    if name == "InterfaceError" and "cursor" in text:
        return Failure.NOTHING
    if any(words in text for words in _IS_FULL):
        return Failure.FULL
    if any(words in text for words in _STARTS_OR_STOPS):
        return Failure.GONE
    # The read is rerouted, because the server may be starting. The server is not ejected, because the password may be
    # wrong.
    is_refusal = ended_connecting(cause) and _SAID_BY_A_SERVER.search(text)
    return Failure.REFUSED if is_refusal else Failure.ENDED


def is_gone(error: BaseException) -> bool:
    return failure(error) in (Failure.GONE, Failure.ENDED)


def _sqlstate(error: BaseException | None) -> str | None:
    # psycopg 3 and psycopg2 name the attribute differently.
    state: str | None = getattr(error, "sqlstate", None) or getattr(error, "pgcode", None)
    return state


def kind(connection: BaseDatabaseWrapper) -> Literal["postgresql"]:
    return "postgresql"


# Positions of writes


def changed_nothing(connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
    # A rule, or a trigger of the whole statement, runs even if no row was found, and a view may hide a table that has
    # one. Queried once per session and table: a rule or trigger that is created later is missed until the session ends.
    # The functions of row-level security policies are assumed not to write.
    if not matched_nothing(cursor, sql, connection.vendor):
        return False
    target = _TARGET.match(sql)
    if target is None:
        return False
    driver, known = getattr(connection, _ATTRIBUTE, (None, None))
    acting: dict[str, bool] = known if known is not None and driver is connection.connection else {}
    if acting is not known:
        setattr(connection, _ATTRIBUTE, (connection.connection, acting))
    table = target[1]
    if table not in acting:
        acting[table] = ask(connection, _ACTS.format(table=table.replace("'", "''")))[0]
    return not acting[table]


_ACTS = """
SELECT coalesce(bool_or(relkind NOT IN ('r', 'p')
    OR EXISTS (SELECT FROM pg_catalog.pg_trigger WHERE tgrelid = c.oid AND NOT tgisinternal AND tgtype & 1 = 0)
    OR EXISTS (SELECT FROM pg_catalog.pg_rewrite WHERE ev_class = c.oid)), true)
FROM pg_catalog.pg_class c WHERE oid = pg_catalog.to_regclass('{table}')
"""


def ask_position(connection: BaseDatabaseWrapper) -> Position | None:
    return position(connection)


# Positions that a server has reached

# The timeline in a form that any user may read. On a primary it is the first part of the name of the file that the
# primary writes to. On a standby it is in the control file, which may be behind after a promotion until the first
# restartpoint or the first flush of a page. A user with pg_monitor (the right to read statistics) learns the new
# timeline at once; for all other users the monitor finds it by marks, see `mark`. A timeline ahead of the replayed
# position does no harm: all positions of that timeline lie beyond the point where it began.
_TIMELINE = """
CASE WHEN pg_is_in_recovery() THEN to_hex(greatest(
    (SELECT timeline_id FROM pg_control_checkpoint()),
    (SELECT min_recovery_end_timeline FROM pg_control_recovery()),
    (SELECT received_tli FROM pg_stat_wal_receiver),
    {known}))
ELSE left(pg_walfile_name(pg_current_wal_insert_lsn()), 8) END
"""
#: The time of a server's start, in seconds. A standby that is not restarted never returns to an earlier timeline.
_STARTED = "extract(epoch FROM pg_postmaster_start_time())::text"
#: For each standby, by its start time: the timeline on which it was found. The newest entries come last.
_known: dict[str, int] = {}
_MOST_KNOWN = 64


def _timeline() -> str:
    """The expression that queries a server's timeline. It includes the timelines already found for standbys that do not
    tell their timeline."""
    known = "".join(f" WHEN '{started}' THEN {timeline}" for started, timeline in list(_known.items()))
    return _TIMELINE.format(known=f"CASE {_STARTED}{known} END" if known else "NULL::int")


def timeline_of(position: Position) -> int:
    """The timeline of a position of this engine."""
    return int(str(position).partition(":")[0])


def learn(sample: Sample) -> None:
    """Remember the timeline of a server, for sessions of users that may not read it from the server."""
    started = sample.server.rpartition(" ")[2]
    if sample.position is None or sample.is_writable or not _STARTS.fullmatch(started):
        return
    timeline = timeline_of(sample.position)
    # Timeline 1 is the lowest, so that the control file cannot be behind.
    if timeline > 1 and _known.get(started, 0) < timeline:
        for known in list(_known)[: 1 - _MOST_KNOWN]:
            _known.pop(known, None)
        _known[started] = timeline


_STARTS = re.compile(r"[0-9]+\.[0-9]+")

# Marks: transactions that write nothing. Some commit and some roll back, chosen at random. They get transaction ids on
# the new primary, on its timeline. A standby where all of them have ended in the same way has replayed that timeline.
# On a standby of another timeline the same ids belong to other transactions, which would have to end in the same way by
# chance. The marks cost the new primary a few transaction ids, once after a promotion, and only if a standby does not
# tell its timeline.

#: The ids of the transactions, and whether each one committed.
Marks = tuple[tuple[str, bool], ...]
_MARKS = 32
#: Makes all marks in one round trip. The commits do not wait for the disk or for a standby.
_MAKE_MARKS = """
DO $$
DECLARE
    chosen CONSTANT bit varying := B'{chosen}';
    made text := '';
BEGIN
    FOR place IN 1..length(chosen) LOOP
        PERFORM set_config('synchronous_commit', 'off', true);
        made := made || ' ' || pg_current_xact_id();
        IF substring(chosen FROM place FOR 1) = B'1' THEN COMMIT; ELSE ROLLBACK; END IF;
    END LOOP;
    PERFORM set_config('replicant.marks', made, false);
END $$
"""


def mark(connection: BaseDatabaseWrapper) -> Marks:
    """Write marks to the log of a primary; returns none if this user may not do that. Two round trips."""
    chosen = f"{secrets.randbits(_MARKS):0{_MARKS}b}"
    try:
        with connection.wrap_database_errors:
            cursor = connection.connection.cursor()
            try:
                cursor.execute(_MAKE_MARKS.format(chosen=chosen))
            finally:
                cursor.close()
        (made,) = ask(connection, "SELECT current_setting('replicant.marks')")
    except DatabaseError as error:
        if is_gone(error):
            raise
        return ()
    return tuple(zip(made.split(), (each == "1" for each in chosen), strict=True))


def has_marks(connection: BaseDatabaseWrapper, marks: Marks) -> bool:
    """Whether a standby has replayed the marks."""
    if not marks:
        return False
    statuses = ", ".join(f"pg_xact_status('{number}')" for number, _ in marks)
    try:
        found = ask(connection, f"SELECT {statuses}")
    except DatabaseError as error:
        if is_gone(error):
            raise
        # The server raises an error for a transaction id in its future.
        return False
    return list(found) == ["committed" if commits else "aborted" for _, commits in marks]


# The insert position is queried because, with asynchronous commit, pg_current_wal_lsn() is still behind when the commit
# returns.
_LSN = "CASE WHEN pg_is_in_recovery() THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END"

_SIZES = "current_setting('wal_block_size')::int, pg_size_bytes(current_setting('wal_segment_size'))"

# One statement that polls the position on the server. Its snapshot may delay the replay of a vacuum, at most for the
# time of the wait. CASE keeps the order: first sleep, then read the position.
_WAIT = """
WITH RECURSIVE poll(lsn, until) AS (
    SELECT {lsn}, clock_timestamp() + interval '{seconds:.6f} seconds'
    UNION ALL
    SELECT CASE WHEN pg_sleep(least({poll}, greatest(0, extract(epoch FROM until - clock_timestamp()))))::text
        IS NOT NULL THEN {lsn} END, until
    FROM poll WHERE lsn < '{target}' AND clock_timestamp() < until AND pg_is_in_recovery()
)
SELECT pg_is_in_recovery(), max(lsn), {timeline}, {sizes} FROM poll
"""


def _is_busy(connection: BaseDatabaseWrapper) -> bool:
    """Whether the user's statement is still in progress: unread rows of psycopg's ``stream()``, or an open COPY. The
    driver would wait for its end before it sends anything, in the same thread that must end it: a deadlock."""
    # libpq's PQTRANS_ACTIVE.
    return connection.connection is not None and connection.connection.info.transaction_status == 1


def position(connection: BaseDatabaseWrapper) -> Position | None:
    if _is_busy(connection):
        return None
    return _position(_ask(connection, f"SELECT pg_is_in_recovery(), {_LSN}, {_timeline()}, {_SIZES}"))


def wait(connection: BaseDatabaseWrapper, position: Position, seconds: float) -> Position | None:
    if position.kind != "postgresql" or _is_busy(connection):
        return None
    sql = _WAIT.format(
        lsn=_LSN,
        seconds=seconds,
        poll=_POLL_SECONDS,
        target=str(position).partition(":")[2],
        timeline=_timeline(),
        sizes=_SIZES,
    )
    reached = _position(_ask(connection, sql))
    return reached if reached is not None and reached.contains(position) else None


def _ask(connection: BaseDatabaseWrapper, sql: str) -> tuple[Any, ...]:
    """Query, and leave no transaction open that was not open before (the driver begins one if autocommit is off)."""
    was_open = in_transaction(connection)
    with connection.wrap_database_errors:
        try:
            return ask(connection, sql)
        finally:
            if not was_open and not connection.connection.closed and in_transaction(connection):
                connection.connection.rollback()


def _position(row: tuple[Any, ...]) -> Position | None:
    in_recovery, lsn, timeline, block, segment = row
    if lsn is None or timeline is None:
        return None
    if not in_recovery:
        lsn = _text(_end_of_record(_number(lsn), block, segment))
    return Position("postgresql", f"{int(timeline, 16)}:{lsn}")


def _end_of_record(inserted: int, block: int, segment: int) -> int:
    """The end of the last record, given the insert position and the sizes of blocks and segments in bytes.

    At the start of a block the insert position is behind the block's header, and no standby replays up to that position
    until the primary writes another record.
    """
    header = _LONG_HEADER if inserted % segment == _LONG_HEADER else _SHORT_HEADER
    return inserted - header if inserted % block == header else inserted


def _number(lsn: str) -> int:
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _text(number: int) -> str:
    return f"{number >> 32:X}/{number & 0xFFFFFFFF:X}"


# For the monitor

_ADDRESS = "concat_ws(' ', coalesce(host(inet_server_addr()), ''), current_setting('port'))"
_NO_POSITION = "pg_is_in_recovery(), NULL, NULL, NULL, NULL, current_setting('transaction_read_only')"

#: The queries of a probe: the member's position, whether it takes writes, the server's identity and the time of its
#: start. Members of a cluster share the system identifier; they differ in their address, and in their name if one is
#: configured. The later queries are for a user without the right to call the control file's functions, and for servers
#: that only resemble PostgreSQL.
_QUESTIONS = (
    f"""
    SELECT pg_is_in_recovery(), {_LSN}, {{timeline}}, {_SIZES}, current_setting('transaction_read_only'),
        concat_ws(' ', (SELECT system_identifier FROM pg_control_system()), {_ADDRESS},
            current_setting('cluster_name')), {_STARTED}
    """,
    f"SELECT {_NO_POSITION}, {_ADDRESS}, {_STARTED}",
    f"SELECT {_NO_POSITION}, {_ADDRESS}",
)
#: insufficient_privilege, undefined_function, undefined_object, undefined_table, feature_not_supported
_REFUSALS = frozenset({"42501", "42883", "42704", "42P01", "0A000"})


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    settings = connection.settings_dict
    # libpq and psycopg take whole seconds, and 1 counts as 2. The prober counts the probe as missed when its own limit
    # is over; this limit ends the attempt of a thread that is already late.
    settings["OPTIONS"]["connect_timeout"] = max(2, math.ceil(seconds))
    # All connections of an alias share its pool, and a probe must not take a connection from it.
    settings["OPTIONS"].pop("pool", None)
    if under_test.databases_are_tests:
        # The answers to a probe belong to the server and are the same in every database.
        settings["NAME"] = "postgres"


def probe(connection: BaseDatabaseWrapper) -> Sample:
    questions = [question.replace("{timeline}", _timeline()) for question in _QUESTIONS]
    answer = ask_first_known(connection, questions, lambda error: _sqlstate(error.__cause__) in _REFUSALS)
    recovers, lsn, timeline, block, segment, read_only, *server = answer.row
    is_writable = not recovers and read_only == "off"
    position = _position((recovers, lsn, timeline, block, segment))
    sample = Sample(connection.alias, SINCE.join(server), is_writable, position, answer.asked_at, answer.latency)
    learn(sample)
    return sample


def replicates(connection: BaseDatabaseWrapper) -> bool | None:
    return bool(ask(connection, "SELECT pg_is_in_recovery()")[0])


def reported(connection: BaseDatabaseWrapper) -> Reported | None:
    recovers, lag, delay = ask(connection, _REPORTED)
    return Reported(lag, delay) if recovers else Reported()


#: A query that any user may send. The age of the last replayed transaction grows when the primary is idle: it is the
#: lag only while the standby has received more than it has replayed.
_REPORTED = """
SELECT pg_is_in_recovery(),
    CASE WHEN NOT pg_is_in_recovery() THEN NULL
        WHEN pg_last_wal_receive_lsn() <= pg_last_wal_replay_lsn() THEN 0.0::float8
        ELSE extract(epoch FROM clock_timestamp() - pg_last_xact_replay_timestamp())::float8 END,
    (SELECT setting::float8 / 1000 FROM pg_settings WHERE name = 'recovery_min_apply_delay')
"""


# Settings of sessions


def session_values(connection: BaseDatabaseWrapper, names: Sequence[str]) -> dict[str, Any]:
    # A custom setting that the session has never had is NULL.
    columns = [f"current_setting('{name}', true)" for name in names]
    return dict(zip(names, _ask(connection, f"SELECT {', '.join(columns)}"), strict=True))


def set_session_values(connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
    columns = [f"set_config('{name}', %s, false)" for name in values]
    with connection.wrap_database_errors:
        cursor = connection.connection.cursor()
        try:
            # NULL resets a setting.
            cursor.execute(f"SELECT {', '.join(columns)}", list(values.values()))
        finally:
            cursor.close()


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    return int(connection.connection.fileno())


# For replicant.backends


def connect(
    connection: BaseDatabaseWrapper,
    connect: Callable[[dict[str, Any]], Any],
    parameters: dict[str, Any],
    seconds: float,
    in_use: Callable[[], int],
) -> Any:
    # libpq takes whole seconds, and 1 counts as 2.
    limit = max(2, math.ceil(seconds))
    parameters = {**parameters, "connect_timeout": min(limit, int(parameters.get("connect_timeout") or limit))}
    database: Any = connection.Database  # type: ignore[attr-defined]
    pool = getattr(connection, "pool", None)
    if pool is not None:
        # Django uses `self.pool`, which finds the pool by the alias.
        pools = {connection.alias: connect_deadline.Pool(pool, seconds, in_use)}
        with _having(connection, "_connection_pools", pools):
            return connect(parameters)
    if not connect_deadline.can_be(database):
        late = database.OperationalError("connection timeout expired")
        return connect_deadline.connect(lambda: connect(parameters), seconds, late)
    # Django connects by `self.Database.connect`.
    with _having(connection, "Database", connect_deadline.Database(database, seconds)):
        return connect(parameters)


@contextlib.contextmanager
def _having(connection: BaseDatabaseWrapper, name: str, value: object) -> Iterator[None]:
    """Give a connection object another value of an attribute for the time of the block."""
    own = connection.__dict__
    before = {name: own[name]} if name in own else {}
    own[name] = value
    try:
        yield
    finally:
        del own[name]
        own.update(before)


def drop_pool(pools: dict[str, Any], alias: str) -> None:
    pool = pools.pop(alias, None)
    if pool is not None:
        # Does not wait for the pool's threads that are connecting: the calling thread, which found the server gone,
        # must not be delayed.
        pool.close(timeout=0)
