"""Views that answer where their reads would go: ``alias reason`` lines."""

from django.db import connections, router
from django.http import HttpRequest, HttpResponse, StreamingHttpResponse
from django.template import engines
from django.template.response import TemplateResponse
from django.views import View

from replicant import explain, use_primary, use_replica
from tests.app.models import Item


def where() -> str:
    """Make a decision, and say which."""
    expected = explain(Item)
    alias = router.db_for_read(Item)
    if alias != expected.alias:
        # Something ended in between, a pin or a replica's lag: then the next question shows the same.
        expected = explain(Item)
        assert alias == expected.alias
    return f"{expected.alias} {expected.reason}\n"


def read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(where() + where())


def write(request: HttpRequest) -> HttpResponse:
    before = where()
    Item.objects.create(name="written")
    after = where()
    # Under an async client this thread ends with the request, and nothing else closes its connections.
    connections.close_all()
    return HttpResponse(before + after)


@use_replica
def replica(request: HttpRequest) -> HttpResponse:
    return HttpResponse(where() + where())


@use_replica
class Class(View):
    def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(where())

    post = get


class Plain(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(where())


decorated_view = use_replica(Plain.as_view())


@use_replica("replica2")
def lazy(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("{{ where }}")
    return TemplateResponse(request, template, {"where": where})


@use_replica("replica2")
def stream(request: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(where() for _ in range(3))


def named_stream(request: HttpRequest, name: str) -> StreamingHttpResponse:
    def chunks():
        yield where()
        Item.objects.create(name=name)
        yield where()

    return StreamingHttpResponse(chunks())


async def async_read(request: HttpRequest) -> HttpResponse:
    return HttpResponse(where() + where())


async def async_write(request: HttpRequest) -> HttpResponse:
    before = where()
    await Item.objects.acreate(name="written")
    return HttpResponse(before + where())


@use_replica
class AsyncClass(View):
    async def get(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(where())

    post = get


@use_replica("replica2")
async def async_lazy(request: HttpRequest) -> HttpResponse:
    template = engines["django"].from_string("{{ where }}")
    return TemplateResponse(request, template, {"where": where})


@use_replica("replica2")
async def async_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def chunks():
        for _ in range(3):
            yield where()

    return StreamingHttpResponse(chunks())


async def async_plain_stream(request: HttpRequest) -> StreamingHttpResponse:
    async def chunks():
        yield where()
        async with use_primary():
            yield where()
            yield where()
        yield where()

    return StreamingHttpResponse(chunks())


@use_replica("replica2")
class AsyncStream(View):
    async def get(self, request: HttpRequest) -> StreamingHttpResponse:
        async def chunks():
            yield where()

        return StreamingHttpResponse(chunks())
