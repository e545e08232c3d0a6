"""Tokens and Django's cache of pages."""

from __future__ import annotations

from typing import Any

import pytest
from django.core.cache import cache
from django.http import HttpResponse
from django.test import override_settings

from tests.browser import carries_token
from tests.tokens.browsers import OURS, keys, read_until_it_is_over
from tests.tokens.browsers import _site as _site
from tests.tokens.browsers import quick_pins as quick_pins
from tests.tokens.browsers import visitor as visitor

UPDATE, FETCH = (f"django.middleware.cache.{name}CacheMiddleware" for name in ("Update", "FetchFrom"))


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
