"""Tasks see what their senders wrote: through a real worker, and in the sender's own process."""

from __future__ import annotations

import contextvars
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery import chain, chord, signals
from django.apps import apps
from django.conf import settings
from django.db import transaction
from django.test import override_settings

import replicant.contrib.celery
from replicant import explain, request_scope, tokens, use_primary
from tests import worker
from tests.app.models import Item
from tests.databases import sqlite, use_databases

#: Seconds. A worker starts in two or three.
PATIENCE = 60
HEADER = replicant.contrib.celery.HEADER


@pytest.fixture(scope="module")
def running(template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A worker with one child process, and the databases it shares with this one."""
    folder, broker = tmp_path_factory.mktemp("databases"), tmp_path_factory.mktemp("broker")
    shutil.copytree(template, folder, dirs_exist_ok=True)
    worker.use_broker(broker, "tests")
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "tests.worker", str(folder), str(broker)],
        cwd=Path(__file__).parents[2],
    )
    try:
        yield sqlite(folder, "default", "replica1", "replica2", "other")
    finally:
        process.terminate()
        try:
            process.wait(PATIENCE)
        finally:
            process.kill()


@pytest.fixture
def queue(running: dict[str, Any]) -> Iterator[None]:
    with use_databases(running):
        yield
        # In a context of its own: this thread must not remember that it wrote.
        contextvars.Context().run(Item.objects.using("default").all().delete)


def in_request(function: Callable[[], Any]) -> Any:
    """Call it in a request of which this thread remembers nothing afterwards."""

    def call() -> Any:
        with request_scope():
            return function()

    return contextvars.Context().run(call)


def result(sent: Any) -> Any:
    return sent.get(timeout=PATIENCE, interval=0.02)


def headers_of(send: Callable[[], Any]) -> dict[str, Any]:
    """The headers of the message that is sent."""
    seen: list[dict[str, Any]] = []

    def note(*, headers: dict[str, Any], **kwargs: Any) -> None:
        seen.append(headers)

    signals.after_task_publish.connect(note)
    try:
        send()
    finally:
        signals.after_task_publish.disconnect(note)
    return seen[-1]


def test_a_task_sees_what_its_sender_wrote(queue):
    def send():
        Item.objects.create(name="written")
        return worker.look.delay()

    assert result(in_request(send)) == ["pinned", ["written"]]


def test_a_task_whose_sender_wrote_nothing_reads_from_a_replica_and_carries_nothing(queue):
    assert HEADER not in in_request(lambda: headers_of(worker.look.delay))
    assert result(in_request(worker.look.delay))[0] == "balanced"


def test_one_task_leaves_nothing_to_the_next_in_the_same_process(queue):
    def send():
        Item.objects.create(name="written")
        return worker.look.delay()

    assert result(in_request(send))[0] == "pinned"
    assert result(in_request(lambda: worker.write.delay("in a task"))) == "pinned"
    with pytest.raises(ValueError, match="as it should"):
        result(in_request(worker.fail.delay))
    assert result(in_request(worker.look.delay)) == ["balanced", []]


def test_a_task_knows_what_it_wrote_in_an_attempt_before(queue):
    assert result(in_request(worker.write_and_try_again.delay)) == "pinned"


def test_retries_remember_what_the_sender_wrote(queue):
    def send():
        Item.objects.create(name="written")
        return worker.look_again.delay()

    assert result(in_request(send)) == [2, "pinned"]
    assert result(in_request(worker.look_again.delay)) == [2, "balanced"]


def test_the_next_link_of_a_chain_sees_what_the_one_before_wrote(queue):
    def send():
        return chain(worker.write.si("first link"), worker.look.si())()

    assert result(in_request(send)) == ["pinned", ["first link"]]


def test_the_last_link_of_a_chain_sees_what_its_sender_wrote(queue):
    def send():
        Item.objects.create(name="written")
        return chain(worker.look.si(), worker.look.si(), worker.look.si())()

    assert result(in_request(send)) == ["pinned", ["written"]]


def test_a_link_of_a_task_sees_what_it_wrote(queue):
    def send():
        follower = worker.look.si().set(task_id="follower")
        worker.write.apply_async(["linked"], link=follower)
        return worker.app.AsyncResult("follower")

    assert result(in_request(send)) == ["pinned", ["linked"]]


def test_a_task_sent_on_commit_sees_what_was_committed(queue):
    sent = []

    def send():
        with transaction.atomic():
            Item.objects.create(name="committed")
            transaction.on_commit(lambda: sent.append(worker.look.delay()))

    in_request(send)
    assert result(sent[0]) == ["pinned", ["committed"]]


def test_a_task_sent_inside_a_transaction_reads_from_the_primary(queue):
    def send():
        with transaction.atomic():
            Item.objects.create(name="not yet committed")
            headers = headers_of(lambda: sent.append(worker.look.delay()))
            # It may run before the commit, and then sees nothing: but where it would be.
            assert result(sent[0]) == ["pinned", []]
        return headers

    sent: list[Any] = []
    (required,) = tokens.decode(in_request(send)[HEADER])
    assert required.unpublished


def test_a_header_that_was_not_made_here_is_ignored(queue):
    for header in ("nonsense", "x" * 5000, 7, None):
        assert result(in_request(lambda header=header: worker.look.apply_async(headers={HEADER: header}))) == [
            "balanced",
            [],
        ]


def test_a_sender_may_choose_the_token_itself(queue):
    def write():
        Item.objects.create(name="elsewhere")
        return replicant.token()

    sent = in_request(write)
    assert result(in_request(lambda: worker.look.apply_async(headers={HEADER: sent}))) == ["pinned", ["elsewhere"]]


# In the sender's own process.


@pytest.fixture
def eager(site: Path) -> Iterator[None]:
    worker.app.conf.task_always_eager = True
    yield
    worker.app.conf.task_always_eager = False


def test_an_eager_task_runs_in_its_callers_scope(eager):
    def call():
        assert worker.look.delay().get()[0] == "balanced"
        with use_primary():
            assert worker.look.delay().get()[0] == "use_primary"
        assert worker.write.delay("eagerly").get() == "pinned"
        assert worker.look.delay().get() == ("pinned", ["eagerly"])
        return explain(Item).reason

    assert in_request(call) == "pinned"
    assert explain(Item).reason == "balanced"


def test_an_eager_task_that_is_retried_or_chained(eager):
    def call():
        assert worker.look_again.delay().get() == (2, "balanced")
        assert chain(worker.write.si("first link"), worker.look.si())().get() == ("pinned", ["first link"])
        return chord([worker.look.si()])(worker.look.si()).get()

    assert in_request(call) == ("pinned", ["first link"])


def test_calling_a_task_is_calling_a_function(site):
    def call():
        worker.write("called")
        return worker.look()

    assert in_request(call) == ("pinned", ["called"])


@pytest.mark.slow
def test_the_app_needs_no_more_than_a_line_in_the_settings(site):
    with override_settings(INSTALLED_APPS=[*settings.INSTALLED_APPS, "replicant.contrib.celery"]):
        assert apps.get_app_config("celery").name == "replicant.contrib.celery"
