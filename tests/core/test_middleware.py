"""Requests, sync and async, and what their responses do later."""

from __future__ import annotations

import asyncio
import io
import pickle

import pytest
from django.db import router
from django.http import FileResponse, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.test import AsyncClient, Client, RequestFactory, override_settings

from replicant import _core, explain, use_primary, use_replica
from replicant.middleware import ReplicaMiddleware
from tests.app.models import Item
from tests.app.views import where

pytestmark = pytest.mark.usefixtures("site")


def lines(response) -> list[str]:
    return response.content.decode().splitlines()


def get(path: str, is_async: bool, method: str = "get") -> list[str]:
    if not is_async:
        return lines(getattr(Client(), method)(path))

    async def main():
        return lines(await getattr(AsyncClient(), method)(path))

    return asyncio.run(main())


both = pytest.mark.parametrize(
    ("prefix", "is_async"), [("/", False), ("/async/", True), ("/", True), ("/async/", False)]
)


@both
def test_a_safe_request_reads_from_one_replica(prefix: str, is_async: bool):
    for _ in range(5):
        first, second = get(f"{prefix}read/", is_async)
        alias = first.split()[0]
        assert first == f"{alias} balanced"
        assert second == f"{alias} sticky"
        assert alias != "default"
    assert _core.scope_variable.get(None) is None


@both
def test_a_request_that_writes_reads_from_the_primary_from_then_on(prefix: str, is_async: bool):
    before, after = get(f"{prefix}write/", is_async)
    assert before.split()[1] == "balanced"
    assert after == "default pinned"
    assert explain(Item).reason == "balanced"


@both
@pytest.mark.parametrize("method", ["post", "put", "patch", "delete"])
def test_other_requests_start_on_the_primary(prefix: str, is_async: bool, method: str):
    assert get(f"{prefix}read/", is_async, method) == ["default use_primary"] * 2


@pytest.mark.parametrize("method", ["get", "options"])
def test_safe_methods(method: str):
    assert get("/read/", False, method)[0].split()[1] == "balanced"


def test_a_views_own_scope_wins():
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "READS": "primary"}}):
        assert get("/read/", False) == ["default default"] * 2
        assert get("/replica/", False, "post") == ["replica1 balanced", "replica1 sticky"]


@pytest.mark.parametrize("path", ["/class/", "/class/decorated/", "/async/class/"])
def test_class_based_views(path: str):
    assert get(path, "async" in path, "post")[0].split()[1] == "balanced"
    if path != "/class/decorated/":
        assert get(path, "async" not in path)[0].split()[1] == "balanced"


@both
def test_lazy_templates_render_inside_the_views_scope(prefix: str, is_async: bool):
    assert get(f"{prefix}lazy/", is_async) == ["replica2 use_replica"]


def test_streams_run_inside_the_views_and_the_requests_scopes():
    response = Client().get("/stream/")
    assert response.getvalue().decode() == "replica2 use_replica\n" * 3
    assert explain(Item).reason == "balanced"


def test_a_stream_that_writes_is_pinned_and_leaves_nothing_behind():
    response = Client().get("/stream/x/")
    chunks = iter(response.streaming_content)
    assert next(chunks).split()[1] == b"balanced"
    assert explain(Item).reason == "balanced"
    assert next(chunks) == b"default pinned\n"
    response.close()
    assert explain(Item).reason == "balanced"


def test_async_streams():
    async def main():
        response = await AsyncClient().get("/async/stream/")
        chunks = []
        async for chunk in response.streaming_content:
            chunks.append(chunk)
            assert explain(Item).reason == "balanced"
        return chunks

    assert asyncio.run(main()) == [b"replica2 use_replica\n"] * 3


def test_an_async_stream_runs_inside_the_request_and_keeps_what_it_opens():
    async def main():
        response = await AsyncClient().get("/async/stream/plain/")
        chunks = []
        async for chunk in response.streaming_content:
            chunks.append(chunk.decode().strip())
            assert explain(Item).reason == "balanced"
        return chunks

    first, *others = asyncio.run(main())
    replica = first.split()[0]
    assert first == f"{replica} balanced"
    assert others == ["default use_primary", "default use_primary", f"{replica} sticky"]


def test_the_stream_of_an_async_class_runs_inside_its_scope():
    async def main():
        response = await AsyncClient().get("/async/class/stream/")
        return [chunk async for chunk in response.streaming_content]

    assert asyncio.run(main()) == [b"replica2 use_replica\n"]


def test_the_end_of_a_stream_runs_inside_too():
    seen = []

    def body():
        try:
            yield b"a"
            yield b"b"
        finally:
            seen.append(explain(Item).reason)

    def view(request):
        return StreamingHttpResponse(body())

    response = ReplicaMiddleware(use_primary(view))(RequestFactory().get("/"))
    assert next(iter(response.streaming_content)) == b"a"
    response.close()
    assert seen == ["use_primary"]


def test_a_file_that_asks_the_database_is_read_inside():
    class Stored(io.BytesIO):
        def read(self, *args):
            seen.append(explain(Item).reason)
            return super().read(*args)

    seen = []
    response = use_primary(lambda request: FileResponse(Stored(b"content")))(RequestFactory().get("/"))
    assert response.getvalue() == b"content"
    assert set(seen) == {"use_primary"}
    response.close()


def test_a_rendered_response_can_be_pickled():
    template = engines["django"].from_string("{{ where }}")

    @use_replica("replica2")
    def view(request):
        return TemplateResponse(request, template, {"where": where})

    kept = []
    response = view(RequestFactory().get("/"))
    response.add_post_render_callback(lambda rendered: kept.append(pickle.dumps(rendered)))
    response.render()
    assert pickle.loads(kept[0]).content == b"replica2 use_replica\n"


def test_files_are_left_to_the_server():
    file = io.BytesIO(b"content")
    response = use_replica(lambda request: FileResponse(file))(RequestFactory().get("/"))
    assert response.file_to_stream is file
    assert response.getvalue() == b"content"
    response.close()


def test_closing_a_stream_closes_what_it_reads():
    class Content:
        closed = False

        def __iter__(self):
            return iter([b"a", b"b"])

        def close(self):
            self.closed = True

    content = Content()
    middleware = ReplicaMiddleware(lambda request: StreamingHttpResponse(content))
    response = middleware(RequestFactory().get("/"))
    assert next(iter(response.streaming_content)) == b"a"
    response.close()
    assert content.closed


def test_an_exception_leaves_nothing_behind():
    def fail(request):
        router.db_for_read(Item)
        raise ZeroDivisionError

    with use_primary():
        with pytest.raises(ZeroDivisionError):
            ReplicaMiddleware(fail)(RequestFactory().get("/"))
        assert explain(Item).reason == "use_primary"


def test_requests_at_once_do_not_mix():
    async def view(request):
        seen = []
        for _ in range(20):
            seen.append(router.db_for_read(Item))
            await asyncio.sleep(0)
        return HttpResponse(" ".join(seen))

    async def main():
        middleware = ReplicaMiddleware(view)
        requests = [RequestFactory().get("/") for _ in range(50)]
        return await asyncio.gather(*(middleware(request) for request in requests))

    pages = [set(response.content.decode().split()) for response in asyncio.run(main())]
    assert all(len(aliases) == 1 for aliases in pages)
    assert {alias for aliases in pages for alias in aliases} == {"replica1", "replica2"}
