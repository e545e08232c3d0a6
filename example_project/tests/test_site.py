"""What a visitor of the site sees while the replicas are behind."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

REPLICAS = {"replica1", "replica2"}


def rows(demo: Any, alias: str, sql: str, *parameters: object) -> list[Any]:
    """Ask a database file itself."""
    with closing(sqlite3.connect(demo.folder / f"{alias}.sqlite3")) as connection:
        return connection.execute(sql, parameters).fetchall()


def balance(page: Any) -> int:
    found = re.search(r"<strong>(\d+)</strong> coins", page.text)
    assert found
    return int(found[1])


# Pages


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/boards/",
        "/boards/theories/",
        "/boards/theories/?page=2",
        "/posts/3/",
        "/banners/",
        "/banners/1/",
        "/shop/",
    ],
)
def test_a_page_for_everybody_is_read_from_one_replica(visitor: Any, path: str) -> None:
    page = visitor.get(path)
    assert page.status == 200
    assert page.length == len(page.text.encode())
    assert len(page.aliases()) == 1
    assert page.aliases() < REPLICAS
    assert [reason for _, reason in page.queries()][1:] == ["sticky"] * (len(page.queries()) - 1)


@pytest.mark.parametrize("path", ["/wallet/", "/banners/new/", "/boards/theories/write/", "/admin/"])
def test_a_members_page_answers_and_reads_the_session_from_the_primary(member: Any, path: str) -> None:
    page = member.get(path)
    assert (page.status, page.path) == (200, path)
    assert ("default", "exempt") in page.queries()


@pytest.mark.parametrize("path", ["/wallet/", "/banners/new/", "/boards/theories/write/"])
def test_who_is_not_logged_in_is_asked_to(visitor: Any, path: str) -> None:
    page = visitor.get(path)
    assert (page.status, page.path) == (200, "/login/")
    assert "<code>demo</code>" in page.text


def test_the_async_front_page_awaits_all_its_queries_on_one_replica(visitor: Any) -> None:
    seen = [visitor.get("/").queries() for _ in range(12)]
    for queries in seen:
        assert len(queries) == 5
        assert len({alias for alias, _ in queries}) == 1
    assert {queries[0][1] for queries in seen} == {"balanced"}
    # replica1 has two shares of three: that none of twelve pages is its own has a chance of 1 in 531441.
    assert "replica1" in {queries[0][0] for queries in seen}


def test_the_statistics_are_read_from_the_replica_their_view_names(visitor: Any) -> None:
    assert visitor.get("/statistics/").queries() == [("replica2", "use_replica")] * 3


def test_the_bar_says_how_far_behind_each_replica_is(visitor: Any, demo: Any, wait_until: Callable[..., None]) -> None:
    def behind() -> list[float]:
        text = visitor.get("/boards/").text
        return [float(seconds) for seconds in re.findall(r"replica[12] ([\d.]+) s</span>", text)]

    wait_until(lambda: behind()[1] >= 2.0, 5, "replica2 is 2 s behind")
    first, second = behind()
    assert 1.0 <= first < 1.5
    assert 2.0 <= second < 2.5


def test_a_page_that_is_not_there_has_a_bar_as_well(visitor: Any) -> None:
    page = visitor.get("/banners/99999/")
    assert page.status == 404
    # The primary was asked, too, before the answer was no.
    assert page.queries()[1] == ("default", "use_primary")


# Reading what one has written


def test_a_banner_just_saved_is_shown_though_the_replicas_lack_it(
    member: Any, demo: Any, wait_until: Callable[..., None]
) -> None:
    page = member.post("/banners/new/", title="Bring a lamp", text="It is <dark>", colour="plum")

    number = int(page.path.split("/")[2])
    there = "SELECT COUNT(*) FROM banners_banner WHERE id = ?"
    assert rows(demo, "primary", there, number) == [(1,)]
    assert rows(demo, "replica1", there, number) == [(0,)]
    assert rows(demo, "replica2", there, number) == [(0,)]
    assert (page.status, page.path) == (200, f"/banners/{number}/")
    assert "It is &lt;dark&gt;" in page.text
    assert ("default", "use_primary") in page.queries()
    # The form's own request is in the bar, and read nothing from a replica.
    assert page.aliases("POST /banners/new/") == {"default"}

    # The replicas get it after their lag, the nearer one first; then the primary is left alone.
    wait_until(lambda: rows(demo, "replica1", there, number) == [(1,)], 5, "replica1 has the banner")
    assert rows(demo, "replica2", there, number) == [(0,)]
    wait_until(lambda: rows(demo, "replica2", there, number) == [(1,)], 5, "replica2 has the banner")
    again = member.get(page.path)
    assert again.queries()[0][0] in REPLICAS
    assert ("default", "use_primary") not in again.queries()


def test_a_post_just_written_is_shown_and_may_look_like_the_place_of_the_bar(member: Any) -> None:
    page = member.post("/boards/drawings/write/", title="A moth", body="<!-- query bar --> in charcoal")
    assert page.status == 200
    assert "&lt;!-- query bar --&gt; in charcoal" in page.text
    assert page.text.count('<details class="query-bar">') == 1


def test_a_form_with_a_mistake_is_shown_again(member: Any) -> None:
    page = member.post("/boards/drawings/write/", title="A moth", body="")
    assert (page.status, page.path) == (200, "/boards/drawings/write/")
    assert "This field is required" in page.text
    assert page.aliases("POST /boards/drawings/write/") == {"default"}


# Paying


def test_a_payment_shows_the_new_balance_at_once(member: Any) -> None:
    before = balance(member.get("/wallet/"))

    page = member.post("/shop/first-light/buy/")

    assert page.path == "/wallet/"
    assert page.message == "First Light is yours."
    # Read inside of the payment's transaction.
    assert f"You have {before - 30} coins left." in page.text
    assert balance(page) == before - 30
    assert {("default", "write"), ("default", "transaction")} < set(page.queries("POST /shop/first-light/buy/"))
    again = member.post("/shop/first-light/buy/")
    assert again.message == "First Light is yours already."
    assert balance(again) == before - 30


def test_two_payments_cannot_spend_one_coin(member: Any) -> None:
    before = balance(member.get("/wallet/"))
    prices = {"storm-warning": 200, "moths": 250}
    assert max(prices.values()) <= before < sum(prices.values())

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(lambda slug: member.post(f"/shop/{slug}/buy/"), prices))

    assert {answer.status for answer in answers} == {200}
    left = balance(member.get("/wallet/"))
    assert left in {before - price for price in prices.values()}
    shop = member.get("/shop/").text
    assert [f"/shop/{slug}/buy/" in shop for slug in prices].count(False) == 1

    refused = member.post(f"/shop/{'moths' if left == before - 200 else 'storm-warning'}/buy/")
    assert f"and you have {left}. Nothing was taken from your wallet." in refused.message
    assert balance(refused) == left


# What only the primary may be asked


def test_a_count_in_the_databases_cache_is_read_where_it_was_written(member: Any) -> None:
    assert member.post("/banners/1/cheer/").message == "Cheers: 1."
    page = member.post("/banners/1/cheer/")
    assert page.message == "Cheers: 2."
    assert page.aliases("POST /banners/1/cheer/") == {"default"}


@pytest.mark.parametrize(("path", "reason"), [("/posts/1/tip/", "transaction"), ("/wallet/give/moth/", "use_primary")])
def test_a_coin_is_handed_over_under_a_lock(member: Any, path: str, reason: str) -> None:
    before = balance(member.get("/wallet/"))
    page = member.post(path)
    assert page.message.endswith("has your coin.")
    assert ("default", reason) in page.queries(f"POST {path}")
    assert balance(member.get("/wallet/")) == before - 1
