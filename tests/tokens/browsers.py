"""A site with pages that read, write, stream and log in, and browsers that visit it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import aget_user, alogin, get_user, login, logout
from django.contrib.auth.models import User
from django.core.cache import cache, caches
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path
from django.views.decorators.cache import cache_page

from tests.app import urls, views
from tests.app.models import Item
from tests.app.views import where
from tests.browser import carries_token

OURS = "replicant.middleware.ReplicaMiddleware"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}


def write_and_fail(request: HttpRequest) -> HttpResponse:
    views.write(request)
    raise ValueError("after the write")


def write_and_stream(request: HttpRequest) -> StreamingHttpResponse:
    Item.objects.create(name="before the headers")
    return views.named_stream(request, "after the headers")


def page(request: HttpRequest) -> HttpResponse:
    """A page that may be cached; ``?write`` writes."""
    if "write" in request.GET:
        Item.objects.create(name="written")
    return HttpResponse(f"{where()}{time.monotonic_ns()}")


def log_in(request: HttpRequest, name: str) -> HttpResponse:
    login(request, User.objects.using("default").get(username=name))
    return HttpResponse(where())


def log_out(request: HttpRequest) -> HttpResponse:
    Item.objects.create(name="written")
    logout(request)
    return HttpResponse(where())


def who(request: HttpRequest) -> HttpResponse:
    return HttpResponse(get_user(request).get_username())


async def async_log_in(request: HttpRequest, name: str) -> HttpResponse:
    await alogin(request, await User.objects.using("default").aget(username=name))
    return HttpResponse(where())


async def async_who(request: HttpRequest) -> HttpResponse:
    return HttpResponse((await aget_user(request)).get_username())


urlpatterns = [
    *urls.urlpatterns,
    path("write/fail/", write_and_fail),
    path("write/stream/", write_and_stream),
    path("page/", page),
    path("page/cached/", cache_page(60)(page)),
    path("login/<str:name>/", log_in),
    path("logout/", log_out),
    path("who/", who),
    path("async/login/<str:name>/", async_log_in),
    path("async/who/", async_who),
]


class Visitor:
    """A browser: keeps its cookies. Talks to a synchronous or an asynchronous server."""

    def __init__(self, is_async: bool = False) -> None:
        self.is_async = is_async
        self.client: Any = (AsyncClient if is_async else Client)(raise_request_exception=False)

    def request(self, path: str, method: str = "get", **extra: Any) -> Any:
        if not self.is_async:
            return getattr(self.client, method)(path, **extra)
        return asyncio.run(getattr(self.client, method)(path, **extra))

    def get(self, path: str, **extra: Any) -> Any:
        return self.request(path, **extra)

    def reason(self, path: str = "read/", **extra: Any) -> str:
        """The reason for the route of the page's first read."""
        prefix = "/async/" if self.is_async else "/"
        return self.get(prefix + path, **extra).content.decode().split()[1]


@pytest.fixture(autouse=True)
def _site(site):
    with override_settings(ROOT_URLCONF=__name__, CACHES=CACHES, ALLOWED_HOSTS=["testserver"]):
        yield
        caches["default"].clear()


@pytest.fixture(params=[False, True], ids=["sync", "async"])
def visitor(request: pytest.FixtureRequest) -> Callable[[], Visitor]:
    """Makes visitors."""
    return lambda: Visitor(request.param)


def stores(store: str | None, **keys: Any) -> Any:
    return override_settings(REPLICANT_TOKEN={"STORE": store, **keys})


def keys() -> list[str]:
    """The keys in the cache, without prefix and version."""
    return [key.split(":", 2)[2] for key in list(cache._cache)]


@pytest.fixture
def quick_pins():
    """Two replicas, and pins that are soon over."""
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "PIN_SECONDS": 0.5}}):
        yield


def read_until_it_is_over(client: Visitor, path: str = "/read/") -> Any:
    """Read again and again, as a page that polls does, until its token asks for nothing; returns the last response."""
    deadline = time.monotonic() + 20
    while True:
        response = client.get(path)
        assert not carries_token(response) or "private" in response["Cache-Control"]
        if not carries_token(response) and (path != "/read/" or not response.content.startswith(b"default")):
            return response
        assert time.monotonic() < deadline
