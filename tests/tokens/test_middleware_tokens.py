"""What a client wrote, its next request sees: by cookie, by header and by user."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import aget_user, alogin, get_user, login, logout
from django.contrib.auth.models import User
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.db import InterfaceError, connections, transaction
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext
from django.urls import path
from django.views.decorators.cache import cache_page

from replicant import _core, tokens
from replicant._core import Position
from replicant.connections import causality
from replicant.middleware import ReplicaMiddleware
from tests.app import urls, views
from tests.app.models import Item
from tests.app.views import where
from tests.browser import HEADER, NAME, carries_token, deleted_by, held, set_by

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}


# Views.


def write_and_fail(request: HttpRequest) -> HttpResponse:
    views.write(request)
    raise ValueError("after the write")


def write_and_stream(request: HttpRequest) -> StreamingHttpResponse:
    Item.objects.create(name="before the headers")
    return views.named_stream(request, "after the headers")


def page(request: HttpRequest) -> HttpResponse:
    """Cached by whoever caches; ``?write`` writes."""
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
        """Why its first read went where it did."""
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


# The cookie.


def test_who_only_reads_gets_no_cookie_and_pages_that_any_cache_may_keep(visitor):
    anyone = visitor()
    for url in ("/read/", "/async/read/"):
        response = anyone.get(url)
        assert not response.cookies
        assert not {"Vary", "Cache-Control"} & set(response.headers)


def test_what_the_code_around_a_request_has_written_and_not_committed_is_not_the_requests():
    """Django's TestCase writes in a transaction that is open around each request."""
    with transaction.atomic():
        Item.objects.create(name="x")
        response = Client().get("/page/")
        assert not carries_token(response)
        assert not response.has_header("Cache-Control")


@pytest.mark.parametrize("error", [InterfaceError("connection already closed"), ValueError("no position")])
def test_a_primary_that_cannot_be_asked_costs_no_response(monkeypatch: pytest.MonkeyPatch, error: Exception):
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr("replicant.engines.sqlite.ask_position", fail)
    assert causality.ask("default") is None
    monkeypatch.setattr("replicant.engines.sqlite.wait", fail)
    assert causality.wait("replica1", Position("postgresql", "1:0/1"), 0.0) is None


def test_what_a_client_wrote_its_next_request_sees(visitor):
    writer, other = visitor(), visitor()
    for url in ("/write/", "/async/write/"):
        assert set_by(writer.get(url))
    assert writer.reason() == "pinned"
    assert other.reason() == "balanced"


def test_the_response_that_carries_a_token_is_for_its_client_alone(visitor):
    response = visitor().get("/write/")
    assert response["Cache-Control"] == "private"
    assert response["Vary"] == "Cookie"
    (morsel,) = set_by(response).values()
    assert (morsel["httponly"], morsel["samesite"], morsel["max-age"], morsel["path"], morsel["domain"]) == (
        True,
        "Lax",
        60,
        "/",
        "",
    )
    assert not morsel["secure"]


def test_the_cookie_is_secure_if_the_request_is():
    def is_secure(secure: bool) -> bool:
        (morsel,) = set_by(Client().get("/write/", secure=secure)).values()
        return bool(morsel["secure"])

    assert is_secure(True)
    for secure in (True, False):
        with stores("cookie", SECURE=secure):
            assert is_secure(not secure) is secure


def test_the_cookie_is_as_the_settings_say():
    keys = {"NAME": "position", "DOMAIN": "fans.example", "PATH": "/boards/", "SAMESITE": "Strict", "MAX_AGE": 30}
    with stores("cookie", **keys):
        client = Client()
        (morsel,) = set_by(client.get("/write/"), "position").values()
        again = client.get("/write/", headers={"Cookie": f"{morsel.key}={morsel.value}"})
    assert [morsel[key] for key in ("domain", "path", "samesite", "max-age")] == [
        "fans.example",
        "/boards/",
        "Strict",
        30,
    ]
    # A browser deletes only the cookie of the same domain and path.
    (gone,) = deleted_by(again, "position")
    morsel = again.cookies[gone]
    assert [morsel[key] for key in ("domain", "path", "max-age")] == ["fans.example", "/boards/", 0]


