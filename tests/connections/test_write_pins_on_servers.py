"""A write keeps the reads of its scope on the primary until a replica has it; on real servers.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

import asyncio
import os
from typing import Any

from asgiref.sync import sync_to_async
from django.db import connections, router, transaction

import replicant
from replicant import explain, request_scope, use_replica
from tests.app.models import Account, Item, Piece, Tag
from tests.connections.paused_replicas import (
    BOTH,
    catch_up,
    elsewhere,
    looked,
    pause,
    read,
    reason,
    settings,
    until,
    using,
    weights,
    write,
)
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.databases import migrate, use_databases
from tests.servers import Cluster


def test_after_a_write_reads_go_to_exactly_the_replica_that_has_it(paused: Cluster):
    with request_scope():
        looked()
        first = write()
        assert read(first) == ("default", True)
        looked()
        assert [read(first) for _ in range(5)] == [("default", True)] * 5
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert {read(first) for _ in range(20)} == {("replica2", True)}
        # And again with the next write.
        paused.replicas[1].pause_replication()
        second = write()
        assert read(second) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        assert {read(second) for _ in range(20)} == {("replica1", True)}


@using(STICKY=False, WAIT_SECONDS=0)
def test_one_that_has_caught_up_lets_nobody_read_from_the_other(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        looked()
        assert {read(pk) for _ in range(40)} == {("replica1", True)}
        assert {use_replica("replica2")(read)(pk) for _ in range(3)} == {("replica1", True)}
        catch_up(paused)
        looked()
        assert {read(pk) for _ in range(40)} == {("replica1", True), ("replica2", True)}


def test_a_replica_asked_for_by_name_that_lacks_the_position_moves_nobody(paused: Cluster):
    with request_scope():
        looked()
        pk = write()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        # And of the other one it is known that it lacks it: otherwise it is asked, once.
        looked()
        with use_replica("replica1"):
            assert read(pk) == ("replica2", True)
            for _ in range(5):
                # Sticky, and not pinned: no server is queried before.
                assert explain(Item)[:2] == ("replica2", "sticky")
                assert read(pk) == ("replica2", True)
        catch_up(paused)
        until(lambda: use_replica("replica1")(read)(pk) == ("replica1", True), "replica1 is known to have it")


def test_who_is_eligible_is_told(paused: Cluster):
    with request_scope():
        looked()
        assert set(explain(Item).eligible) == BOTH
        pk = write()
        assert explain(Item).eligible == ()
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert explain(Item).eligible == ("replica2",)
        with use_replica(stale_ok=True):
            assert set(explain(Item).eligible) == BOTH


def test_the_record_ends_when_every_replica_that_reads_may_go_to_has_it(paused: Cluster):
    with weights(replica1=0, replica2=1), request_scope():
        looked()
        write()
        assert replicant.token()
        catch_up(paused, paused.replicas[1])
        until(lambda: replicant.token() == "", "nothing is left to be seen")
    pause(paused)
    with request_scope():
        looked()
        write()
        catch_up(paused, paused.replicas[1])
        looked()
        assert replicant.token()
        catch_up(paused)
        until(lambda: replicant.token() == "", "nothing is left to be seen")


def test_a_thread_without_a_scope_is_held_to_what_it_wrote(paused: Cluster):
    pk = write()
    assert read(pk) == ("default", True)
    assert elsewhere(read)[0] in BOTH
    with use_replica("replica1"):
        assert read(pk) == ("default", True)
    catch_up(paused, paused.replicas[0])
    until(lambda: reason() != "pinned", "replica1 is known to have it")
    assert {read(pk) for _ in range(10)} == {("replica1", True)}


def test_a_scope_that_leaves_its_replica_forgets_no_write(paused: Cluster):
    """With no request open a scope remembers where it reads, and the thread what it wrote."""
    looked()
    with use_replica():
        read()
        pk = write()
        assert [read(pk) for _ in range(5)] == [("default", True)] * 5
        looked()
        assert [read(pk) for _ in range(5)] == [("default", True)] * 5
        catch_up(paused, paused.replicas[1])
        until(lambda: reason() != "pinned", "replica2 is known to have it")
        assert {read(pk) for _ in range(20)} == {("replica2", True)}


# Which scopes a write pins.


def test_a_write_in_a_thread_that_is_awaited_pins_the_request(paused: Cluster):
    def write_and_close() -> Any:
        pk = write()
        connections.close_all()
        return pk

    def read_and_close(pk: Any) -> tuple[str, bool]:
        seen = read(pk)
        connections.close_all()
        return seen

    async def main() -> None:
        for run in (asyncio.to_thread, lambda function, *arguments: sync_to_async(function)(*arguments)):
            async with request_scope():
                pk = await run(write_and_close)
                assert await run(read_and_close, pk) == ("default", True)
                await asyncio.to_thread(looked)
                assert await asyncio.to_thread(read_and_close, pk) == ("default", True)
                assert await sync_to_async(read_and_close)(pk) == ("default", True)

    asyncio.run(main())


def test_with_no_scope_open_a_write_in_another_thread_is_that_threads_own(paused: Cluster):
    async def main() -> None:
        await asyncio.to_thread(lambda: (write(), connections.close_all()))
        assert await asyncio.to_thread(lambda: (reason(), connections.close_all())[0]) == "balanced"

    asyncio.run(main())


def test_a_request_leaves_nothing_behind(paused: Cluster):
    with request_scope():
        pk = write()
        assert read(pk) == ("default", True)
    assert reason() == "balanced"
    with request_scope():
        assert read(pk)[0] in BOTH


def test_a_write_counts_for_who_made_it_and_for_who_commits_it(paused: Cluster):
    with request_scope():
        looked()
        with transaction.atomic(), request_scope():
            write()
        assert reason() == "pinned"


def test_a_write_to_one_cluster_pins_nobody_in_the_other(paused: Cluster, database: str):
    catch_up(paused)
    paused.create_database(f"{database}_other")
    databases = dict(connections.settings)
    for alias, other in (("default", "other"), ("replica1", "other1"), ("replica2", "other2")):
        mirror = {} if alias == "default" else {"MIRROR": "other"}
        databases[other] = {**connections.settings[alias], "NAME": f"{database}_other", "TEST": mirror}
    clusters = {
        **settings(),
        "other": {**settings()["default"], "REPLICAS": ["other1", "other2"], "MODELS": ["app.Account"]},
    }
    with use_databases(databases, REPLICANT=clusters):
        migrate("other")
        catch_up(paused)
        pause(paused)
        elsewhere(lambda: router.db_for_read(Item))
        with request_scope():
            write()
            assert (explain(Item).reason, explain(Account).reason) == ("pinned", "balanced")
        with request_scope():
            account = Account.objects.create(owner="one")
            assert (explain(Item).reason, explain(Account).reason) == ("balanced", "pinned")
            token = replicant.token()
        with replicant.after(token):
            assert (explain(Item).reason, explain(Account).reason) == ("balanced", "pinned")
            catch_up(paused, paused.replicas[1])
            until(lambda: explain(Account).reason != "pinned", "other2 is known to have it")
            assert Account.objects.get(pk=account.pk)._state.db == "other2"
    catch_up(paused)
    for alias in ("other", "other1", "other2"):
        with use_databases(databases, REPLICANT={}):
            connections[alias].close()


# Settings, transactions, forks.


def test_other_settings_leave_scopes_and_records_as_they_are(paused: Cluster):
    with request_scope():
        looked()
        alias = read()[0]
        with using(MAX_LAG=None):
            assert read()[0] == alias
            pk = write()
        assert read(pk) == ("default", True)
        with using(PIN_SECONDS=1):
            assert read(pk) == ("default", True)
            catch_up(paused)
            until(lambda: reason() != "pinned", "a replica has it")
            assert (read(pk)[0] in BOTH, read(pk)[1]) == (True, True)


def test_a_worker_that_was_forked_keeps_the_promise(paused: Cluster):
    looked()
    connections.close_all()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            with request_scope():
                looked()
                pk = write()
                seen = [read(pk) for _ in range(3)]
                catch_up(paused, paused.replicas[1])
                until(lambda: reason() != "pinned", "replica2 is known to have it")
                seen += [read(pk) for _ in range(3)]
                os.write(writer, repr(seen).encode())
        except BaseException as error:
            os.write(writer, repr(error).encode())
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    answer = os.read(reader, 10_000).decode()
    os.close(reader)
    os.close(writer)
    assert answer == repr([("default", True)] * 3 + [("replica2", True)] * 3)
    # And the parent goes on as before.
    with request_scope():
        pk = write()
        assert read(pk)[1]


def test_tags_and_pieces_of_a_fresh_row_are_found(paused: Cluster):
    with request_scope():
        item = Item.objects.create(name="with more")
        item.tags.add(Tag.objects.create(name="t"))
        Piece.objects.create(item=item, name="p")
        assert [tag.name for tag in Item.objects.get(pk=item.pk).tags.all()] == ["t"]
        assert Item.objects.prefetch_related("pieces").get(pk=item.pk).pieces.all()[0].name == "p"
