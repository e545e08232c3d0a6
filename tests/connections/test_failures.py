"""What drivers' errors say of a server, and how soon drivers give up."""

from __future__ import annotations

import time

import pymysql
import pytest
from django.db import DatabaseError, OperationalError

from replicant.engines import Failure, connect_deadline, described, mysql, postgresql, sqlite
from tests.monitoring import black_hole

MySQLdb = pytest.importorskip("MySQLdb")
psycopg = pytest.importorskip("psycopg")
errors = pytest.importorskip("psycopg.errors")
psycopg_pool = pytest.importorskip("psycopg_pool")

MYSQL = {
    Failure.GONE: (1053, 2002, 2003),
    Failure.ENDED: (1927, 2006, 2013, 2026, 3169, 4031),
    Failure.FULL: (1040,),
    Failure.DEMOTED: (1290, 1792, 1836),
    # Bad credentials, a limit of one user, a syntax error, a lock, a statement that was killed or took too long.
    Failure.NOTHING: (1045, 1203, 1226, 1064, 1205, 1213, 1317, 3024),
}
POSTGRESQL = {
    Failure.GONE: (errors.CrashShutdown, errors.CannotConnectNow, errors.ConnectionTimeout),
    Failure.ENDED: (errors.AdminShutdown, errors.ConnectionFailure, errors.IdleSessionTimeout),
    Failure.FULL: (errors.TooManyConnections,),
    Failure.DEMOTED: (errors.ReadOnlySqlTransaction,),
    Failure.CONFLICT: (errors.SerializationFailure, errors.DeadlockDetected),
    Failure.NOTHING: (errors.InvalidPassword, errors.SyntaxError, errors.LockNotAvailable, errors.QueryCanceled),
}


def raised(error: Exception) -> DatabaseError:
    """As Django raises it."""
    wrapped = OperationalError(*error.args)
    wrapped.__cause__ = error
    return wrapped


@pytest.mark.parametrize("driver", [MySQLdb, pymysql])
@pytest.mark.parametrize(("failure", "number"), [(failure, number) for failure in MYSQL for number in MYSQL[failure]])
def test_mysqls_numbers(driver, failure: Failure, number: int):
    error = driver.OperationalError(number, "text")
    assert mysql.failure(raised(error)) is mysql.failure(error) is failure


@pytest.mark.parametrize(
    ("failure", "kind"), [(failure, kind) for failure in POSTGRESQL for kind in POSTGRESQL[failure]]
)
def test_postgresqls_states(failure: Failure, kind: type[Exception]):
    error = kind("text")
    assert postgresql.failure(raised(error)) is postgresql.failure(error) is failure


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (Failure.ENDED, psycopg.OperationalError("consuming input failed: server closed the connection unexpectedly")),
        (Failure.ENDED, psycopg.InterfaceError("the connection is closed")),
        (Failure.FULL, psycopg.OperationalError("connection failed: FATAL:  sorry, too many clients already")),
        (Failure.FULL, psycopg.OperationalError("connection failed: FATAL:  remaining connection slots are reserved")),
        (Failure.GONE, psycopg_pool.PoolTimeout("couldn't get a connection after 1.00 sec")),
        (Failure.ENDED, psycopg_pool.PoolClosed("the pool 'pool-1' is closed")),
        (Failure.FULL, psycopg_pool.TooManyRequests("the pool 'pool-1' has already 5 requests waiting")),
        (Failure.NOTHING, psycopg.OperationalError("connection failed: FATAL:  password authentication failed")),
        (Failure.NOTHING, psycopg.InterfaceError("the cursor is closed")),
        (Failure.NOTHING, psycopg.ProgrammingError("the last operation didn't produce records")),
    ],
)
def test_what_libpq_and_psycopg_say_without_a_state(failure: Failure, error: Exception):
    assert postgresql.failure(raised(error)) is failure


def test_a_file_that_is_not_there():
    assert sqlite.failure(OperationalError("unable to open database file")) is Failure.GONE
    assert sqlite.failure(OperationalError("database is locked")) is Failure.NOTHING


def test_an_error_is_told_in_one_line_and_without_passwords():
    settings = {"USER": "u", "PASSWORD": "s3cret", "OPTIONS": {"sslpassword": "k3y", "ssl": {"passwd": ""}}}
    error = OperationalError("no s3cret,\n  nor k3y, for u")
    assert described(error, settings) == "OperationalError: no ***, nor ***, for u"


def test_psycopg_gives_up_after_parts_of_a_second():
    with black_hole() as port:
        begun = time.monotonic()
        with pytest.raises(errors.ConnectionTimeout):
            connect_deadline.Database(psycopg, 0.3).connect(host="127.0.0.1", port=port, connect_timeout=2)
        # By itself it would take two.
        assert time.monotonic() - begun < 1.9