def test_a_young_token_that_says_all_is_left_alone_and_expires_by_itself(visitor):
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PIN_SECONDS": 1.0}}):
        client = visitor()
        client.get("/write/")
        response = client.get("/read/")
        assert response.content.split()[1] == b"pinned"
        assert not response.cookies
        assert not {"Vary", "Cache-Control"} & set(response.headers)
        deadline = time.monotonic() + 10
        while client.reason() == "pinned":
            assert time.monotonic() < deadline
        response = client.get("/read/")
        assert not response.cookies
        assert not {"Vary", "Cache-Control"} & set(response.headers)


def test_an_old_token_that_is_still_needed_is_renewed(visitor, monkeypatch: pytest.MonkeyPatch):
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PIN_SECONDS": 100.0}}):
        client = visitor()
        client.get("/write/")
        (first,) = held(client.client)
        now = tokens._ticks() or 0
        monkeypatch.setattr(tokens, "_ticks", lambda: now + 29_000)
        assert not carries_token(client.get("/read/"))
        monkeypatch.setattr(tokens, "_ticks", lambda: now + 31_000)
        response = client.get("/read/")
        assert set_by(response)
        assert deleted_by(response) == {first}
        assert response["Cache-Control"] == "private"
        monkeypatch.setattr(tokens, "_ticks", lambda: now + 32_000)
        assert not carries_token(client.get("/read/"))


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


@pytest.mark.usefixtures("quick_pins")
def test_a_token_ends_though_its_client_never_stops_reading(visitor):
    client = visitor()
    client.get("/write/")
    response = read_until_it_is_over(client)
    assert not {"Vary", "Cache-Control"} & set(response.headers)
    # The client holds its last one until that expires, and stays where it read; it holds none that is older.
    last = held(client.client)
    aliases = {client.get("/read/").content.split()[0] for _ in range(20)}
    assert aliases == {response.content.split()[0]}
    assert aliases < {b"replica1", b"replica2"}
    assert held(client.client) == last


@pytest.mark.usefixtures("quick_pins")
def test_a_member_that_stops_serving_has_its_clients_token_moved_on(visitor):
    client = visitor()
    client.get("/write/")
    alias = read_until_it_is_over(client).content.split()[0].decode()
    _core.set_state(alias, "down")
    try:
        response = client.get("/read/")
        # What it showed until now the other one may lack.
        assert response.content.split()[:2] == [b"default", b"pinned"]
        assert carries_token(response)
        deadline = time.monotonic() + 10
        while (elsewhere := client.get("/read/").content.split()[0].decode()) == "default":
            assert time.monotonic() < deadline
        assert elsewhere != alias
        read_until_it_is_over(client)
    finally:
        _core.set_state(alias, "up")
    assert {client.get("/read/").content.split()[0].decode() for _ in range(20)} == {elsewhere}


@pytest.mark.parametrize("method", ["post", "put", "delete"])
def test_requests_that_may_write_carry_a_token_only_if_they_did(visitor, method: str):
    assert not carries_token(visitor().request("/read/", method))
    assert carries_token(visitor().request("/write/", method))


def test_a_view_that_wrote_and_then_failed_tells_its_client(visitor):
    client = visitor()
    response = client.get("/write/fail/")
    assert response.status_code == 500
    assert carries_token(response)
    assert client.reason() == "pinned"


def test_a_streams_token_covers_what_happened_before_its_headers_left():
    client = Client()
    response = client.get("/stream/x/")
    assert not carries_token(response)
    assert b"default pinned\n" in b"".join(response.streaming_content)
    response.close()
    response = client.get("/write/stream/")
    assert carries_token(response)
    response.close()


@pytest.mark.parametrize("sent", ["nonsense", "x" * 3000, "", "é", "AQAAAaIBBj7jl6Pk:mjClVRPiMtr5qiMvnEKC0HX46DQCQ5JE"])
def test_a_cookie_that_was_not_made_here_is_ignored(visitor, sent: str):
    client = visitor()
    before = sum(tokens.rejected.values())
    client.client.cookies[f"{NAME}_abc"] = sent
    response = client.get("/read/")
    assert response.status_code == 200
    assert response.content.split()[1] == b"balanced"
    assert not response.cookies
    assert sum(tokens.rejected.values()) == before + bool(sent)


