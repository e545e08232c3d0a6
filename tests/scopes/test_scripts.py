"""Scripts, threads, tasks and management commands, which have no scope open, do not read backwards.

``site`` has replicas on SQLite that never catch up; the others are real servers, with Django's engines and with ours.
"""

from __future__ import annotations

import asyncio
import contextvars
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections, router
from django.test import override_settings

from replicant import _core, explain, request_scope, token, use_primary
from replicant.tracing import record_queries
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.scopes.new_context import elsewhere
from tests.servers import Cluster
from tests.servers.machine import wait_until

AMPLE = 15.0
BOTH = {"replica1", "replica2"}


def find_and_get() -> str:
    """``exists()`` and then ``get()``; where that was read, or which of them missed the row."""
    if not Item.objects.filter(name="late").exists():
        return "missing"
    return Item.objects.get(name="late")._state.db or ""


class Command(BaseCommand):
    """A management command that does what a test says."""

    requires_system_checks = ()

    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self.work = work
        self.result: Any = None

    def handle(self, *args: Any, **options: Any) -> None:
        self.result = self.work()


def in_command(work: Callable[[], Any]) -> Any:
    command = Command(work)
    call_command(command)
    return command.result


def in_task(work: Callable[[], Any]) -> Any:
    from asgiref.sync import sync_to_async

    async def task() -> Any:
        return await sync_to_async(work)()

    return asyncio.run(task())


KINDS = [elsewhere, in_task, lambda work: elsewhere(lambda: in_command(work))]


# Replicas that never catch up.


@pytest.fixture
def one_late(site: Path) -> Path:
    """replica1 has a row that replica2 lacks."""
    Item.objects.using("default").create(name="late")
    connections.close_all()
    shutil.copy(site / "default.sqlite3", site / "replica1.sqlite3")
    return site


@pytest.mark.usefixtures("one_late")
@pytest.mark.parametrize("kind", KINDS, ids=["thread", "task", "command"])
def test_what_was_found_is_found_again(kind: Callable[[Callable[[], Any]], Any]) -> None:
    found = Counter(contextvars.Context().run(kind, find_and_get) for _ in range(30))
    assert set(found) == {"missing", "replica1"}, found


@pytest.mark.usefixtures("one_late")
def test_threads_still_divide_their_reads_among_the_replicas() -> None:
    aliases = Counter(elsewhere(lambda: Item.objects.order_by("pk").first() is not None) for _ in range(30))
    assert set(aliases) == {True, False}


@pytest.mark.usefixtures("one_late")
def test_a_decision_that_reads_nothing_is_not_remembered() -> None:
    aliases = {router.db_for_read(Item) for _ in range(50)}
    assert aliases == BOTH


@pytest.mark.usefixtures("one_late")
def test_what_using_reads_is_not_remembered() -> None:
    def work() -> set[str]:
        assert not Item.objects.using("replica2").exists()
        return {router.db_for_read(Item) for _ in range(50)}

    assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_what_a_scope_reads_is_its_own() -> None:
    def work() -> set[str]:
        with request_scope():
            Item.objects.exists()
        with use_primary():
            Item.objects.exists()
        return {router.db_for_read(Item) for _ in range(50)}

    assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_a_scope_that_is_opened_chooses_for_itself() -> None:
    def work() -> set[str]:
        Item.objects.exists()
        aliases = set()
        for _ in range(50):
            with request_scope():
                aliases.add(router.db_for_read(Item))
        return aliases

    assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_where_a_thread_read_is_told() -> None:
    def work() -> None:
        assert explain(Item).reason == "balanced"
        with record_queries() as queries:
            Item.objects.exists()
        assert explain(Item)[:2] == (queries[0].alias, "balanced")
        assert in_command(lambda: explain(Item)[:2]) == (queries[0].alias, "sticky")

    elsewhere(work)


@pytest.mark.usefixtures("one_late")
@pytest.mark.parametrize("keys", [{"STICKY": False}, {"CONSISTENCY": "eventual"}])
def test_whoever_gave_up_the_guarantee_gets_every_read_balanced(keys: dict[str, Any]) -> None:
    def work() -> set[str]:
        Item.objects.exists()
        return {router.db_for_read(Item) for _ in range(50)}

    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], **keys}}):
        assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_what_the_primary_shows_by_its_weight_is_found_again() -> None:
    def work() -> tuple[str, bool]:
        with record_queries() as queries:
            Item.objects.exists()
        return queries[0].alias, {router.db_for_read(Item) for _ in range(50)} == {"default"}

    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PRIMARY_WEIGHT": 1}}):
        assert {elsewhere(work) for _ in range(30)} == {("default", True), ("replica1", False)}


@pytest.mark.usefixtures("one_late")
def test_it_ends_by_time_where_there_are_no_positions() -> None:
    def work() -> set[str]:
        Item.objects.exists()
        return {router.db_for_read(Item) for _ in range(50)}

    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "PIN_SECONDS": 0}}):
        assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_a_replica_that_is_gone_leaves_the_thread_to_the_primary() -> None:
    def work() -> tuple[str | None, str | None]:
        Item.objects.exists()
        alias = explain(Item).alias
        assert alias is not None
        _core.set_state(alias, "down")
        try:
            return explain(Item)[:2]
        finally:
            _core.set_state(alias, "up")

    assert elsewhere(work) == ("default", "pinned")


