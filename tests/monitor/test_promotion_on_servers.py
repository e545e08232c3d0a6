"""A primary dies or steps down, another one is promoted: on real servers, under load."""

from __future__ import annotations

import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import pytest
from django.db import DatabaseError, OperationalError, close_old_connections, connections, router, transaction
from django.db.models import F
from django.db.utils import Error
from django.test import override_settings

from replicant import ReplicaWriteError, use_replica
from replicant.monitor import cluster_monitor
from replicant.signals import primary_changed
from tests.app.models import Account, Item
from tests.databases import ours, use_databases
from tests.monitor.promotion import FAST, SECONDS, becomes, follows, is_followed, member, port_of
from tests.monitor.promotion import site as site
from tests.monitoring import environment, use_prober, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

WRITERS, READERS = 6, 2


@pytest.fixture
def changes() -> Iterator[list[dict[str, Any]]]:
    """What ``primary_changed`` said."""
    heard: list[dict[str, Any]] = []

    def hear(*, sender: object, signal: object, **kwargs: Any) -> None:
        heard.append(kwargs)

    primary_changed.connect(hear)
    yield heard
    primary_changed.disconnect(hear)


class Failed(NamedTuple):
    """When a write was begun and when it failed, and with what error its caller was told."""

    begun_at: float
    failed_at: float
    error: Exception