def test_a_cookie_too_old_is_ignored(visitor, monkeypatch: pytest.MonkeyPatch):
    client = visitor()
    client.get("/write/")
    later = (tokens._ticks() or 0) + 61_000
    monkeypatch.setattr(tokens, "_ticks", lambda: later)
    before = tokens.rejected["expired"]
    assert client.reason() == "balanced"
    assert tokens.rejected["expired"] == before + 1


def test_a_cookie_survives_a_rotation_of_keys(visitor):
    client = visitor()
    client.get("/write/")
    with override_settings(SECRET_KEY="new", SECRET_KEY_FALLBACKS=["for tests alone"]):
        assert client.reason() == "pinned"
        client.get("/write/")
        (moved,) = held(client.client).values()
    with override_settings(SECRET_KEY="new"):
        assert tokens.decode(moved)


def test_a_cookie_put_into_the_request_by_a_test_counts():
    request = RequestFactory().get("/read/")
    (morsel,) = set_by(Client().get("/write/")).values()
    request.COOKIES[NAME] = morsel.value
    response = ReplicaMiddleware(lambda request: HttpResponse(where()))(request)
    assert response.content.split()[1] == b"pinned"


def test_none_stores_nothing(visitor):
    for setting in ({"STORE": None}, None):
        with override_settings(REPLICANT_TOKEN=setting):
            client = visitor()
            assert not carries_token(client.get("/write/"))
            assert client.reason() == "balanced"


# The header.


def test_an_api_client_sends_back_what_it_was_given(visitor):
    with stores("header"):
        response = visitor().get("/write/")
        assert not response.cookies
        assert response["Vary"] == "Replicant-Token"
        assert response["Cache-Control"] == "private"
        client = visitor()
        headers = {"Replicant-Token": response["Replicant-Token"]}
        assert client.reason(headers=headers) == "pinned"
        assert HEADER not in client.get("/read/", headers=headers)
        assert HEADER in client.get("/write/", headers=headers)
        assert client.reason() == "balanced"


def test_a_header_of_another_name():
    with stores("header", NAME="X-Position"):
        response = Client().get("/write/")
        assert response["Vary"] == "X-Position"
        assert Visitor().reason(headers={"X-Position": response["X-Position"]}) == "pinned"


def test_no_header_can_force_the_primary(visitor):
    with stores("header"):
        for sent in ("nonsense", "default", "1", "x" * 9000):
            response = visitor().get("/read/", headers={"Replicant-Token": sent})
            assert response.content.split()[1] == b"balanced"
            assert "Replicant-Token" not in response


# Django's cache of pages.

OURS = "replicant.middleware.ReplicaMiddleware"
UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))


def keys() -> list[str]:
    return [key.split(":", 2)[2] for key in list(cache._cache)]


def cached() -> list[Any]:
    """The pages in the cache, as responses."""
    return [response for response in map(cache.get, keys()) if isinstance(response, HttpResponse)]


def cached_by(*middleware: str, path: str = "/page/"):
    return pytest.param(list(middleware), path, id=" ".join([*(name.rpartition(".")[2] for name in middleware), path]))


everywhere = pytest.mark.parametrize(
    ("middleware", "path"),
    [
        cached_by(OURS, UPDATE, FETCH),
        cached_by(UPDATE, OURS, FETCH),
        cached_by(UPDATE, FETCH, OURS),
        cached_by(OURS, path="/page/cached/"),
    ],
)


@everywhere
def test_pages_of_clients_that_only_read_are_shared(visitor, middleware: list[str], path: str):
    with override_settings(MIDDLEWARE=middleware):
        first = visitor().get(path)
        assert "private" not in first["Cache-Control"]
        assert visitor().get(path).content == first.content
        assert len(cached()) == 1


@everywhere
def test_no_page_in_the_cache_holds_a_token(visitor, middleware: list[str], path: str):
    with override_settings(MIDDLEWARE=middleware):
        writer = visitor()
        wrote = writer.get(f"{path}?write")
        assert carries_token(wrote)
        assert "private" in wrote["Cache-Control"]
        writer.get(path)
        for url in (path, f"{path}?write"):
            response = visitor().get(url)
            if response.content == wrote.content:
                assert not carries_token(response)
        assert [page for page in cached() if carries_token(page)] == []


@everywhere
def test_a_page_from_the_cache_stays_as_it_is_for_a_client_with_a_token(visitor, middleware: list[str], path: str):
    with override_settings(MIDDLEWARE=middleware):
        page = visitor().get(path)
        writer = visitor()
        writer.get("/write/")
        again = writer.get(path)
        assert again.content == page.content
        assert not carries_token(again)
        assert not carries_token(visitor().get(path))


