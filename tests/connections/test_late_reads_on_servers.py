"""The primary dies before any replica has what a session wrote: ``ON_UNAVAILABLE`` says who serves that session then.

Only the test probes the servers, so that each schedule is exact. Every test runs on MySQL, MariaDB and PostgreSQL.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from django.db import OperationalError, connections, router, transaction

from replicant import NoReplicaAvailable, _core, after, request_scope, token, use_primary, use_replica
from replicant.connections import observations
from tests.app.models import Item
from tests.connections.late_reads import fresh_limits as fresh_limits
from tests.connections.late_reads import late_reads, lines, under
from tests.connections.late_reads import policy as policy
from tests.connections.requirement import (
    REPLICAS,
    elsewhere,
    probe,
    probed,
    read,
    replicated,
    until,
    with_our_engines,
    write,
)
from tests.connections.requirement import shop as shop
from tests.servers import Cluster


def die(shop: Cluster) -> None:
    """Kill the primary before any probe can notice."""
    connections["default"].close()
    shop.primary.kill()


def notice() -> None:
    """Have the monitor know."""
    until(lambda: observations.observe([probed("default")]) or _core.member_state("default") == "down", "it is down")


@under("replica")
def test_a_replica_serves_late_data_while_the_primary_is_down(
    shop: Cluster, policy: str, caplog: pytest.LogCaptureFixture
):
    with request_scope(), caplog.at_level(logging.WARNING, "replicant"):
        pk = write()
        assert read(pk) == ("default", True)
        die(shop)
        notice()
        before = late_reads()
        served = [read(pk) for _ in range(10)]
        assert {alias for alias, _ in served} in ({"replica1"}, {"replica2"})
        assert not any(found for _, found in served)
        assert late_reads() == before + 10
        # A flood of reads is no flood of lines.
        assert 1 <= len(lines(caplog)) <= 4
        # As soon as the primary serves, the own write is seen again.
        shop.primary.restart()
        probe("default")
        assert read(pk) == ("default", True)


@under("replica")
def test_the_next_request_of_the_client_is_served_late_data_too(shop: Cluster, policy: str):
    with request_scope():
        pk = write()
        sent = token()
    die(shop)
    notice()
    with request_scope(), after(sent):
        assert read(pk)[0] in REPLICAS
        assert use_replica("replica2")(read)(pk) == ("replica2", False)
        # The primary was asked for by name.
        with use_primary(), pytest.raises(OperationalError):
            read(pk)
        renewed = token()
    shop.primary.restart()
    probe("default")
    with request_scope(), after(renewed):
        assert read(pk) == ("default", True)


@under("error")
def test_the_read_is_refused_while_the_primary_is_down(shop: Cluster, policy: str):
    with request_scope():
        pk = write()
        die(shop)
        notice()
        with pytest.raises(NoReplicaAvailable):
            read(pk)
    # A session that wrote nothing reads on.
    assert elsewhere(lambda: read(pk))[0] in REPLICAS


@under("primary")
def test_the_primarys_own_error_is_raised_while_it_is_down(shop: Cluster, policy: str):
    with request_scope():
        pk = write()
        die(shop)
        notice()
        assert router.db_for_read(Item) == "default"
        with pytest.raises(OperationalError) as raised:
            read(pk)
    assert not isinstance(raised.value, NoReplicaAvailable)


# The monitor has not noticed yet.


@with_our_engines
@under("replica")
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "new"])
def test_a_read_that_finds_the_primary_dead_is_served_late_data(
    shop: Cluster, policy: str, is_open: bool, caplog: pytest.LogCaptureFixture
):
    with request_scope(), caplog.at_level(logging.WARNING, "replicant"):
        pk = write()
        assert read(pk) == ("default", True)
        if is_open:
            shop.primary.kill()
        else:
            die(shop)
        assert _core.member_state("default") == "up"
        before = late_reads()
        assert router.db_for_read(Item) == "default"
        alias, found = read(pk)
        assert (alias in REPLICAS, found) == (True, False)
        assert late_reads() == before + 1
        assert lines(caplog)
        assert list(Item.objects.filter(pk=pk).iterator()) == []
        # What asks for the primary by name is not served by another member.
        with pytest.raises(OperationalError):
            Item.objects.using("default").exists()
        with use_primary(), pytest.raises(OperationalError):
            read(pk)
        with pytest.raises(OperationalError):
            Item.objects.create(name="not written")


def decided() -> None:
    """Have the router send a read to the primary that is never sent: an empty list finds nothing."""
    assert not Item.objects.filter(pk__in=[]).exists()


def locked(pk: int) -> list[Item]:
    with transaction.atomic():
        return list(Item.objects.select_for_update().filter(pk=pk))


def by_cursor(sql: str) -> Any:
    with connections["default"].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchall()


NAME_THE_PRIMARY: dict[str, Callable[[int], Any]] = {
    "using": lambda pk: Item.objects.using("default").filter(pk=pk).exists(),
    "using, rows": lambda pk: list(Item.objects.using("default").filter(pk=pk).iterator()),
    "using, raw": lambda pk: list(Item.objects.using("default").raw("SELECT id, name FROM app_item")),
    "instance": lambda pk: Item(pk=pk).refresh_from_db(using="default"),
    "cursor": lambda pk: by_cursor("SELECT id FROM app_item"),
    "lock": lambda pk: locked(pk),
    "lock, raw": lambda pk: list(Item.objects.raw("SELECT id, name FROM app_item FOR UPDATE")),
    "transaction": lambda pk: transaction.atomic(read)(pk),
    "create": lambda pk: Item.objects.create(name="not written"),
    "update": lambda pk: Item.objects.filter(pk=pk).update(name="not written"),
    "using, update": lambda pk: Item.objects.using("default").filter(pk=pk).update(name="not written"),
    "delete": lambda pk: Item.objects.filter(pk=pk).delete(),
}


@with_our_engines
@under("replica")
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "new"])
def test_what_names_the_primary_is_never_served_by_a_replica(shop: Cluster, policy: str, is_open: bool):
    """Also right after a read that the router sent to the primary, and that was never sent to a server."""
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
        if not is_open:
            connections["default"].close()
        shop.primary.kill()
        before = late_reads()
        for name, statement in NAME_THE_PRIMARY.items():
            decided()
            try:
                statement(pk)
            except OperationalError:
                continue
            pytest.fail(f"{name} was not refused")
        assert late_reads() == before
        # What the router decides is.
        decided()
        assert read(pk)[0] in REPLICAS
        raw = Item.objects.raw("SELECT id, name FROM app_item WHERE id = %s", [pk])
        assert list(raw) == []
        assert late_reads() == before + 2


@with_our_engines
@under("replica")
def test_a_read_that_a_replica_fails_is_served_late_data_if_the_primary_is_dead_too(shop: Cluster, policy: str):
    replica1 = shop.replicas[0]
    replica1.resume_replication()
    with request_scope():
        pk = write()
        assert replica1.reached(shop.primary.position(), 20.0)
        probe()
        assert read(pk) == ("replica1", True)
        connections["replica1"].close()
        replica1.kill()
        die(shop)
        assert read(pk) == ("replica2", False)


@with_our_engines
@pytest.mark.parametrize("policy", ["primary", "error"], indirect=True)
def test_a_read_that_finds_the_primary_dead_fails_under_the_other_policies(shop: Cluster, policy: str):
    with request_scope():
        pk = write()
        die(shop)
        with pytest.raises(OperationalError):
            read(pk)


@with_our_engines
@under("replica")
def test_while_the_primary_can_be_connected_to_the_error_is_the_callers(shop: Cluster, policy: str):
    with request_scope():
        pk = write()
        shop.primary.kill()
        shop.primary.restart()
        with pytest.raises(OperationalError):
            read(pk)
        connections["default"].close()
        assert read(pk) == ("default", True)
    replicated_again(shop)


def replicated_again(shop: Cluster) -> None:
    for replica in shop.replicas:
        replica.resume_replication()
    replicated(shop)