@dataclass
class Load:
    """Threads that write and read without a pause, each write under an id of its own that nobody uses again."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    failed: dict[str, Failed] = field(default_factory=dict)
    reads: int = 0
    failed_reads: list[Exception] = field(default_factory=list)
    stopping: bool = False
    threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Load:
        account = Account.objects.create(owner="shared").pk
        for number in range(WRITERS):
            self.threads.append(threading.Thread(target=self._write, args=(number, account)))
        self.threads += [threading.Thread(target=self._read) for _ in range(READERS)]
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stopping = True
        for thread in self.threads:
            thread.join()

    def _write(self, number: int, account: int) -> None:
        kinds = itertools.cycle([plain, named, in_pairs, under_a_lock])
        for count in itertools.count():
            if self.stopping:
                break
            kind = next(kinds)
            name, begun_at = f"{kind.__name__} {number} {count}", time.monotonic()
            try:
                kind(name, account)
            except Error as error:
                self.failed[name] = Failed(begun_at, time.monotonic(), error)
                time.sleep(0.005)
            else:
                self.acknowledged[name] = time.monotonic()
        connections.close_all()

    def _read(self) -> None:
        while not self.stopping:
            try:
                Item.objects.filter(name="nobody").exists()
                self.reads += 1
            except Error as error:
                self.failed_reads.append(error)
            # As at the end of a request: Django keeps a connection that was lost until then. Opens none.
            close_old_connections()
            time.sleep(0.002)
        connections.close_all()


def plain(name: str, account: int) -> None:
    Item.objects.create(name=name)


def named(name: str, account: int) -> None:
    Item.objects.using("default").create(name=name)


def in_pairs(name: str, account: int) -> None:
    with transaction.atomic():
        Item.objects.create(name=name)
        Item.objects.create(name=f"{name} again")


def under_a_lock(name: str, account: int) -> None:
    with transaction.atomic():
        Account.objects.select_for_update().get(pk=account)
        Account.objects.filter(pk=account).update(balance=F("balance") + 1)
        Item.objects.create(name=name)


def test_a_promotion_under_load(site: Cluster, database: str, changes: list[dict[str, Any]]):
    old, new = site.primary, site.replicas[0]
    with Load() as load:
        wait_until(lambda: len(load.acknowledged) > 100, SECONDS, "there is load")
        sure = set(load.acknowledged)
        site.wait_until_caught_up()
        killed_at = time.monotonic()
        old.kill()
        wait_until(lambda: len(load.failed) > WRITERS, SECONDS, "writes fail")
        site.promote(new)
        looked = {cluster_monitor.latest()["replica1"].asked_at}

        def is_found() -> bool:
            is_done = is_followed()
            looked.add(cluster_monitor.latest()["default" if is_done else "replica1"].asked_at)
            return is_done

        wait_until(is_found, SECONDS, "the promoted server is behind 'default'")
        followed_at = time.monotonic()
        done = len(load.acknowledged)
        wait_until(lambda: len(load.acknowledged) > done + 100, SECONDS, "writes come back")
        reads = load.reads
        wait_until(lambda: load.reads > reads + 20, SECONDS, "reads go on")
    # The look it was on when the promotion was done, and two more.
    assert len(looked) <= 3
    assert changes == [{"cluster": "default", "old": "default", "new": "replica1"}]
    assert {name: failed for name, failed in load.failed.items() if failed.begun_at > followed_at} == {}
    assert {name: failed for name, failed in load.failed.items() if failed.failed_at < killed_at} == {}
    # Also where a replica that had received more than the new primary was built anew, and connections to it were lost.
    assert load.failed_reads == []
    # What stands in the ledger, by the new primary's own account.
    rows = [name for (name,) in new.query("SELECT name FROM app_item", database)]
    assert len(rows) == len(set(rows))
    assert sure - set(rows) == set()
    late = {name for name, at in load.acknowledged.items() if at > followed_at}
    assert late - set(rows) == set()
    known = {name.removesuffix(" again") for name in rows}
    assert known - load.acknowledged.keys() - load.failed.keys() == set()
    # No transaction is there by half, whether its end was told or not.
    for name in known:
        assert not name.startswith("in_pairs") or {name, f"{name} again"} <= set(rows)
    locked = sum(name.startswith("under_a_lock") for name in rows)
    assert new.query("SELECT balance FROM app_account", database) == [(str(locked),)]


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_naive_after_a_promotion_under_load_no_write_comes_back(site: Cluster, database: str):
    naive = {"REPLICANT": {}, "DATABASE_ROUTERS": ["tests.naive.NaiveRouter"]}
    with use_databases(site.databases(database), **naive), Load() as load:
        wait_until(lambda: len(load.acknowledged) > 50, SECONDS, "there is load")
        site.primary.kill()
        wait_until(lambda: len(load.failed) > WRITERS, SECONDS, "writes fail")
        site.promote(site.replicas[0])
        promoted_at = time.monotonic()

        def failed_since() -> int:
            return sum(failed.begun_at > promoted_at for failed in list(load.failed.values()))

        wait_until(lambda: failed_since() > 10 * WRITERS, SECONDS, "writes go on failing")
    assert max(load.acknowledged.values()) < promoted_at


def test_the_old_primary_serves_behind_the_others_alias_once_it_replicates_again(site: Cluster):
    old, new = site.primary, site.replicas[0]
    # A session that was made read-only, and one that was made to write, with the servers as they were.
    assert port_of("replica1") == new.port
    assert port_of("default") == old.port
    old.kill()
    site.promote(new)
    follows()
    # The guard and the session's settings are those of the alias, whoever is behind it.
    item = Item.objects.create(name="after")
    assert port_of("default") == new.port
    becomes("replica1", "down")
    assert member("default")["state"] == "up"
    assert [member(alias)["server"] for alias in ("default", "replica1")] == ["replica1", "default"]
    # It comes back, and does not replicate: nothing is read from it, though it answers.
    old.restart()
    asked_at = cluster_monitor.latest()["replica1"].asked_at
    looked_at = iter(lambda: cluster_monitor.latest()["replica1"].asked_at, None)
    wait_until(lambda: next(looked_at) > asked_at + 4 * FAST * 1e9, SECONDS, "it was looked at again")
    assert member("replica1")["state"] == "down"
    site.rejoin(old)
    Item.objects.create(name="to be replicated")
    becomes("replica1", "up")
    site.wait_until_caught_up()
    assert port_of("replica1") == old.port
    with use_replica("replica1", stale_ok=True):
        assert Item.objects.get(pk=item.pk)._state.db == "replica1"
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="refused")


# On PostgreSQL what the open transactions log on the old primary makes its other replica diverge, and be built anew.
@pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)
def test_a_planned_change_ends_open_transactions_and_repeats_nothing(
    site: Cluster, database: str, changes: list[dict[str, Any]]
):
    # The monitor's account may only read, and so cannot ask who replicates.
    use_prober(site, database)
    new = site.replicas[0]
    with override_settings(REPLICANT=watching(FAST)):
        router.db_for_read(Item)
        wait_until(
            lambda: cluster_monitor.latest().keys() == {"default", "replica1", "replica2"}, SECONDS, "all are known"
        )
        created, followed = threading.Event(), threading.Event()
        outcome: list[BaseException] = []

        def commits_late() -> None:
            try:
                with transaction.atomic():
                    Item.objects.create(name="committed late")
                    created.set()
                    followed.wait(SECONDS)
            except DatabaseError as error:
                outcome.append(error)
            finally:
                connections.close_all()

        thread = threading.Thread(target=commits_late)
        with pytest.raises(DatabaseError), transaction.atomic():
            Item.objects.create(name="half")
            thread.start()
            created.wait(SECONDS)
            site.promote(new)
            follows()
            Item.objects.create(name="other half")
        followed.set()
        thread.join()
        assert len(outcome) == 1
        assert Item.objects.using("default").filter(name__in=["half", "other half", "committed late"]).count() == 0
        Item.objects.create(name="after")
        assert port_of("default") == new.port
        assert len(changes) == 1


def test_a_commit_is_not_sent_to_a_server_that_is_no_longer_the_primary(site: Cluster, database: str):
    old, new = site.primary, site.replicas[0]
    connections["default"].ensure_connection()
    with pytest.raises(OperationalError, match="has changed"), transaction.atomic():
        Item.objects.create(name="for the old one alone")
        # It is away for long enough to be replaced, and comes back as if nothing had happened.
        old.suspend()
        site.promote(new)
        follows()
        old.resume()
    assert old.query("SELECT name FROM app_item WHERE name = 'for the old one alone'", database) == []
    Item.objects.create(name="after")
    assert [name for (name,) in new.query("SELECT name FROM app_item", database)] == ["after"]


def test_a_statement_that_hangs_at_the_old_primary_ends_when_another_is_promoted(site: Cluster):
    old, new = site.primary, site.replicas[0]
    assert port_of("default") == old.port
    old.suspend()
    failed: list[Exception] = []
    # This thread's session is open; it is lent to the one that will hang.
    connection = connections["default"]
    connection.inc_thread_sharing()

    def write() -> None:
        connections["default"] = connection
        try:
            Item.objects.create(name="hangs")
        except Error as error:
            failed.append(error)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        site.promote(new)
        follows()
        thread.join(SECONDS)
        assert not thread.is_alive()
        assert len(failed) == 1
    finally:
        old.resume()
        thread.join()
        connection.dec_thread_sharing()
    Item.objects.create(name="after")
    assert port_of("default") == new.port


@pytest.mark.parametrize("cluster", ["mariadb"], indirect=True)
def test_while_two_members_take_writes_the_present_primary_stays(
    site: Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    old, new = site.primary, site.replicas[0]
    with caplog.at_level(logging.ERROR, "replicant"):
        new.become_primary()
        wait_until(lambda: "Several members" in caplog.text, SECONDS, "it is said loudly")
    assert not is_followed()
    Item.objects.create(name="stays")
    assert port_of("default") == old.port
    # Also when it takes no writes any more: the other one lacks what was written there, and it still answers.
    with caplog.at_level(logging.ERROR, "replicant"):
        old.fence()
        wait_until(lambda: "lacks writes of the present primary" in caplog.text, SECONDS, "it is said why")
    assert not is_followed()
    old.kill()
    follows()
    Item.objects.create(name="goes")
    assert port_of("default") == new.port
    # For the others: this one is promoted already.
    monkeypatch.setattr(new, "become_primary", lambda: None)
    monkeypatch.setattr(new, "reached", lambda position, timeout: True)
    site.promote(new)


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_an_old_primary_that_comes_back_writable_is_not_believed(site: Cluster, caplog: pytest.LogCaptureFixture):
    old, new = site.primary, site.replicas[0]
    old.kill()
    site.promote(new)
    follows()
    with caplog.at_level(logging.ERROR, "replicant"):
        old.restart()
        # As an init system leaves it that knows of no promotion.
        old.query("SET GLOBAL super_read_only = 0")
        old.query("SET GLOBAL read_only = 0")
        wait_until(lambda: "Several members" in caplog.text, SECONDS, "it is said loudly")
    assert is_followed()
    assert member("replica1")["state"] == "down"
    Item.objects.create(name="after")
    assert port_of("default") == new.port


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_a_process_that_starts_after_a_promotion_finds_the_primary_with_its_first_write(site: Cluster, database: str):
    databases = ours(site.databases(database))
    old, new = site.primary, site.replicas[0]
    old.kill()
    site.promote(new)
    script = (
        "import django; django.setup(); from replicant.connections import server_map; "
        # On a busy machine the monitor may take longer to find the primary than a site should wait.
        f"server_map._LONGEST_WAIT = {SECONDS}; "
        "from tests.app.models import Item; Item.objects.create(name='new process')"
    )
    run = [sys.executable, "-c", script]
    # With nobody to ask but the servers, of which one is dead, and later is a replica.
    cluster_monitor.stop(SECONDS)
    subprocess.run(run, env=environment(databases, FAST), check=True, timeout=SECONDS)
    site.rejoin(old)
    subprocess.run(run, env=environment(databases, FAST), check=True, timeout=SECONDS)
    assert len(new.query("SELECT name FROM app_item WHERE name = 'new process'", database)) == 2
