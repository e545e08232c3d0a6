"""All orders in which two or three requests of one browser can be sent, answered and taken in: nothing is lost.

Positions are simulated: what a server has is a number, the monitor's answers are handed to the core, and what a read
saw is what its member had then. The middleware's own store carries the tokens, in the jar of a browser.
"""

from __future__ import annotations

import contextvars
import itertools
import time
from collections.abc import Iterable, Iterator
from typing import Any

import pytest
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.test import override_settings
from hypothesis import given, settings
from hypothesis import strategies as st

from replicant import _core, request_scope, tokens, use_primary
from replicant._core import Position
from replicant.conf import reader
from replicant.tokens import carried, stores
from tests.app.models import Item
from tests.browser import Jar
from tests.databases import use_databases

ALIASES = ("default", "replica1", "replica2")
REPLICANT = {"default": {"REPLICAS": ["replica1", "replica2"], "WAIT_SECONDS": 0, "MAX_LAG": None}}


def position(number: int) -> Position:
    return Position("postgresql", f"1:0/{number:X}")


class World:
    """A primary and its replicas, of which only the numbers of what they have matter; and one browser."""

    def __init__(self) -> None:
        self.has = dict.fromkeys(ALIASES, 1)
        self.server = dict.fromkeys(ALIASES, "1")
        #: The server that the connection to each alias was opened with, and found fit to serve.
        self.connected = dict(self.server)
        self.jar = Jar()
        #: What the responses that have arrived showed or wrote.
        self.owed = 0
        self._asked_at = time.monotonic_ns()
        self.look()

    def look(self) -> None:
        """The monitor probes all members."""
        for alias in ALIASES:
            self.observe(alias)

    def observe(self, alias: str) -> bool:
        """A member says which server it is and what it has; returns whether it is another one than was known."""
        self._asked_at = max(self._asked_at + 1, time.monotonic_ns())
        answer = (alias, position(self.has[alias]), self._asked_at, alias + self.server[alias])
        is_other = bool(_core.observe([answer]))
        if _core.member_state(alias) == "lagging":
            # Another server would wait for its floor. Here tokens and checks of sessions must keep the promises.
            _core.set_state(alias, "up")
        return is_other

    def serves(self, alias: str) -> bool:
        """Whether a read may be sent on the connection to a replica.

        The connection is lost with its server, and checked when it is opened again.
        """
        if self.connected[alias] == self.server[alias]:
            return True
        is_other = self.observe(alias)
        if not _core.session_serves(alias, alias + self.server[alias], position(self.has[alias]), is_other):
            return False
        self.connected[alias] = self.server[alias]
        return True

    def restart(self, alias: str) -> None:
        """A replica comes back with older data."""
        self.server[alias] += "1"
        self.has[alias] = 1

    def replicate(self, alias: str) -> None:
        self.has[alias] = self.has["default"]

    def write(self) -> int:
        self.has["default"] += 1
        return self.has["default"]


class Request:
    """One request, a step at a time. Each is served by a thread, or a process, of its own: in a context of its own."""

    def __init__(self, world: World, kind: str) -> None:
        self.world, self.kind = world, kind
        self.shown = 0
        self._context = contextvars.Context()
        self._response = HttpResponse()
        self._scopes: list[Any] = []

    def send(self) -> None:
        self._carried_cookies = self.world.jar.header()
        #: What must be shown: what had arrived when the request was sent.
        self.owed = self.world.owed
        self.binds = bool(self.world.jar.tokens)
        self._context.run(self._receive)

    def _receive(self) -> None:
        self.request = HttpRequest()
        self.request.method = "POST" if self.kind == "post" else "GET"
        self.request.META = {"HTTP_COOKIE": self._carried_cookies, "SERVER_NAME": "testserver", "SERVER_PORT": "80"}
        if self._carried_cookies:
            self.request.COOKIES.update(each.split("=", 1) for each in self._carried_cookies.split("; "))
        self._scopes = [request_scope(), *([use_primary()] if self.kind == "post" else [])]
        for scope in self._scopes:
            scope.__enter__()
        self.store = stores.in_force()
        assert self.store is not None
        self.carried = self.store.receive(self.request)

    def work(self) -> None:
        self._context.run(self._work)

    def _work(self) -> None:
        if self.kind == "post":
            written = self.world.write()
            _core.record().wrote("default", position(written))
            self.shown, self.binds = max(self.shown, written), True
            return
        alias = router.db_for_read(Item)
        failed: list[str] = []
        while alias != "default" and not self.world.serves(alias):
            failed.append(alias)
            alias = _core.reroute(alias, failed)
        seen = self.world.has[alias]
        assert seen >= self.owed, f"{alias} has {seen}, and the client knows of {self.owed}"
        if alias != "default":
            self.shown = max(self.shown, seen)

    def respond(self) -> None:
        self._context.run(self._respond)

    def _respond(self) -> None:
        assert self.store is not None
        self.store.send(self.request, self._response, self.carried)
        for scope in reversed(self._scopes):
            scope.__exit__(None, None, None)

    def arrive(self) -> None:
        self.world.jar.apply(self._response)
        if self.binds:
            self.world.owed = max(self.world.owed, self.shown)
        for text in self.world.jar.tokens:
            assert tokens.opened(text) is not None

    steps = ("send", "work", "respond", "arrive")


