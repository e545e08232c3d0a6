"""How long a read waits for a replica that lacks a write, and what asks that replica; on real servers.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

import asyncio

from django.db import connections, router, transaction
from django.test import override_settings

from replicant import request_scope, use_primary
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.paused_replicas import (
    AMPLE,
    BOTH,
    catch_up,
    elsewhere,
    looked,
    pause,
    read,
    reason,
    settings,
    soon,
    timed,
    until,
    using,
    write,
)
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster

# With a monitor.


@using(WAIT_SECONDS=AMPLE)
def test_a_read_waits_for_the_replica_it_would_go_to(paused: Cluster):
    with request_scope():
        read()
        pk = write()
        resumed = soon(lambda: catch_up(paused))
        with timed() as seconds:
            alias, found = read(pk)
        resumed.join()
        assert (alias in BOTH, found) == (True, True)
        assert 0.2 < seconds() < AMPLE


@using(WAIT_SECONDS=0.4)
def test_a_read_waits_no_longer_and_only_once_for_each_write(paused: Cluster):
    with request_scope():
        for _ in range(2):
            # Replicas that have stood still for longer than a read waits are not waited for.
            catch_up(paused)
            looked()
            pause(paused)
            looked()
            pk = write()
            with timed() as seconds:
                assert read(pk) == ("default", True)
            assert 0.35 < seconds() < 1.5
            with timed() as seconds:
                assert [read(pk) for _ in range(10)] == [("default", True)] * 10
            assert seconds() < 0.35


@using(WAIT_SECONDS=0.6)
def test_what_was_waited_is_counted_together_until_the_next_write(paused: Cluster):
    one = paused.replicas[0]
    with request_scope():
        looked()
        pk = write()
        resumed = soon(lambda: catch_up(paused, one), 0.4)
        with timed() as seconds:
            alias, found = read(pk)
        resumed.join()
        # It waited for one of the two; if that was the other one, until the end.
        assert found
        if alias == "default":
            assert 0.5 < seconds() < 1.7
        else:
            assert alias == "replica1"
            with transaction.atomic(using="replica1"):
                # This one is of no use now, and for the other there is only the rest of the time.
                Item.objects.using("replica1").exists()
                with timed() as seconds:
                    assert read(pk) == ("default", True)
                assert seconds() < 0.5


@using(WAIT_SECONDS=0)
def test_with_no_time_to_wait_nobody_waits(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        with timed() as seconds:
            assert [read(pk) for _ in range(10)] == [("default", True)] * 10
        assert seconds() < 1


@using(WAIT_SECONDS=AMPLE)
def test_a_thread_that_runs_an_event_loop_waits_for_nobody(paused: Cluster):
    async def main() -> None:
        async with request_scope():
            await Item.objects.acreate(name="written")
            # The router itself is asked on the loop's thread by whatever builds a query there.
            with timed() as seconds:
                assert router.db_for_read(Item) == "default"
            assert seconds() < 1
            assert reason() == "pinned"

    asyncio.run(main())


@using(WAIT_SECONDS=AMPLE)
def test_to_explain_waits_for_nobody(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        with timed() as seconds:
            assert reason() == "pinned"
        assert seconds() < 1
        # And took nothing from what a read may wait.
        resumed = soon(lambda: catch_up(paused))
        assert read(pk)[0] in BOTH
        resumed.join()


@using(WAIT_SECONDS=AMPLE)
def test_nobody_waits_where_the_read_stays_on_the_primary_anyway(paused: Cluster):
    with request_scope():
        looked()
        item = Item.objects.create(name="written")
        with timed() as seconds, use_primary():
            assert read(item.pk) == ("default", True)
        with transaction.atomic():
            assert read(item.pk) == ("default", True)
        # Loaded from the primary: what it hangs on is read from there.
        assert list(Item.objects.using("default").get(pk=item.pk).pieces.all()) == []
        assert seconds() < 1


# Without a monitor.


@using(PROBE_SECONDS=None, WAIT_SECONDS=AMPLE)
def test_without_a_probe_the_replica_is_asked_when_it_matters(paused: Cluster):
    with request_scope():
        read()
        pk = write()
        resumed = soon(lambda: catch_up(paused))
        alias, found = read(pk)
        resumed.join()
        assert (alias in BOTH, found) == (True, True)
        assert {read(pk) for _ in range(5)} == {(alias, True)}
    assert cluster_monitor.latest() == {}


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.1)
def test_without_a_probe_a_miss_is_not_for_ever(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused)
        until(lambda: read(pk)[0] != "default", "a replica has it")


@using(PROBE_SECONDS=None, WAIT_SECONDS=0)
def test_without_a_probe_and_without_waiting_replicas_are_asked_all_the_same(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused)
        until(lambda: read(pk)[0] != "default", "a replica has it")


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.1)
def test_without_a_probe_what_was_read_is_not_lost(paused: Cluster):
    one = paused.replicas[0]
    cluster = settings(PROBE_SECONDS=None, WAIT_SECONDS=0.1)["default"]
    with request_scope():
        pk = elsewhere(write)
        catch_up(paused, one)
        with override_settings(REPLICANT={"default": {**cluster, "REPLICAS": {"replica1": 1, "replica2": 0}}}):
            assert read(pk) == ("replica1", True)
        # A session that never wrote anything: what it has published says nothing of what others have.
        connections["default"].close()
        with override_settings(REPLICANT={"default": {**cluster, "REPLICAS": {"replica1": 0, "replica2": 1}}}):
            assert read(pk) == ("default", True)
            assert read(pk) == ("default", True)