# Commands.


@pytest.mark.usefixtures("one_late")
def test_a_command_reads_from_one_replica_as_soon_as_it_has_decided() -> None:
    def work() -> set[str]:
        return {router.db_for_read(Item) for _ in range(50)}

    assert all(len(elsewhere(lambda: in_command(work))) == 1 for _ in range(5))
    assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_after_a_command_a_decision_alone_is_not_remembered() -> None:
    def work() -> set[str]:
        in_command(lambda: in_command(lambda: None))
        return {router.db_for_read(Item) for _ in range(50)}

    assert elsewhere(work) == BOTH


@pytest.mark.usefixtures("one_late")
def test_a_command_follows_the_rule_for_reads_outside_of_requests() -> None:
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "OUTSIDE_REQUESTS": "primary"}}):
        assert elsewhere(lambda: in_command(lambda: explain(Item)[:2])) == ("default", "default")


@pytest.mark.usefixtures("one_late")
def test_what_a_command_wrote_the_code_around_it_reads() -> None:
    def work() -> str | None:
        in_command(lambda: Item.objects.create(name="written"))
        return explain(Item).reason

    assert elsewhere(work) == "pinned"


@pytest.mark.usefixtures("one_late")
def test_a_command_reads_what_the_code_around_it_wrote() -> None:
    def work() -> str | None:
        Item.objects.create(name="written")
        return in_command(lambda: explain(Item).reason)

    assert elsewhere(work) == "pinned"


@pytest.mark.usefixtures("one_late")
def test_a_command_in_a_request_belongs_to_the_request() -> None:
    def work() -> None:
        with request_scope():
            Item.objects.exists()
            here = explain(Item)
            assert in_command(lambda: explain(Item)) == here
            in_command(lambda: Item.objects.create(name="written"))
            assert explain(Item).reason == "pinned"
        assert explain(Item).reason == "balanced"

    elsewhere(work)


@pytest.mark.usefixtures("one_late")
def test_a_command_that_fails_ends_all_the_same() -> None:
    def work() -> set[str]:
        with pytest.raises(ZeroDivisionError):
            in_command(lambda: 1 / 0)
        return {router.db_for_read(Item) for _ in range(50)}

    assert elsewhere(work) == BOTH


def test_the_method_that_runs_commands_takes_what_it_took() -> None:
    import inspect

    execute = BaseCommand.execute
    assert hasattr(execute, "__wrapped__")
    assert str(inspect.signature(execute.__wrapped__)) == "(self, *args, **options)"


def test_a_task_remembers_for_itself(one_late: Path) -> None:
    """A task begins with what its parent has read; what the tasks read is their own."""

    async def read() -> str:
        await Item.objects.aexists()
        return str(explain(Item).alias)

    async def main() -> tuple[set[str], bool]:
        before = explain(Item).reason
        aliases = set(await asyncio.gather(*(read() for _ in range(30))))
        return aliases, before == explain(Item).reason == "balanced"

    assert asyncio.run(main()) == (BOTH, True)


# Real servers.


@pytest.fixture(params=["django", "replicant"])
def half(request: pytest.FixtureRequest, servers: Cluster, database: str) -> Iterator[Cluster]:
    """A cluster of which replica2 stands still before a row is written."""
    databases = servers.databases(database)
    chosen = ours(databases) if request.param == "replicant" else databases
    with use_databases(chosen, REPLICANT=watching(0.05, WAIT_SECONDS=0, MAX_LAG=None)):
        elsewhere(lambda: Item.objects.using("default").all().delete())
        servers.wait_until_caught_up()
        servers.replicas[1].pause_replication()
        elsewhere(lambda: Item.objects.create(name="late"))
        wait_until(
            lambda: elsewhere(lambda: Item.objects.using("replica1").exists()), AMPLE, "the first replica has the row"
        )
        yield servers
        servers.replicas[1].resume_replication()
        servers.wait_until_caught_up()


@pytest.mark.usefixtures("half")
@pytest.mark.parametrize("kind", KINDS, ids=["thread", "task", "command"])
def test_what_was_found_on_one_server_is_found_again(kind: Callable[[Callable[[], Any]], Any]) -> None:
    found = Counter(contextvars.Context().run(kind, find_and_get) for _ in range(30))
    assert found["missing"]
    # The primary, if the monitor has found meanwhile that a sample is newer than the read, and replica2 stays behind.
    assert set(found) - {"missing"} <= {"replica1", "default"}


def test_it_ends_when_every_replica_has_what_was_read(half: Cluster) -> None:
    def work() -> bool:
        if not Item.objects.filter(name="late").exists():
            return False
        assert {router.db_for_read(Item) for _ in range(20)} == {"replica1"}
        half.replicas[1].resume_replication()
        chosen: set[str] = set()

        def both() -> bool:
            chosen.add(router.db_for_read(Item))
            return chosen == BOTH

        wait_until(both, AMPLE, "both replicas serve the thread again")
        return True

    # Another thread, until one of them reads from the replica that has the row.
    wait_until(lambda: elsewhere(work), AMPLE, "a thread has found the row")


def test_a_token_carries_what_a_thread_has_read(half: Cluster) -> None:
    def work() -> str:
        Item.objects.exists()
        return token()

    assert elsewhere(work)
