"""Requests, sync and async, in transactions and out of them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.contrib.auth import aauthenticate
from django.contrib.auth.models import User
from django.db import connections, transaction
from django.db.models import Count
from django.test import AsyncClient, Client

from replicant import request_scope, use_replica
from replicant.tracing import record_queries
from tests.app.models import Tag
from tests.features.conftest import OLD_BOOKS, PASSWORD, Sent, elsewhere, new, new_book
from tests.features.models import Author, Book

# A request is Django's business: engines make no difference.
pytestmark = pytest.mark.parametrize("cluster", ["mysql"], indirect=True)


def run(main: Coroutine[Any, Any, None]) -> None:
    async def closing() -> None:
        try:
            await main
        finally:
            # Of the thread in which asgiref runs what blocks.
            await sync_to_async(connections.close_all)()

    asyncio.run(closing())


def old_book() -> int:
    return elsewhere(lambda: Book.objects.using("replica1").get(title="old 04").pk)


def test_a_visitor_who_buys_sees_what_is_left(sent: Sent):
    book = elsewhere(new_book)
    assert Client().post(f"/books/{book.pk}/buy/").content == b"4"
    assert Client().post(f"/books/{book.pk}/buy/").content == b"3"
    assert sent.to_replicas() == []


def test_the_pages_of_a_list_are_read_from_replicas():
    with record_queries() as queries:
        page = Client().get("/books/").json()
    assert page["of"] == OLD_BOOKS + 1
    assert len(page["titles"]) == 5
    assert {query.alias for query in queries} in ({"replica1"}, {"replica2"}), queries


# ATOMIC_REQUESTS.


@pytest.fixture
def atomic_requests() -> Iterator[None]:
    for settings in (connections.settings["default"], connections["default"].settings_dict):
        settings["ATOMIC_REQUESTS"] = True
    yield
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = False


@pytest.mark.usefixtures("atomic_requests")
def test_with_atomic_requests_everything_works_and_is_read_from_the_primary(sent: Sent):
    client = Client()
    book = elsewhere(new_book)
    assert client.post(f"/books/{book.pk}/buy/").content == b"4"
    assert client.post("/sign-up/", {"name": (name := new()), "password": PASSWORD}).status_code == 200
    assert client.get("/me/").content.decode() == name
    assert client.get("/books/").json()["of"] > OLD_BOOKS + 1
    assert sent.to_replicas() == []


@pytest.mark.usefixtures("atomic_requests")
def test_with_atomic_requests_a_view_that_fails_wrote_nothing():
    client = Client(raise_request_exception=False)
    name = new()
    elsewhere(lambda: Author.objects.create(name=name))
    assert client.post("/authors/", {"name": name}).status_code == 400
    assert client.get("/books/?page=1000").status_code == 500
    assert Client().get("/books/").status_code == 200


# Async.


def test_rows_written_by_async_methods_are_read_back(scope):
    async def main() -> None:
        book = await Book.objects.acreate(author=await Author.objects.acreate(name=new()), title=new(), stock=5)
        assert await Book.objects.aget(pk=book.pk) == book
        book.stock = 6
        await book.asave()
        await book.arefresh_from_db()
        assert book.stock == 6
        mine = Book.objects.filter(pk=book.pk)
        assert [found async for found in mine] == [book]
        assert [found async for found in mine.aiterator()] == [book]
        assert await mine.acount() == 1
        assert await mine.aexists()
        assert await mine.afirst() == await mine.alast() == book
        assert (await mine.aaggregate(n=Count("pk")))["n"] == 1
        assert await Book.objects.ain_bulk([book.pk]) == {book.pk: book}
        await mine.aupdate(stock=7)
        assert (await mine.select_related("author").aget()).stock == 7
        await Author.objects.abulk_create([Author(name=(name := new()))])
        assert await Author.objects.filter(name=name).aexists()
        book.stock = 8
        await Book.objects.abulk_update([book], ["stock"])
        assert (await mine.aget()).stock == 8
        await book.tags.aadd(tag := await Tag.objects.acreate(name=new()))
        assert [found async for found in book.tags.all()] == [tag]
        await book.tags.aclear()
        assert not await book.tags.aexists()
        assert [each.pk async for each in mine.prefetch_related("tags")] == [book.pk]
        pk = book.pk
        await book.adelete()
        assert not await Book.objects.filter(pk=pk).aexists()

    async def scoped() -> None:
        if scope in (request_scope, use_replica):
            async with scope():
                await main()
        else:
            # With no scope open a thread remembers what it wrote, and asgiref's has written.
            await sync_to_async(lambda: None)()
            await main()

    run(scoped())


def test_async_methods_find_what_somebody_else_just_made(sent: Sent):
    book = elsewhere(new_book)
    name = book.author.name

    async def main() -> None:
        async with request_scope():
            assert await Author.objects.aget_or_create(name=name) == (book.author, False)
            found, created = await Book.objects.aupdate_or_create(
                author_id=book.author_id, title=book.title, defaults={"stock": 9}
            )
            assert (found, created) == (book, False)
            assert (await Book.objects.aget(pk=book.pk)).stock == 9

    run(main())
    assert sent.to_replicas() == []


def test_accounts_by_async_methods():
    async def main() -> None:
        async with request_scope():
            user = await User.objects.acreate_user(new(), password=PASSWORD)
            assert await aauthenticate(username=user.username, password=PASSWORD) == user
            assert await user.acheck_password(PASSWORD)
            assert not await user.ahas_perm("features.add_book")

    run(main())


def test_tasks_of_one_request_see_what_the_others_wrote():
    async def main() -> None:
        async with request_scope():
            names = [new() for _ in range(5)]
            await asyncio.gather(*(Author.objects.acreate(name=name) for name in names))
            found = await asyncio.gather(*(Author.objects.filter(name=name).aexists() for name in names))
            assert found == [True] * 5

    run(main())


def test_async_views_know_their_user_and_their_replica(sent: Sent):
    pk = old_book()

    async def main() -> None:
        client = AsyncClient()
        await client.post("/accounts/login/?next=/me/", {"username": "reader", "password": PASSWORD})
        assert (await client.get(f"/async/{pk}/")).json()["alias"] == "default"
        assert (await client.get(f"/async/{pk}/")).json()["user"] == "reader"
        stranger = AsyncClient()
        seen = (await stranger.get(f"/async/{pk}/")).json()
        assert seen["alias"] in ("replica1", "replica2")
        assert (await stranger.get(f"/async/{pk}/replica/")).json()["alias"] == "replica2"
        # Who must see their login is not sent back to before it.
        assert (await client.get(f"/async/{pk}/replica/")).json() == {
            "title": seen["title"],
            "alias": "default",
            "user": "reader",
        }

    run(main())


def test_a_transaction_in_an_async_request_and_what_follows():
    def write() -> Book:
        with transaction.atomic():
            book = new_book()
            assert Book.objects.filter(pk=book.pk).exists()
            transaction.on_commit(lambda: seen.append(Book.objects.get(pk=book.pk)))
        return book

    seen: list[Book] = []

    async def main() -> None:
        async with request_scope():
            book = await sync_to_async(write)()
            assert seen == [book]
            assert await Book.objects.aget(pk=book.pk) == book

    run(main())
