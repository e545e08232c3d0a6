"""What the middleware costs a request that wrote nothing and brought no token.

``python -m tests.benchmarks middleware``

The same requests through Django's handler with no middleware and with ours, in turn, a few at a time, so that whatever
else the machine does falls on both; the difference of the medians. Nothing in the view touches a database.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
import time
from collections.abc import Callable

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.test import RequestFactory
from django.test.utils import override_settings

from replicant.middleware import ReplicaMiddleware

#: In microseconds: what a request may cost.
LIMIT = 30.0
_REQUESTS = 50
#: As a browser sends them: none of them is ours.
_COOKIES = "sessionid=9k2m1x0v5q8w7e6r4t3y2u1i; csrftoken=0a9s8d7f6g5h4j3k2l1z; _ga=GA1.2.1234567890.1234567890"


def _view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


async def _async_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok")


def _time(respond: Callable[[HttpRequest], object], requests: list[HttpRequest]) -> float:
    start = time.perf_counter_ns()
    for request in requests:
        respond(request)
    return (time.perf_counter_ns() - start) / len(requests) / 1000


async def _time_async(respond: Callable[[HttpRequest], object], requests: list[HttpRequest]) -> float:
    start = time.perf_counter_ns()
    for request in requests:
        await respond(request)  # type: ignore[misc]
    return (time.perf_counter_ns() - start) / len(requests) / 1000


def _requests() -> list[HttpRequest]:
    return [RequestFactory().get("/", HTTP_COOKIE=_COOKIES) for _ in range(_REQUESTS)]


def measure(rounds: int) -> dict[str, float]:
    """Microseconds that the middleware adds, by kind of server."""
    inner, ours = _view, ReplicaMiddleware(_view)
    async_inner, async_ours = _async_view, ReplicaMiddleware(_async_view)
    times: dict[str, list[tuple[float, float]]] = {"sync": [], "async": []}

    async def measure_async() -> None:
        for _ in range(rounds):
            bare = await _time_async(async_inner, _requests())
            times["async"].append((bare, await _time_async(async_ours, _requests())))

    gc.collect()
    gc.disable()
    try:
        for _ in range(rounds):
            bare = _time(inner, _requests())
            times["sync"].append((bare, _time(ours, _requests())))
        asyncio.run(measure_async())
    finally:
        gc.enable()
    return {
        kind: statistics.median(with_ours for _, with_ours in pairs) - statistics.median(bare for bare, _ in pairs)
        for kind, pairs in times.items()
    }


def measure_stores(rounds: int) -> dict[str, float]:
    """The same with each store of tokens."""
    found = {}
    for store in ("cookie", "header", "cache", None):
        replicas = {"default": {"REPLICAS": []}}
        with override_settings(
            REPLICANT_TOKEN={"STORE": store}, REPLICANT=replicas, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]
        ):
            assert settings.REPLICANT
            found |= {f"{store}, {kind}": added for kind, added in measure(rounds).items()}
    return found
