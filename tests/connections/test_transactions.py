"""How the router finds out whether this thread's connection is in a transaction."""

from __future__ import annotations

import asyncio

import pytest
from django.db import connection, connections, transaction

from replicant import _core, explain
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def reason() -> str | None:
    return explain(Item).reason


@pytest.mark.parametrize("public", [False, True])
def test_the_lookup_of_connections_agrees_with_djangos_own(public: bool):
    explain(Item)
    _core.public_lookup(public)
    explain(Item)
    assert _core.public_lookup() is public
    told = _core.in_transaction

    assert not told("default")
    connection.ensure_connection()
    assert not told("default")
    with transaction.atomic():
        assert told("default")
        with transaction.atomic(savepoint=False):
            assert told("default")
        assert told("default")
        connection.close()
        assert told("default")
    assert not told("default")
    with transaction.atomic(durable=True):
        assert told("default")
    transaction.set_autocommit(False)
    assert told("default")
    transaction.set_autocommit(True)
    assert not told("default")
    transaction.set_autocommit(False)
    connection.close()
    assert not told("default")
    connection.ensure_connection()
    assert not told("default")
    connection.close()
    del connections["default"]
    assert not told("default")
    with transaction.atomic("replica1"):
        assert not told("default")
        assert told("replica1")
    connections["replica1"].close()
    _core.public_lookup(False)


def test_in_a_thread_with_an_event_loop_the_right_connection_is_asked(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("DJANGO_ALLOW_ASYNC_UNSAFE", "true")
    explain(Item)
    connection.ensure_connection()

    async def main():
        # A connection of this task's own, beside the one the thread had before the loop.
        assert not _core.in_transaction("default")
        with transaction.atomic():
            assert _core.in_transaction("default")
            assert reason() == "transaction"
        assert not _core.in_transaction("default")
        connection.close()

    asyncio.run(main())
    assert not _core.in_transaction("default")


def test_async_code_reads_from_replicas_outside_of_its_threads_transactions():
    async def main():
        assert (await Item.objects.afirst()) is None
        assert reason() == "balanced"

    asyncio.run(main())


def test_the_transaction_of_djangos_test_case_is_not_the_users():
    testcase = transaction.atomic()
    testcase._from_testcase = True
    with testcase:
        assert reason() == "balanced"
        with transaction.atomic():
            assert reason() == "transaction"
        assert reason() == "balanced"
