"""Requests of one client that run at the same time, on real servers, in exact orders: nothing that a response told the
client is lost, whichever response arrives last.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connections
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client, override_settings
from django.urls import path

import replicant
from replicant import request_scope, tokens, use_replica
from tests.browser import Holder
from tests.connections.paused_replicas import AMPLE, catch_up, elsewhere, looked, pause, read, until, using, write
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster
from tests.tokens.visitors import SESSIONS, web

#: Views that are to be held wait here, by name, after they have done their work.
_held: dict[str, tuple[threading.Event, threading.Event]] = {}


def _hold(request: HttpRequest) -> None:
    if name := request.GET.get("hold"):
        arrived, released = _held[name]
        arrived.set()
        assert released.wait(AMPLE)


def add(request: HttpRequest) -> HttpResponse:
    pk = write()
    _hold(request)
    return JsonResponse({"pk": pk})


def shelf(request: HttpRequest, pk: int, name: str = "") -> HttpResponse:
    """Whether the row is there; on the replica that is named, if one is."""
    if name:
        with use_replica(name):
            alias, found = read(pk)
    else:
        alias, found = read(pk)
    _hold(request)
    return JsonResponse({"alias": alias, "found": found})


def order(request: HttpRequest) -> HttpResponse:
    """Has another service write, and looks at it."""

    def service() -> tuple[Any, str]:
        with request_scope():
            return write(), replicant.token()

    pk, token = elsewhere(service)
    with replicant.after(token):
        return JsonResponse({"pk": pk, "found": read(pk)[1]})


urlpatterns = [
    path("add/", add),
    path("order/", order),
    path("shelf/<int:pk>/", shelf),
    path("shelf/<int:pk>/<str:name>/", shelf),
]


class Sent:
    """A request that is under way, held in its view once that has done its work."""

    def __init__(self, holder: Holder, url: str, method: str) -> None:
        self._holder, self._carried = holder, holder.carried()
        self._arrived, self._released = _held.setdefault(str(id(self)), (threading.Event(), threading.Event()))
        self._answers: list[Any] = []
        url = f"{url}?hold={id(self)}"

        def run() -> None:
            try:
                self._answers.append(getattr(Client(), method)(url, headers=self._carried))
            finally:
                connections.close_all()

        self._thread = threading.Thread(target=run)
        self._thread.start()
        assert self._arrived.wait(AMPLE)

    def respond(self) -> Sent:
        """The server answers, and the answer is under way."""
        self._released.set()
        self._thread.join(AMPLE)
        assert self._answers
        return self

    def arrive(self) -> Any:
        self._holder.take(self._answers[0], self._carried)
        return self._answers[0].json()


class Somebody(Holder):
    def send(self, url: str, method: str = "get") -> Sent:
        return Sent(self, url, method)

    def do(self, url: str, method: str = "get") -> Any:
        carried = self.carried()
        response = getattr(Client(), method)(url, headers=carried)
        self.take(response, carried)
        return response.json()


@pytest.fixture(params=["cookie", "header", "cache"])
def somebody(request: pytest.FixtureRequest, shop: Cluster) -> Iterator[Somebody]:
    """A client whose tokens are kept in each of the stores."""
    tokens = {"STORE": request.param}
    with web(REPLICANT_TOKEN=tokens, MIDDLEWARE=SESSIONS), override_settings(ROOT_URLCONF=__name__):
        client = Somebody(request.param)
        if request.param == "cache":
            user, _ = elsewhere(lambda: User.objects.get_or_create(username=f"somebody{time.time_ns()}"))
            login = Client()
            elsewhere(lambda: login.force_login(user))
            client.jar.apply(login)
        shop.wait_until_caught_up()
        pause(shop)
        looked()
        yield client


def other_writes() -> int:
    return int(contextvars.Context().run(write))


def begin(shop: Cluster, somebody: Somebody) -> None:
    """The client holds the token of a write that all replicas have by now; they will not have what comes."""
    somebody.do("/add/", "post")
    catch_up(shop)
    pause(shop)
    looked()


def test_a_slow_get_that_left_before_a_post_arrives_after_it(shop: Cluster, somebody: Somebody):
    begin(shop, somebody)
    slow = somebody.send("/shelf/0/")
    pk = somebody.do("/add/", "post")["pk"]
    slow.respond().arrive()
    for _ in range(3):
        assert somebody.do(f"/shelf/{pk}/") == {"alias": "default", "found": True}


@pytest.mark.parametrize("order", ["first", "last"])
def test_two_posts_whose_responses_arrive_in_either_order(
    shop: Cluster,
    somebody: Somebody,
    order: str,
):
    begin(shop, somebody)
    one = somebody.send("/add/", "post")
    # What the one wrote the replicas have; what the other writes they lack.
    catch_up(shop)
    pause(shop)
    looked()
    other = somebody.send("/add/", "post")
    one.respond(), other.respond()
    answers = [sent.arrive()["pk"] for sent in ((one, other) if order == "first" else (other, one))]
    for pk in answers:
        assert somebody.do(f"/shelf/{pk}/") == {"alias": "default", "found": True}


def test_two_gets_at_once_on_different_replicas(shop: Cluster, somebody: Somebody):
    begin(shop, somebody)
    pk = other_writes()
    catch_up(shop, shop.replicas[0])
    looked()
    one = somebody.send(f"/shelf/{pk}/replica1/")
    other = somebody.send(f"/shelf/{pk}/replica2/")
    one.respond(), other.respond()
    shown = one.arrive()
    other.arrive()
    assert shown["found"]
    for _ in range(3):
        assert somebody.do(f"/shelf/{pk}/")["found"]


def test_a_request_that_leaves_a_replica_takes_nothing_from_one_that_stays(shop: Cluster, somebody: Somebody):
    """The one that moves answers last, and knows nothing of what the other one has been shown meanwhile."""
    somebody.do("/add/", "post")
    catch_up(shop)
    until(lambda: somebody.do("/shelf/0/replica1/")["alias"] == "replica1", "replica1 has what was written")
    pause(shop)
    looked()
    moves = somebody.send("/shelf/0/replica2/")
    pk = other_writes()
    catch_up(shop, shop.replicas[0])
    looked()
    shown = somebody.do(f"/shelf/{pk}/replica1/")
    moves.respond().arrive()
    assert shown["found"]
    for _ in range(3):
        assert somebody.do(f"/shelf/{pk}/")["found"]


def test_what_a_view_saw_after_a_token_of_its_own_its_client_sees_again(somebody: Somebody):
    answer = somebody.do("/order/")
    assert answer["found"]
    assert somebody.do(f"/shelf/{answer['pk']}/") == {"alias": "default", "found": True}


@using(WAIT_SECONDS=0.4)
def test_a_miss_is_not_waited_for_again(somebody: Somebody):
    pk = somebody.do("/add/", "post")["pk"]
    seconds = []
    for _ in range(4):
        begun = time.monotonic()
        assert somebody.do(f"/shelf/{pk}/")["found"]
        seconds.append(time.monotonic() - begun)
    assert seconds[0] > 0.4
    assert min(seconds[1:]) < 0.3


def test_with_one_replica_a_token_says_what_was_read_there(shop: Cluster, somebody: Somebody):
    with using(REPLICAS=["replica1"]):
        somebody.do("/add/", "post")
        catch_up(shop)
        until(lambda: somebody.do("/shelf/0/")["alias"] == "replica1", "replica1 has what was written")
        if somebody.store != "cache":
            texts = somebody.jar.tokens if somebody.store == "cookie" else somebody.tokens
            items = [item for text in texts for item in tokens.decode(text) or ()]
            assert [item.member for item in items if item.read is not None and item.server is not None] == ["replica1"]
