"""Tokens by user, in the cache: nothing is lost when requests run at the same time, nor when the user changes."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import alogin, login, logout
from django.contrib.auth.models import User, update_last_login
from django.contrib.auth.signals import user_logged_in
from django.core.cache import cache, caches
from django.core.cache.backends.locmem import LocMemCache
from django.http import HttpRequest, HttpResponse
from django.test import AsyncClient, Client, override_settings
from django.urls import path

from replicant.tokens import cache_log
from replicant.tokens.cache_log import CannotAppend, Log
from tests.app import urls, views
from tests.app.models import Item
from tests.app.views import where
from tests.browser import forget, held

CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": __name__}}
MIDDLEWARE = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "replicant.middleware.ReplicaMiddleware",
]
QUIET = {"SESSION_ENGINE": "django.contrib.sessions.backends.signed_cookies"}


def moni() -> User:
    return User.objects.using("default").get(username="moni")


def log_in(request: HttpRequest) -> HttpResponse:
    login(request, moni())
    return HttpResponse(where())


def log_out(request: HttpRequest) -> HttpResponse:
    if "write" in request.GET:
        Item.objects.create(name="written")
    logout(request)
    return HttpResponse(where())


async def async_log_in(request: HttpRequest) -> HttpResponse:
    await alogin(request, await User.objects.using("default").aget(username="moni"))
    return HttpResponse(where())


def authenticated(request: HttpRequest) -> HttpResponse:
    """As REST framework does: the view itself finds out who asks, and tells the request."""
    request.user = moni()
    return views.write(request) if "write" in request.GET else HttpResponse(where())


urlpatterns = [
    *urls.urlpatterns,
    path("login/", log_in),
    path("async/login/", async_log_in),
    path("logout/", log_out),
    path("api/", authenticated),
]


@pytest.fixture(autouse=True)
def _site(site):
    settings = {
        "ROOT_URLCONF": __name__,
        "CACHES": CACHES,
        "ALLOWED_HOSTS": ["testserver"],
        "MIDDLEWARE": MIDDLEWARE,
        "REPLICANT_TOKEN": {"STORE": "cache"},
        **QUIET,
    }
    # Otherwise each login is a write.
    assert user_logged_in.disconnect(dispatch_uid="update_last_login")
    with override_settings(**settings):
        contextvars.Context().run(User.objects.using("default").create, username="moni")
        yield
        caches["default"].clear()
    user_logged_in.connect(update_last_login, dispatch_uid="update_last_login")


def reason(client: Client, path: str = "/read/") -> str:
    return client.get(path).content.decode().split()[1]


@pytest.fixture
def device() -> Callable[[], Client]:
    """A browser on which moni has logged in long ago."""

    def device() -> Client:
        client = Client()
        contextvars.Context().run(client.force_login, moni())
        cache.clear()
        forget(client)
        return client

    return device


# Users who come and go.


def test_what_was_written_before_a_logout_is_found_after_the_next_login(device):
    browser = device()
    browser.get("/write/")
    browser.get("/logout/")
    # The same browser, as nobody.
    assert reason(browser) == "pinned"
    forget(browser)
    assert reason(browser) == "balanced"
    assert reason(browser, "/login/") == "pinned"
    assert reason(browser) == "pinned"


def test_what_is_written_as_one_logs_out_is_found_after_the_next_login(device):
    browser = device()
    browser.get("/logout/?write")
    assert held(browser)
    assert reason(browser) == "pinned"
    forget(browser)
    browser.get("/login/")
    assert reason(browser) == "pinned"


def test_what_nobody_wrote_is_seen_after_a_login_by_every_device(device):
    browser, phone = device(), device()
    browser.get("/logout/")
    browser.get("/write/")
    assert held(browser)
    assert reason(phone) == "balanced"
    browser.get("/login/")
    # The user's list has it, so that the cookies are not needed.
    assert not held(browser)
    assert reason(browser) == reason(phone) == "pinned"


def test_a_user_that_the_view_sets_is_known_from_then_on():
    api, other = Client(), Client()
    api.get("/api/?write")
    assert not held(api)
    assert reason(api, "/api/") == "pinned"
    assert reason(other, "/read/") == "balanced"


def test_a_user_that_the_view_sets_sees_what_a_browser_wrote_and_the_other_way_round(device):
    browser, api = device(), Client()
    browser.get("/write/")
    assert reason(api, "/api/") == "pinned"
    cache.clear()
    assert reason(browser) == "balanced"
    api.get("/api/?write")
    assert reason(browser) == "pinned"


def test_a_user_who_logs_in_beside_an_event_loop_reads_from_the_primary_meanwhile(device):
    browser, other = device(), AsyncClient()
    browser.get("/write/")

    async def log_in() -> tuple[bytes, bytes]:
        first = await other.get("/async/login/")
        return first.content, (await other.get("/read/")).content

    during, after = asyncio.run(log_in())
    assert during.split()[1] == after.split()[1] == b"pinned"


def test_the_primary_is_read_beside_an_event_loop_and_no_token_says_so(device):
    client = AsyncClient()
    device()
    response = asyncio.run(client.get("/async/login/"))
    assert response.content.split()[1] == b"pinned"
    assert not held(client)
    assert len(cache._cache) == 0


# Requests that run at the same time.


def test_five_posts_at_once_with_an_empty_list(device):
    """Each has read the list before any has appended to it."""
    browsers = [device() for _ in range(5)]
    barrier = threading.Barrier(5)

    def together(request: HttpRequest) -> HttpResponse:
        Item.objects.create(name="written")
        barrier.wait(20)
        return HttpResponse()

    appended: list[list[str]] = []
    append = Log.append

    def noted(self: Log, after: int | None, entry: Callable[[], str], learn: Callable[[str], None]) -> None:
        learnt: list[str] = []
        append(self, after, entry, lambda text: (learnt.append(text), learn(text))[1])
        appended.append(learnt)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Log, "append", noted)
        patch.setattr("tests.tokens.test_cache_log.urlpatterns", [*urlpatterns, path("together/", together)])
        with override_settings(ROOT_URLCONF=__name__):
            threads = [threading.Thread(target=browser.post, args=("/together/",)) for browser in browsers]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
    # All but the first have learnt the entry before theirs, which contains the others.
    assert sorted(bool(learnt) for learnt in appended) == [False, True, True, True, True]
    assert {reason(browser) for browser in browsers} == {"pinned"}


class Overtaken(LocMemCache):
    """Another request of the same user appends its entry just before each call that would append one."""

    others: list[str]

    def add(self, key: str, value: Any, timeout: Any = None, version: Any = None) -> bool:
        if self.others and not key.endswith(":last"):
            assert super().add(key, self.others.pop(0), timeout, version)
        return super().add(key, value, timeout, version)


def test_the_last_entry_contains_each_that_was_appended_meanwhile():
    with override_settings(CACHES={"default": {**CACHES["default"], "BACKEND": f"{__name__}.Overtaken"}}):
        Overtaken.others = [str(number) for number in range(30)]
        known: list[str] = []
        log = Log("name", "moni", 60)
        log.append(log.last().number, lambda: "+".join([*known, "mine"]), known.append)
        entry = log.last().entry
    assert entry == "+".join([*map(str, range(30)), "mine"])


@pytest.mark.parametrize("behind", [0, 1, 5, 6, 7, 50])
def test_the_end_is_found_where_the_hint_is_behind(behind: int):
    log = Log("name", "moni", 60)
    number = None
    for entry in range(60):
        log.append(number, lambda entry=entry: str(entry), lambda other: None)
        number = log.last().number
    assert number is not None
    cache.set(log._hint, number - behind)
    assert log.last() == (number, "59")


def test_a_hint_never_goes_back():
    slow, quick = Log("name", "moni", 60), Log("name", "moni", 60)
    slow.append(None, lambda: "0", lambda other: None)
    first = slow.last().number
    hint = cache.get(slow._hint)

    def overtaken() -> str:
        return "slow"

    slow.append(first, overtaken, lambda other: None)
    quick.append(slow.last().number, lambda: "quick", lambda other: None)
    assert cache.get(slow._hint) == hint + 2
    # One that wrote its entry before and sets the hint after the quick one.
    slow.append(hint, lambda: "late", lambda other: None)
    assert cache.get(slow._hint) == hint + 3
    assert slow.last().entry == "late"


def test_two_that_begin_a_list_begin_one():
    one, other = Log("name", "moni", 60), Log("name", "moni", 60)
    assert one.last().number is other.last().number is None
    learnt: list[str] = []
    one.append(None, lambda: "one", learnt.append)
    other.append(None, lambda: "other", learnt.append)
    assert other.last().entry == "other"
    assert learnt == ["one"]
    assert one.last() == other.last()


def test_a_cache_that_adds_nothing_ends_the_attempts_and_loses_no_entry(monkeypatch):
    log = Log("name", "moni", 60)
    log.append(None, lambda: "before", lambda other: None)
    before = log.last()
    calls = []
    with monkeypatch.context() as patch:
        patch.setattr(type(caches["default"]), "add", lambda *args, **kwargs: calls.append(args) and False)
        with pytest.raises(CannotAppend, match="adds nothing"):
            log.append(before.number, lambda: "entry", lambda other: None)
    assert len(calls) == 3
    assert log.last() == before


def test_attempts_end_also_where_each_is_overtaken(monkeypatch):
    monkeypatch.setattr(cache_log, "_ATTEMPTS", 7)
    log = Log("name", "moni", 60)
    with override_settings(CACHES={"default": {**CACHES["default"], "BACKEND": f"{__name__}.Overtaken"}}):
        monkeypatch.setattr(Overtaken, "others", [str(number) for number in range(30)], raising=False)
        with pytest.raises(CannotAppend, match="7 entries"):
            log.append(1, lambda: "entry", lambda other: None)


def test_a_cache_that_hides_that_it_is_out_of_order_costs_a_request_a_log_line(device, caplog, monkeypatch):
    client = device()
    calls = []
    monkeypatch.setattr(type(caches["default"]), "add", lambda *args, **kwargs: calls.append(args) and False)
    monkeypatch.setattr(type(caches["default"]), "get", lambda self, key, default=None, version=None: default)
    assert client.post("/write/").status_code == 200
    assert "cache that holds clients' tokens failed" in caplog.text
    assert len(calls) < 20
