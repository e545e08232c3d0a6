"""A Celery application over the suite's models, and ``python -m tests.worker FOLDER BROKER``: a worker for it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from celery import Celery, Task
from celery.signals import after_task_publish

app = Celery("tests.worker", set_as_current=False)


def use_broker(folder: Path, sender: str) -> None:
    """Messages and results in files: nothing to install, and nothing listens.

    The transport creates a message where the worker looks, and then writes it; a worker that looks in between dies of
    an empty one. So each sender has a folder of its own, and what is complete is moved.
    """
    outbox, inbox = folder / sender, folder / "queue"

    def deliver(**kwargs: Any) -> None:
        for message in outbox.iterdir():
            message.rename(inbox / message.name)

    after_task_publish.connect(deliver, weak=False, dispatch_uid="tests.deliver")
    app.conf.update(
        broker_url="filesystem://",
        broker_transport_options={
            "data_folder_in": str(inbox),
            "data_folder_out": str(outbox),
            "control_folder": str(folder / "control"),
            "store_processed": False,
            "polling_interval": 0.02,
        },
        result_backend=f"file://{folder / 'results'}",
        task_default_queue="tests",
        worker_enable_remote_control=False,
        broker_connection_retry_on_startup=False,
    )
    for name in (sender, "queue", "control", "results"):
        (folder / name).mkdir(parents=True, exist_ok=True)


def _reason() -> str:
    from replicant import explain
    from tests.app.models import Item

    return explain(Item).reason or ""


@app.task(name="look", bind=True)
def look(self: Task, *args: Any) -> tuple[str, list[str]]:
    """Where this task would read, and what it finds there."""
    from tests.app.models import Item

    return _reason(), [item.name for item in Item.objects.order_by("pk")]


@app.task(name="write")
def write(name: str) -> str:
    from tests.app.models import Item

    Item.objects.create(name=name)
    return _reason()


@app.task(name="look_again", bind=True, max_retries=2)
def look_again(self: Task) -> tuple[int, str]:
    """What it sees in its third attempt."""
    if self.request.retries < 2:
        raise self.retry(countdown=0)
    return self.request.retries, _reason()


@app.task(name="write_and_try_again", bind=True, max_retries=1)
def write_and_try_again(self: Task) -> str:
    if self.request.retries == 0:
        write("in the first attempt")
        raise self.retry(countdown=0)
    return _reason()


@app.task(name="fail")
def fail() -> None:
    write("before it failed")
    raise ValueError("as it should")


def main(folder: str, broker: str) -> None:
    from django.conf import settings

    from tests import settings as defaults
    from tests.databases import TWO_REPLICAS, sqlite

    found = {name: getattr(defaults, name) for name in dir(defaults) if name.isupper()}
    found["INSTALLED_APPS"] = [*defaults.INSTALLED_APPS, "replicant.contrib.celery"]
    found["DATABASES"] = sqlite(Path(folder), "default", "replica1", "replica2")
    settings.configure(**found, REPLICANT=TWO_REPLICAS)
    import django

    django.setup()
    use_broker(Path(broker), "worker")
    app.worker_main(["worker", "--pool=prefork", "--concurrency=1", "--loglevel=WARNING", "--without-gossip"])


if __name__ == "__main__":
    # Not what runs as __main__: its tasks would be another application's.
    from tests import worker

    worker.main(*sys.argv[1:])