@everywhere
@pytest.mark.usefixtures("quick_pins")
def test_a_page_is_shared_again_once_its_readers_token_is_over(visitor, middleware: list[str], path: str):
    with override_settings(MIDDLEWARE=middleware):
        client = visitor()
        client.get("/write/")
        page = read_until_it_is_over(client, path)
        assert page.content in [each.content for each in cached()]
        assert visitor().get(path).content == page.content


# By user, in the cache.

BY_USER = {
    "REPLICANT_TOKEN": {"STORE": "cache"},
    "MIDDLEWARE": [
        "django.contrib.sessions.middleware.SessionMiddleware",
        "django.contrib.auth.middleware.AuthenticationMiddleware",
        OURS,
    ],
}


@pytest.fixture
def by_user():
    with override_settings(**BY_USER):
        for name in ("moni", "oha"):
            # In a context of its own: the tests' thread must not remember that it wrote.
            contextvars.Context().run(User.objects.using("default").create, username=name)
        yield


@pytest.fixture
def user(visitor, by_user) -> Callable[[str], Visitor]:
    """A device on which somebody has logged in long ago."""

    def user(name: str) -> Visitor:
        device = visitor()
        device.get(f"/{'async/' * device.is_async}login/{name}/")
        cache.clear()
        return device

    return user


def test_what_one_device_wrote_the_other_sees(user):
    phone, laptop, other = user("moni"), user("moni"), user("oha")
    response = phone.get("/write/")
    assert not carries_token(response)
    assert laptop.reason() == "pinned"
    assert phone.reason() == "pinned"
    assert other.reason() == "balanced"


def test_who_logs_in_sees_what_login_wrote(visitor, by_user):
    device = visitor()
    device.get("/login/moni/")
    assert device.reason() == "pinned"


def test_anonymous_pages_cost_no_query_and_stay_cacheable(visitor, by_user):
    client = visitor()
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PRIMARY_ONLY": []}}):
        response = client.get("/read/")
        assert response.content.split()[1] == b"balanced"
        assert not {"Vary", "Cache-Control"} & set(response.headers)
        # Nobody's token is kept by nobody but the client.
        assert carries_token(client.get("/write/"))
        assert client.reason() == "pinned"
        assert visitor().reason() == "balanced"
        assert keys() == []


def test_a_known_user_costs_the_session_and_no_query_of_the_user_table(by_user):
    device = Client()
    device.get("/login/moni/")
    with CaptureQueriesContext(connections["default"]) as queries:
        response = device.get("/read/")
    assert [query["sql"] for query in queries if "auth_user" in query["sql"]] == []
    assert len(queries) == 1
    # The page was made without looking at who asks.
    assert "Vary" not in response


def test_pages_that_look_at_the_session_vary_as_ever(by_user):
    assert Client().get("/who/")["Vary"] == "Cookie"


def test_a_user_known_otherwise_than_by_session(by_user):
    """As an API's own authentication sets it."""
    user = User.objects.using("default").get(username="moni")

    def respond(write: bool) -> HttpResponse:
        def view(request: HttpRequest) -> HttpResponse:
            return views.write(request) if write else HttpResponse(where())

        request = RequestFactory().get("/")
        request.user = user
        return ReplicaMiddleware(view)(request)

    respond(write=True)
    assert respond(write=False).content.split()[1] == b"pinned"


class Broken(LocMemCache):
    def get(self, *args: Any, **kwargs: Any) -> Any:
        raise ConnectionError("no cache today")


def test_a_cache_that_fails_is_logged_and_the_request_goes_on(user, caplog: pytest.LogCaptureFixture):
    device = user("moni")
    with override_settings(CACHES={"default": {"BACKEND": f"{__name__}.Broken"}}):
        assert device.get("/write/").status_code == 200
        assert device.reason() == "balanced"
    assert {record.name for record in caplog.records} == {"replicant"}
    assert "the request continues without a token" in caplog.text


def test_without_sessions_the_client_alone_is_known(visitor):
    with override_settings(REPLICANT_TOKEN={"STORE": "cache"}):
        client = visitor()
        client.get("/write/")
        assert client.reason() == "pinned"
        assert visitor().reason() == "balanced"
