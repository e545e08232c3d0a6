"""Tokens that are kept by user, in the cache."""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.cache import cache
from django.core.cache.backends.locmem import LocMemCache
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory, override_settings
from django.test.utils import CaptureQueriesContext

from replicant.middleware import ReplicaMiddleware
from tests.app import views
from tests.app.views import where
from tests.browser import carries_token
from tests.tokens.browsers import OURS, Visitor, keys
from tests.tokens.browsers import _site as _site
from tests.tokens.browsers import visitor as visitor

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
