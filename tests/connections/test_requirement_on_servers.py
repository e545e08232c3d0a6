"""What a scope requires of a replica, on real servers: exact schedules that once let a client go back in time.

Only the test probes the servers, so that each schedule is exact. Every test runs on MySQL, MariaDB and PostgreSQL.
"""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import OperationalError, connections, transaction
from django.test import override_settings

from replicant import after, request_scope, token, use_replica
from tests.app.models import Item
from tests.connections.requirement import (
    SECONDS,
    elsewhere,
    probe,
    read,
    replicated,
    requires,
    settings,
    until,
    with_our_engines,
    write,
)
from tests.connections.requirement import shop as shop
from tests.servers import Cluster

# The member that a token names.


def visited(alias: str) -> str:
    """The token of a client that has read from ``alias``."""
    with request_scope(), use_replica(alias):
        assert read()[0] == alias
        return token()


def visit(sent: str, pk: Any) -> tuple[str, bool]:
    """A request of a client that sends a token."""
    with request_scope(), after(sent):
        return read(pk)


@with_our_engines
def test_a_client_finds_what_the_member_of_its_token_had_shown_when_that_refuses(shop: Cluster):
    sent = elsewhere(lambda: visited("replica1"))
    # From now on replica2 has what the primary had after the token was issued, and no more.
    probe()
    shop.replicas[1].pause_replication()
    pk = elsewhere(write)
    assert shop.replicas[0].reached(shop.primary.position(), SECONDS)
    assert elsewhere(lambda: visit(sent, pk)) == ("replica1", True)
    shop.replicas[0].kill()
    assert elsewhere(lambda: visit(sent, pk)) == ("default", True)
    # The same once the monitor knows.
    probe()
    assert elsewhere(lambda: visit(sent, pk)) == ("default", True)


# A transaction that is open on a replica.


@pytest.mark.parametrize("begin", ["atomic", "text", "autocommit off"])
def test_a_write_is_found_though_the_scopes_replica_has_a_snapshot_from_before(shop: Cluster, begin: str):
    with request_scope():
        sticky, _ = read()
        with began(sticky, begin):
            Item.objects.using(sticky).count()
            pk = write()
            assert read(pk) == ("default", True)
            replicated(shop)
            alias, found = read(pk)
            assert (alias != sticky, found) == (True, True)
            # It does not end for the client's next request either.
            assert requires()
            assert read(pk)[1]
        replicated(shop)
        assert read(pk)[1]
        assert not requires()


@contextlib.contextmanager
def began(alias: str, begin: str) -> Iterator[None]:
    """A transaction on this thread's connection to ``alias``."""
    connection = connections[alias]
    if begin == "atomic":
        with transaction.atomic(using=alias):
            yield
        return
    if begin == "autocommit off":
        connection.set_autocommit(False)
    else:
        execute(alias, "BEGIN")
    try:
        yield
    finally:
        if begin == "autocommit off":
            connection.rollback()
            connection.set_autocommit(True)
        else:
            execute(alias, "ROLLBACK")


def execute(alias: str, sql: str) -> None:
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)


def test_a_snapshot_of_another_thread_of_the_scope_counts_too(shop: Cluster):
    with request_scope(), ThreadPoolExecutor(1) as pool:
        sticky, _ = read()
        # One thread, in a copy of this context: of the same scope.
        inside = contextvars.copy_context()
        other = lambda function: pool.submit(inside.run, function).result()  # noqa: E731
        block = other(lambda: transaction.atomic(using=sticky))
        other(block.__enter__)
        other(lambda: Item.objects.using(sticky).count())
        pk = write()
        replicated(shop)
        # Here the replica may serve, and there it may not.
        assert read(pk)[1]
        alias, found = other(lambda: read(pk))
        assert (alias != sticky, found) == (True, True)
        other(lambda: block.__exit__(None, None, None))
        probe()
        assert read(pk)[1]
        assert not requires()
        other(connections.close_all)


# A transaction that the server rolled back.


@pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)
@pytest.mark.parametrize("end", ["ROLLBACK", "close"])
def test_what_is_written_after_a_deadlock_is_found_however_the_transaction_is_ended(
    shop: Cluster, end: str, database: str
):
    # In a context of its own: what it writes is not required here.
    first, second, *more = elsewhere(lambda: [write() for _ in range(20)])
    replicated(shop)
    with ThreadPoolExecutor(1) as pool, request_scope():
        execute("default", "BEGIN")
        update("default", [first])
        # The server gives up the transaction that has changed less.
        heavier = pool.submit(contextvars.Context().run, transaction.atomic(deadlocking), [second, *more], [first])
        waiting = f"INFO LIKE 'UPDATE%IN ({first})' AND ID <> CONNECTION_ID()"
        sessions = f"SELECT count(*) FROM information_schema.processlist WHERE {waiting}"
        until(lambda: shop.primary.value(sessions) != "0", "the other one wants the first row")
        with pytest.raises(OperationalError, match="1213"):
            update("default", [second])
        heavier.result()
        assert not requires()
        for replica in shop.replicas:
            replica.pause_replication()
        pk = write()
        if end == "ROLLBACK":
            execute("default", "ROLLBACK")
        else:
            connections["default"].close()
        assert Item.objects.using("default").filter(pk=pk).exists()
        assert read(pk) == ("default", True)


def deadlocking(have: list[Any], want: list[Any]) -> None:
    update("default", have)
    update("default", want)


def update(alias: str, rows: list[Any]) -> None:
    places = ", ".join(map(str, rows))
    execute(alias, f"UPDATE {Item._meta.db_table} SET name = CONCAT(name, '.') WHERE id IN ({places})")


# A replica of weight 0.


def test_a_named_replica_of_weight_0_is_judged_by_what_the_scope_wrote_after_the_others_have_it(shop: Cluster):
    named = shop.replicas[1]
    with override_settings(REPLICANT=settings(REPLICAS={"replica1": 1, "replica2": 0})), request_scope():
        probe()
        named.pause_replication()
        pk = write()
        assert shop.replicas[0].reached(shop.primary.position(), SECONDS)
        probe()
        assert read(pk) == ("replica1", True)
        assert not requires()
        assert use_replica("replica2")(read)(pk) == ("replica1", True)
        named.resume_replication()
        replicated(shop)
        assert use_replica("replica2")(read)(pk) == ("replica2", True)
