"""A queue in a folder: no server, no network."""

from __future__ import annotations

from pathlib import Path

from celery import Celery


def queue_in(folder: Path, outgoing: str = "queue") -> Celery:
    """What sends should name another folder: a message in the queue may be read before it is written to its end."""
    app = Celery("tests.workers.tasks", broker="filesystem://localhost")
    for name in ("queue", "control", outgoing):
        (folder / name).mkdir(exist_ok=True)
    app.conf.broker_transport_options = {
        "data_folder_in": str(folder / "queue"),
        "data_folder_out": str(folder / outgoing),
        "control_folder": str(folder / "control"),
        "polling_interval": 0.01,
    }
    app.conf.worker_prefetch_multiplier = 1
    app.conf.broker_connection_retry_on_startup = True
    return app
