"""Scopes under threads, tasks, greenlets and forks."""

from __future__ import annotations

import asyncio
import contextvars
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import router

from replicant import _core, explain, request_scope, use_primary, use_replica
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def reason() -> str | None:
    return explain(Item).reason


def test_a_new_thread_starts_with_no_scope():
    with use_primary(), ThreadPoolExecutor(1) as pool:
        assert pool.submit(reason).result() == "balanced"


def test_child_tasks_and_worker_threads_are_inside():
    async def main():
        with use_primary():
            assert await asyncio.create_task(sync_to_async(reason)()) == "use_primary"
            assert await asyncio.to_thread(reason) == "use_primary"
            assert await sync_to_async(async_to_sync(sync_to_async(reason)))() == "use_primary"
            assert await sync_to_async(reason, thread_sensitive=False)() == "use_primary"

    asyncio.run(main())
    with use_primary():
        assert async_to_sync(sync_to_async(reason))() == "use_primary"
    assert reason() == "balanced"


def test_a_scope_may_be_entered_and_left_in_worker_threads():
    async def main():
        scope = use_primary()
        await sync_to_async(scope.__enter__)()
        assert reason() == "use_primary"
        await sync_to_async(scope.__exit__)(None, None, None)
        assert reason() == "balanced"

    asyncio.run(main())


def test_a_choice_made_in_a_child_is_the_requests():
    async def main():
        async with request_scope():
            chosen = await asyncio.gather(*(asyncio.to_thread(router.db_for_read, Item) for _ in range(20)))
            assert len(set(chosen)) == 1
            assert router.db_for_read(Item) == chosen[0]

    asyncio.run(main())


def test_a_write_in_a_child_counts_for_the_request():
    async def main():
        async with request_scope():
            await asyncio.create_task(Item.objects.acreate(name="x"))
            assert reason() == "pinned"
        assert reason() == "balanced"

    asyncio.run(main())


def test_with_no_scope_a_task_remembers_its_own_writes():
    async def writer():
        await Item.objects.acreate(name="x")
        return reason()

    async def main():
        assert await asyncio.create_task(writer()) == "pinned"
        assert reason() == "balanced"
        assert await writer() == "pinned"
        assert reason() == "pinned"

    contextvars.Context().run(asyncio.run, main())


THREADS, DECISIONS = 200, 1000


def one_of_many(number: int) -> None:
    """A thousand decisions in nested scopes of one's own; none may show another's."""
    alias = f"replica{number % 2 + 1}"
    for step in range(DECISIONS // 5):
        with request_scope():
            sticky = router.db_for_read(Item)
            with use_replica(alias):
                assert router.db_for_read(Item) == alias
                if step % 7 == number % 7:
                    with use_primary():
                        assert router.db_for_read(Item) == "default"
                else:
                    assert router.db_for_read(Item) == alias
                assert router.db_for_read(Item) == alias
            assert router.db_for_read(Item) == sticky
    assert _core.scope_variable.get(None) is None


def test_200_threads_see_no_others_scope():
    failures = []

    def run(number):
        try:
            one_of_many(number)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_200_tasks_see_no_others_scope():
    async def one(number: int) -> None:
        alias = f"replica{number % 2 + 1}"
        for _ in range(DECISIONS // 5):
            async with request_scope():
                sticky = router.db_for_read(Item)
                async with use_replica(alias):
                    await asyncio.sleep(0)
                    assert router.db_for_read(Item) == alias
                    with use_primary():
                        await asyncio.sleep(0)
                        assert router.db_for_read(Item) == "default"
                    assert router.db_for_read(Item) == alias
                await asyncio.sleep(0)
                assert router.db_for_read(Item) == sticky

    async def main():
        await asyncio.gather(*(one(number) for number in range(THREADS)))
        assert _core.scope_variable.get(None) is None

    asyncio.run(main())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_forked_children_draw_differently_and_see_no_others_scope():
    _core.seed(1)
    pipes = []
    with use_replica("replica1"):
        for child in range(8):
            reading, writing = os.pipe()
            if os.fork() == 0:
                status = 1
                try:
                    assert reason() == "use_replica"
                    with use_primary():
                        for number in range(5):
                            contextvars.Context().run(one_of_many, number + child)
                    drawn = contextvars.Context().run(lambda: [router.db_for_read(Item)[-1] for _ in range(64)])
                    os.write(writing, "".join(drawn).encode())
                    status = 0
                finally:
                    os._exit(status)
            os.close(writing)
            pipes.append(reading)
    parents = "".join(router.db_for_read(Item)[-1] for _ in range(64))
    draws = {parents}
    for reading in pipes:
        with os.fdopen(reading, "rb") as pipe:
            draws.add(pipe.read().decode())
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
    # Nine sequences of 64 draws from two replicas: two are alike with probability 36 / 2^64.
    assert len(draws) == 9
    assert {len(sequence) for sequence in draws} == {64}


GEVENT = """
from gevent import monkey; monkey.patch_all()
import gevent, os, sys
os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
import django; django.setup()
from django.db import connections, router, transaction
from django.test import override_settings
connections.settings = connections.configure_settings({
    alias: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"} for alias in ("default", "replica1", "replica2")
})
from replicant import _core, explain, request_scope, use_primary, use_replica
from tests.app.models import Item

def one(number):
    alias = f"replica{number % 2 + 1}"
    for _ in range(50):
        with request_scope():
            sticky = router.db_for_read(Item)
            gevent.sleep(0)
            with use_replica(alias):
                gevent.sleep(0)
                assert router.db_for_read(Item) == alias
                if number % 3 == 0:
                    with transaction.atomic():
                        gevent.sleep(0)
                        assert explain(Item).reason == "transaction"
            gevent.sleep(0)
            assert router.db_for_read(Item) == sticky
    return True

with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"]}}):
    greenlets = [gevent.spawn(one, number) for number in range(100)]
    gevent.joinall(greenlets, raise_error=True)
    assert all(greenlet.value for greenlet in greenlets)
    print("lookup:", "public" if _core.public_lookup() else "private")
"""


def test_gevent():
    result = subprocess.run([sys.executable, "-c", GEVENT], capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 0, result.stderr
    assert "lookup:" in result.stdout
