"""One view: it reads by way of the router. What its process hears of the servers is in ``report-<pid>.json``."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import django
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.urls import path

django.setup()

from replicant.engines import Sample  # noqa: E402
from replicant.monitor import cluster_monitor, watch  # noqa: E402
from tests.app.models import Item  # noqa: E402

folder = Path(os.environ["REPLICANT_TEST_FOLDER"])
#: When this process learned what: the time, the alias, when the server was asked, and the error; times in nanoseconds.
heard: list[tuple[int, str, int, str | None]] = []
#: When this process read for the first time.
began = 0


def forget() -> None:
    global began
    began = 0
    heard.clear()


os.register_at_fork(after_in_child=forget)


def hear(samples: Sequence[Sample]) -> None:
    heard.extend((time.monotonic_ns(), sample.alias, sample.asked_at, sample.error) for sample in samples)
    unfinished = folder / f"unfinished-{os.getpid()}"
    unfinished.write_text(json.dumps(report()))
    unfinished.rename(folder / f"report-{os.getpid()}.json")


watch.consumer = hear


def report() -> dict[str, Any]:
    watched = cluster_monitor._watches
    return {
        "pid": os.getpid(),
        "began": began,
        "heard": list(heard),
        "probes": cluster_monitor.probing(),
        "file": watched[0]._file_name if watched else None,
    }


def read() -> None:
    """Read by way of the router, and close what that opened."""
    global began
    began = began or time.monotonic_ns()
    Item.objects.count()
    connections.close_all()


def view(request: HttpRequest) -> HttpResponse:
    read()
    return HttpResponse(str(os.getpid()))


urlpatterns = [path("", view)]
wsgi = get_wsgi_application()
asgi = get_asgi_application()