@pytest.fixture(scope="module")
def simulated(template: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """SQLite, said to have positions; no monitor."""
    from tests.databases import sqlite

    folder = tmp_path_factory.mktemp("interleavings")
    with pytest.MonkeyPatch.context() as patch, use_databases(sqlite(folder, *ALIASES), REPLICANT={}):
        patch.setattr("replicant.monitor.cluster_monitor.start", lambda: None)
        patch.setattr(reader, "stand_ins", {"default": None})
        yield


def fresh() -> Any:
    """Settings that put a new configuration in force: nothing is known of the members."""
    with override_settings(REPLICANT={}):
        # A configuration without members: the next one inherits nothing.
        assert _core.snapshot() == {}
    return override_settings(REPLICANT=REPLICANT)


def order(counts: Iterable[int]) -> Iterator[tuple[int, ...]]:
    """Every order in which requests of so many steps can take turns."""
    counts = tuple(counts)
    if not any(counts):
        yield ()
    for request, left in enumerate(counts):
        if left:
            fewer = (*counts[:request], left - 1, *counts[request + 1 :])
            for rest in order(fewer):
                yield (request, *rest)


def run(kinds: tuple[str, ...], turns: tuple[int, ...], world: World, steps: tuple[str, ...]) -> None:
    requests = [Request(world, kind) for kind in kinds]
    left = [iter(steps) for _ in kinds]
    for turn in turns:
        for step in next(left[turn]).split("+"):
            getattr(requests[turn], step)()


def whole(world: World, kind: str) -> None:
    run((kind,), (0,) * 4, world, Request.steps)


def begun() -> World:
    """A client that wrote once, and read from a replica that had that; another client's write is at one replica."""
    world = World()
    whole(world, "post")
    world.replicate("replica1"), world.replicate("replica2")
    world.look()
    whole(world, "get")
    world.write()
    world.replicate("replica1")
    world.look()
    return world


def check_afterwards(world: World) -> None:
    """The next requests see it all, before and after the replicas have it."""
    whole(world, "get")
    world.replicate("replica2")
    world.look()
    whole(world, "get")
    world.replicate("replica1")
    world.look()
    whole(world, "get")


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("kinds", list(itertools.product(("post", "get"), repeat=2)), ids="-".join)
def test_every_order_of_two_requests(kinds: tuple[str, ...]):
    for turns in order([4, 4]):
        with fresh():
            world = begun()
            run(kinds, turns, world, Request.steps)
            check_afterwards(world)


@pytest.mark.usefixtures("simulated")
@pytest.mark.parametrize("kinds", list(itertools.product(("post", "get"), repeat=3)), ids="-".join)
def test_every_order_of_three_requests_whose_answers_are_made_at_once(kinds: tuple[str, ...]):
    for turns in order([2, 2, 2]):
        with fresh():
            world = begun()
            run(kinds, turns, world, ("send+work+respond", "arrive"))
            check_afterwards(world)


faults = st.sampled_from(["look", "replica1", "replica2", "write", "down1", "down2", "up"])
# Seen by the monitor before a read can see it, or not.
restarts = st.sampled_from(["restart1", "restart2", "unseen1", "unseen2"])


@pytest.mark.usefixtures("simulated")
@settings(deadline=None)
@given(
    st.lists(st.sampled_from(["post", "get", "get"]), min_size=2, max_size=4).map(tuple),
    st.lists(st.integers(0, 3) | faults | restarts, max_size=40),
)
def test_any_order_of_requests_while_replicas_come_and_go(kinds: tuple[str, ...], events: list[Any]):
    with fresh():
        world = begun()
        requests = [Request(world, kind) for kind in kinds]
        left = [iter(Request.steps) for _ in kinds]
        for event in events:
            if isinstance(event, int):
                if event < len(requests) and (step := next(left[event], None)):
                    getattr(requests[event], step)()
            elif event == "look":
                world.look()
            elif event == "write":
                world.write()
            elif event == "up":
                for alias in ALIASES[1:]:
                    _core.set_state(alias, "up")
            elif event.startswith("replica"):
                world.replicate(event)
            elif event.startswith("down"):
                _core.set_state(f"replica{event[-1]}", "down")
            else:
                world.restart(f"replica{event[-1]}")
                if event.startswith("restart"):
                    world.look()
        for alias in ALIASES[1:]:
            _core.set_state(alias, "up")
        check_afterwards(world)


def reads_from(world: World) -> str:
    """Where the client's next request reads from."""
    request = Request(world, "get")
    request.send()
    return str(request._context.run(router.db_for_read, Item))


def reading() -> tuple[World, str]:
    """A client with a token that says which replica it reads from, and that replica."""
    world = World()
    whole(world, "post")
    world.replicate("replica1"), world.replicate("replica2")
    world.look()
    whole(world, "get")
    alias = reads_from(world)
    assert alias != "default"
    return world, alias


@pytest.mark.usefixtures("simulated")
def test_a_process_that_has_just_started_trusts_no_token_for_a_server_that_it_does_not_know():
    with fresh():
        world, alias = reading()
        held = dict(world.jar.cookies)
    with override_settings(REPLICANT={}):
        assert _core.snapshot() == {}
    with fresh():
        assert _core.server(alias) is None
        assert reads_from(world) == "default"
        whole(world, "get")
        assert world.jar.cookies == held
        world.look()
        assert reads_from(world) == alias
        whole(world, "get")
        assert world.jar.cookies == held


@pytest.mark.usefixtures("simulated")
def test_a_process_that_finds_another_server_there_compares_with_the_primarys_next_position():
    with fresh():
        world, alias = reading()
        other = "replica2" if alias == "replica1" else "replica1"
        held = dict(world.jar.cookies)
    with override_settings(REPLICANT={}):
        assert _core.snapshot() == {}
    # The server was restarted with older data; the client had seen there what no other replica has.
    with fresh():
        world.write()
        world.server[alias] += "restarted"
        world.look()
        assert reads_from(world) == "default"
        whole(world, "get")
        assert world.jar.cookies.keys().isdisjoint(held)
        (item,) = tokens.decode(*world.jar.tokens) or ()
        assert item.left
        # Other requests may be under way with the old token: until then no position will do.
        world.replicate(other)
        world.look()
        assert reads_from(world) == "default"
        assert -carried.OVERLAP <= item.read < 0
        with pytest.MonkeyPatch.context() as patch:
            ticks = tokens._ticks() or 0
            # The same token, later: its age is counted by this clock.
            patch.setattr(tokens, "_ticks", lambda: ticks + 1000 * int(carried.OVERLAP + 1))
            world.look()
            assert reads_from(world) == other


@pytest.mark.usefixtures("simulated")
def test_many_requests_at_once_leave_few_cookies():
    with fresh():
        world = World()
        whole(world, "post")
        world.replicate("replica1"), world.replicate("replica2")
        world.look()
        requests = [Request(world, "get") for _ in range(50)]
        for step in Request.steps:
            for request in requests:
                getattr(request, step)()
        assert len(world.jar.tokens) <= 2
        assert len(world.jar.header()) < 1000


@pytest.mark.usefixtures("simulated")
def test_many_writes_at_once_are_merged_and_none_is_lost():
    with fresh():
        world = World()
        requests = [Request(world, "post") for _ in range(12)]
        for step in Request.steps:
            for request in requests:
                getattr(request, step)()
        assert len(world.jar.tokens) == 12
        whole(world, "get")
        (text,) = world.jar.tokens
        (item,) = tokens.decode(text) or ()
        assert item.position is not None
        assert item.position.contains(position(world.has["default"]))
