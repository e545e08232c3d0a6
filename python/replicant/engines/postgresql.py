"""PostgreSQL, with psycopg 3 or psycopg2."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from django.core import mail

from replicant.engines.sample import Sample, ask, position_of

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper


def read_only_sql(read_only: bool) -> str | None:
    return f"SET default_transaction_read_only = {'on' if read_only else 'off'}"


def refused_as_read_only(error: DatabaseError) -> bool:
    # read_only_sql_transaction; psycopg 3 and psycopg2 name the attribute differently.
    cause = error.__cause__
    return "25006" in (getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None))


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    # libpq's PQTRANS_IDLE is 0 in both drivers; the status came with the last answer.
    return connection.connection is not None and connection.connection.info.transaction_status != 0


#: In the order of preference: with a position; where the control file's functions are kept from this user, or the
#: engine only resembles PostgreSQL, the role alone.
#:
#: A standby may not name a WAL file, so its timeline is the control file's: the later one of its last checkpoint's and
#: of what recovery has flushed. Just after a promotion it may still name the timeline before, and the standby then
#: counts as one that cannot be compared.
_QUESTIONS = (
    """
    SELECT recovers, current_setting('transaction_read_only'),
        CASE WHEN recovers THEN pg_last_wal_replay_lsn() ELSE pg_current_wal_insert_lsn() END::text,
        CASE WHEN recovers THEN (
            SELECT greatest(timeline_id, min_recovery_end_timeline) FROM pg_control_checkpoint(), pg_control_recovery()
        ) ELSE ('x' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8))::bit(32)::int END,
        pg_size_bytes(current_setting('wal_segment_size')), current_setting('wal_block_size')::int,
        (SELECT system_identifier FROM pg_control_system())::text,
        coalesce(host(inet_server_addr()), ''), current_setting('port'), current_setting('cluster_name')
    FROM (SELECT pg_is_in_recovery() AS recovers OFFSET 0) AS role
    """,
    """
    SELECT pg_is_in_recovery(), current_setting('transaction_read_only'), NULL, NULL, NULL, NULL, '',
        coalesce(host(inet_server_addr()), ''), current_setting('port'), ''
    """,
)
#: The sizes of a WAL page's header, at the start of a segment and elsewhere (SizeOfXLogLongPHD, SizeOfXLogShortPHD).
_LONG_HEADER, _SHORT_HEADER = 40, 24


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    settings = connection.settings_dict
    # libpq takes whole seconds, of which 1 counts as 2.
    settings["OPTIONS"]["connect_timeout"] = max(2, math.ceil(seconds))
    # A pool is shared by all connections of an alias.
    settings["OPTIONS"].pop("pool", None)
    if hasattr(mail, "outbox"):
        # Under Django's test runner, which cannot drop or copy a database that somebody is connected to. Positions are
        # the server's, whatever the database.
        settings["NAME"] = "postgres"


def probe(connection: BaseDatabaseWrapper) -> Sample:
    _, answer = ask(connection, _QUESTIONS, _unknown_or_forbidden)
    recovers, read_only, lsn, timeline, segment, page, *server = answer.row
    position = None
    if lsn is not None and timeline:
        number = lsn_number(lsn)
        if not recovers:
            number = _end_of_record(number, page, segment)
        position = position_of("postgresql", f"{timeline}:{number >> 32:X}/{number & 0xFFFFFFFF:X}")
    is_writable = not recovers and read_only == "off"
    return Sample(connection.alias, " ".join(server), is_writable, position, answer.asked_at, answer.latency)


def lsn_number(lsn: str) -> int:
    """An LSN as the server prints it, in bytes since the beginning."""
    high, _, low = lsn.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _end_of_record(position: int, page: int, segment: int) -> int:
    """Where the last record ends, given the insert position.

    At the start of a page the insert position stands *behind* the page's header, up to which no standby replays until
    something more is written.
    """
    header = _LONG_HEADER if position % segment == _LONG_HEADER else _SHORT_HEADER
    return position - header if position % page == header else position


def _unknown_or_forbidden(error: Exception) -> bool:
    # insufficient_privilege, undefined_function, undefined_object, feature_not_supported
    cause = error.__cause__
    states = {getattr(cause, "sqlstate", None), getattr(cause, "pgcode", None)}
    return not states.isdisjoint({"42501", "42883", "42704", "0A000"})


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    return int(connection.connection.fileno())
