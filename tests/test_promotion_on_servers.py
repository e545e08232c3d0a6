"""A primary dies or steps down, another one is promoted: on real servers, under load."""

from __future__ import annotations

import contextlib
import itertools
import logging
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from django.db import DatabaseError, OperationalError, connections, transaction
from django.db.models import F
from django.db.utils import Error
from django.test import override_settings

from replicant import ReplicaWriteError, monitor, placement, status, use_replica
from replicant.signals import primary_changed
from tests.app.models import Account, Item
from tests.databases import use_databases
from tests.monitoring import environment, watching
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until
from tests.test_engines import ours

FAST, SECONDS = 0.1, 20.0
WRITERS, READERS = 6, 2


@pytest.fixture
def site(servers: Cluster, database: str) -> Iterator[Cluster]:
    """The servers behind our engines, watched, and put in order again."""
    with use_databases(ours(servers.databases(database)), REPLICANT=watching(FAST)):
        Item.objects.all().delete()
        Account.objects.all().delete()
        servers.wait_until_caught_up()
        wait_until(lambda: len(monitor.latest()) == 3, SECONDS, "all are known")
        yield servers
        monitor.stop()
        _forget_threads_connections()
    for node in servers.nodes:
        if node.suspended:
            node.resume()
        if node.role == "former":
            servers.rejoin(node)


def _forget_threads_connections() -> None:
    connections.close_all()


@pytest.fixture
def changes() -> Iterator[list[dict[str, Any]]]:
    """What ``primary_changed`` said."""
    heard: list[dict[str, Any]] = []

    def hear(*, sender: object, signal: object, **kwargs: Any) -> None:
        heard.append(kwargs)

    primary_changed.connect(hear)
    yield heard
    primary_changed.disconnect(hear)


def member(alias: str) -> dict[str, Any]:
    (found,) = [each for each in status()["clusters"]["default"]["members"] if each["alias"] == alias]
    return found


def port_of(alias: str) -> int:
    """Which server a connection reaches, by its own account."""
    sql = "SELECT inet_server_port()" if connections[alias].vendor == "postgresql" else "SELECT @@port"
    with connections[alias].cursor() as cursor:
        cursor.execute(sql)
        return int(cursor.fetchone()[0])


def is_followed(server: str = "replica1") -> bool:
    return placement.server_of("default") == server


def follows(server: str = "replica1") -> None:
    wait_until(lambda: is_followed(server), SECONDS, f"the server of {server} is behind 'default'")


def becomes(alias: str, state: str) -> None:
    wait_until(lambda: member(alias)["state"] == state, SECONDS, f"{alias} is {state}")


@dataclass
class Load:
    """Threads that write and read without a pause, each write under an id of its own that nobody uses again."""

    acknowledged: dict[str, float] = field(default_factory=dict)
    #: When each was begun, and the error that its caller saw.
    failed: dict[str, tuple[float, Exception]] = field(default_factory=dict)
    failed_reads: list[Exception] = field(default_factory=list)
    reads: int = 0
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
                self.failed[name] = (begun_at, error)
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
    settings = site.databases(database)
    old, new = site.primary, site.replicas[0]
    with Load() as load:
        wait_until(lambda: len(load.acknowledged) > 100, SECONDS, "there is load")
        sure = set(load.acknowledged)
        site.wait_until_caught_up()
        killed_at = time.monotonic()
        old.kill()
        wait_until(lambda: len(load.failed) > WRITERS, SECONDS, "writes fail")
        site.promote(new)
        looked = {monitor.latest()["replica1"].asked_at}

        def is_found() -> bool:
            is_done = is_followed()
            looked.add(monitor.latest()["default" if is_done else "replica1"].asked_at)
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
    assert [name for name, (begun_at, _) in load.failed.items() if begun_at > followed_at] == []
    assert min(begun_at for begun_at, _ in load.failed.values()) > killed_at - SECONDS
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
    # Who does not follow has been failing ever since, and will.
    with use_databases(settings, REPLICANT=watching(FAST)), pytest.raises(OperationalError):
        Item.objects.create(name="naive")
