"""What a client wrote, its next request sees: by cookie and by header."""

from __future__ import annotations

import time

import pytest
from django.db import InterfaceError, transaction
from django.http import HttpResponse
from django.test import Client, RequestFactory, override_settings

from replicant import _core, tokens
from replicant._core import Position
from replicant.connections import causality
from replicant.middleware import ReplicaMiddleware
from tests.app.models import Item
from tests.app.views import where
from tests.browser import HEADER, NAME, carries_token, deleted_by, held, set_by
from tests.tokens.browsers import Visitor, read_until_it_is_over, stores
from tests.tokens.browsers import _site as _site
from tests.tokens.browsers import quick_pins as quick_pins
from tests.tokens.browsers import visitor as visitor

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
    assert causality.query_position("default") is None
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


@pytest.mark.slow
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
