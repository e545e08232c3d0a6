"""A scope sees no older state than it has read, whatever is open on a replica; on real servers.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, transaction

import replicant
from replicant import request_scope, use_replica
from tests.app.models import Item
from tests.connections.paused_replicas import (
    BOTH,
    catch_up,
    elsewhere,
    looked,
    out_of_service,
    read,
    reason,
    until,
    using,
    weights,
    write,
)
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster

# A transaction that is open on a replica.


@using(WAIT_SECONDS=0.3)
@pytest.mark.parametrize("alias", ["replica1", "replica2"])
def test_a_replica_is_of_no_use_while_a_transaction_is_open_there(paused: Cluster, alias: str):
    replica = paused.replicas[int(alias[-1]) - 1]
    with request_scope():
        looked()
        with transaction.atomic(using=alias):
            Item.objects.using(alias).count()
            pk = write()
            catch_up(paused, replica)
            looked()
            with use_replica(alias):
                assert [read(pk) for _ in range(3)] == [("default", True)] * 3
            assert read(pk) == ("default", True)
        until(lambda: reason() != "pinned", "the transaction is over")
        assert read(pk) == (alias, True)


def test_a_transaction_there_counts_that_was_begun_by_a_statement(paused: Cluster):
    replica = paused.replicas[0]
    with request_scope(), connections["replica1"].cursor() as cursor:
        looked()
        cursor.execute("BEGIN")
        cursor.execute("SELECT COUNT(*) FROM app_item")
        pk = write()
        catch_up(paused, replica)
        looked()
        with use_replica("replica1"):
            assert read(pk) == ("default", True)
        cursor.execute("ROLLBACK")
        until(lambda: reason() != "pinned", "the transaction is over")
        assert read(pk) == ("replica1", True)


def test_a_transaction_on_a_replica_is_no_obstacle_to_who_wrote_nothing(shop: Cluster):
    with request_scope(), transaction.atomic(using="replica1"), use_replica("replica1"):
        assert read()[0] == "replica1"


# Reads that may be stale.


def test_stale_rows_may_be_asked_for(paused: Cluster):
    with request_scope():
        pk = write()
        with use_replica(stale_ok=True):
            alias, found = read(pk)
            assert (alias in BOTH, found) == (True, False)
            with transaction.atomic():
                assert read(pk) == ("default", True)
        with use_replica():
            assert read(pk) == ("default", True)
        assert read(pk) == ("default", True)


@pytest.mark.parametrize("at_once", [False, True])
def test_what_was_read_stale_takes_nothing_back_from_what_was_seen(paused: Cluster, at_once: bool):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with out_of_service("replica2"):
            assert read(pk) == ("replica1", True)
        with out_of_service("replica1"):
            assert read(pk) == ("default", True)
            with use_replica(stale_ok=True):
                assert read(pk) == ("replica2", False)
            assert read(pk) == ("default", True)
            looked()
            assert read(pk) == ("default", True)


# What was read.


def test_who_loses_their_replica_reads_no_older_state_elsewhere(paused: Cluster):
    one, other = paused.replicas
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with weights(replica1=1, replica2=0):
            assert read(pk) == ("replica1", True)
        with weights(replica1=0, replica2=1):
            assert read(pk) == ("default", True)
            looked()
            assert read(pk) == ("default", True)
            catch_up(paused, other)
            until(lambda: reason() != "pinned", "replica2 is known to have it")
            assert read(pk) == ("replica2", True)


def test_the_member_last_read_is_stayed_with(shop: Cluster):
    looked()
    for _ in range(10):
        with request_scope():
            alias = read()[0]
            token = replicant.token()
        for _ in range(3):
            with replicant.after(token):
                assert read()[0] == alias
                token = replicant.token()


def test_a_replica_asked_for_by_name_is_no_way_back(paused: Cluster):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = elsewhere(write)
        catch_up(paused, one)
        with out_of_service("replica2"):
            assert read(pk) == ("replica1", True)
        # It reads from replica1, which has more than the other one.
        assert use_replica("replica2")(read)(pk)[1]
        assert read(pk)[1]
    with request_scope():
        with out_of_service("replica1"):
            assert read(pk) == ("replica2", False)
        assert use_replica("replica1")(read)(pk) == ("replica1", True)
        # And it has seen that now.
        assert read(pk)[1]
        assert read(pk)[1]


def test_replicas_that_have_the_same_serve_by_name_and_by_turns(shop: Cluster):
    shop.wait_until_caught_up()
    looked()
    with request_scope():
        alias = read()[0]
        for name in ("replica1", "replica2", "replica1"):
            assert use_replica(name)(read)()[0] == name
        assert read()[0] == alias


def test_who_comes_with_two_tokens_has_seen_what_both_have(paused: Cluster):
    one = paused.replicas[0]

    def reader(alias: str, pk: Any = None) -> tuple[tuple[str, bool], str]:
        with request_scope(), use_replica(alias):
            return read(pk), replicant.token()

    looked()
    pk = elsewhere(write)
    catch_up(paused, one)
    (_, found), fresh = elsewhere(lambda: reader("replica1", pk))
    assert found
    _, stale = elsewhere(lambda: reader("replica2"))
    for first, second in ((fresh, stale), (stale, fresh)):
        with request_scope(), replicant.after(first), replicant.after(second):
            moved_on = replicant.token()
            assert read(pk)[1]
        # Also if it was only passed on.
        with replicant.after(moved_on):
            assert read(pk)[1]
