"""The code in docs/recipes.md, as it stands there."""

from __future__ import annotations

import contextvars
import queue
import re
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, make_server

import pytest
from django.core.cache import cache
from django.core.wsgi import get_wsgi_application
from django.db import connections
from django.test import override_settings

from replicant import explain, request_scope
from tests.app.models import Item

RECIPES = Path(__file__).parents[2] / "docs" / "recipes.md"

pytestmark = pytest.mark.usefixtures("site")


def recipe(name: str) -> dict[str, Any]:
    """What the code that begins with ``# name`` defines."""
    (code,) = re.findall(rf"```python\n# {name}\n(.*?)```", RECIPES.read_text(), re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(code, namespace)
    return namespace


def elsewhere(function: Callable[..., Any], *arguments: Any) -> Any:
    """Call it in a request that knows nothing of others, as in another process."""

    def call() -> Any:
        with request_scope():
            return function(*arguments)

    return contextvars.Context().run(call)


def reason(*_: Any) -> str:
    return explain(Item).reason or ""


def test_a_worker_sees_what_was_written_before_the_message(site):
    code, messages = recipe("queue"), queue.Queue()

    def send(write: bool):
        if write:
            Item.objects.create(name="written")
        code["put"](messages, "look")

    for write, expected in ((True, "pinned"), (False, "balanced")):
        elsewhere(send, write)
        assert elsewhere(code["work"], messages, reason) == expected


class Quiet(WSGIRequestHandler):
    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def service(site) -> Iterator[str]:
    """The address of a site that stores tokens in headers."""
    with (
        override_settings(REPLICANT_TOKEN={"STORE": "header"}, ALLOWED_HOSTS=["127.0.0.1"]),
        make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet) as server,
    ):
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def test_who_asks_another_service_to_write_sees_what_it_wrote(service):
    code = recipe("http")

    def ask(path: str) -> str:
        assert reason() == "balanced"
        return code["rename_and_look"](f"{service}{path}", reason)

    assert elsewhere(ask, "/write/") == "pinned"
    assert elsewhere(ask, "/read/") == "balanced"


def test_another_service_sees_what_its_caller_wrote(service, monkeypatch: pytest.MonkeyPatch):
    code, bodies, urlopen = recipe("http"), [], urllib.request.urlopen

    @contextmanager
    def kept(request: urllib.request.Request) -> Iterator[Any]:
        with urlopen(request) as response:
            bodies.append(response.read().decode())
            yield response

    # The recipe returns the token of the answer; the answer itself says where the service reads.
    monkeypatch.setattr("urllib.request.urlopen", kept)

    def ask() -> str:
        Item.objects.create(name="written")
        return code["rename_there"](f"{service}/read/")

    # The caller holds a token that says as much, and the service does not repeat it.
    assert elsewhere(ask) == ""
    assert bodies == ["default pinned\ndefault pinned\n"]


@pytest.fixture
def behind(site) -> Iterator[None]:
    """An item that was renamed on the primary, with replicas that have not heard of it."""
    settings = {"REPLICANT": {}, "DATABASE_ROUTERS": []}
    with override_settings(**settings):
        for alias in ("default", "replica1", "replica2"):
            Item.objects.using(alias).create(pk=1, name="old")
            connections[alias].close()
    cache.clear()
    yield
    cache.clear()


def name() -> str:
    return Item.objects.get(pk=1).name


def rename(afterwards: Callable[[], None]) -> None:
    Item.objects.filter(pk=1).update(name="new")
    afterwards()


def test_a_cache_refilled_anyhow_keeps_the_old_value(behind):
    """What the recipe is for."""
    elsewhere(rename, lambda: cache.delete("item"))
    assert elsewhere(recipe("cache")["remember"], "item", name) == "old"


def test_a_cache_is_not_refilled_from_a_replica_behind_the_writer(behind):
    code = recipe("cache")
    assert elsewhere(code["remember"], "item", name) == "old"
    elsewhere(rename, lambda: code["forget"]("item"))
    assert elsewhere(code["remember"], "item", name) == "new"
    assert cache.get("item") == "new"


def test_what_was_read_before_the_write_is_not_put_into_the_cache_after_it(behind):
    code = recipe("cache")

    def overtaken() -> str:
        found = name()
        elsewhere(rename, lambda: code["forget"]("item"))
        return found

    assert elsewhere(code["remember"], "item", overtaken) == "old"
    assert cache.get("item") is None
    assert elsewhere(code["remember"], "item", name) == "new"
