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
    wait_until(lambda: visitor.get("/boards/").behind("replica2") >= 2.0, 5, "replica2 is 2 s behind")
    page = visitor.get("/boards/")
    assert 1.0 <= page.behind("replica1") < 1.5
    assert 2.0 <= page.behind("replica2") < 2.5


@pytest.mark.slow
def test_a_slider_sets_how_far_behind_a_replica_is(start: Callable[..., Any], wait_until: Callable[..., None]) -> None:
    visitor = start("--lag", "20").browser()
    stops = re.search(r'class="stops".*?>(.*?)</span></span>', visitor.get("/boards/").text, re.DOTALL)
    assert stops is not None
    assert re.findall(r"<span>(.*?)</span>?", stops[1] + "</span>") == ["0 s", "50 ms", "500 ms", "5 s", "20 s", "40 s"]
    wait_until(lambda: visitor.get("/boards/").behind("replica1") > 1, 5, "replica1 is more than 1 s behind")

    page = visitor.delay("replica1", 2)

    assert (page.path, page.member("replica1")["slider"], page.member("replica2")["slider"]) == ("/boards/", "2", "5")
    assert '<details class="query-bar" open>' in page.text
    # It is about the page, and says nothing of the slider's own request.
    assert "/replicas/replica1/delay/</" not in page.text
    wait_until(lambda: 0.5 <= visitor.get("/boards/").behind("replica1") < 1, 5, "replica1 is 500 ms behind")
    assert visitor.get("/boards/").behind("replica2") > 1


@pytest.mark.parametrize(
    ("alias", "stop"), [("default", "0"), ("replica9", "0"), ("replica1", "99"), ("replica1", "x")]
)
def test_a_slider_that_is_not_there_is_not_found(visitor: Any, alias: str, stop: str) -> None:
    visitor.get("/boards/")
    assert visitor.delay(alias, stop).status == 404


def test_a_slider_leads_nowhere_else(visitor: Any) -> None:
    visitor.get("/boards/")
    assert visitor.post("/replicas/replica1/delay/", stop="3", next="http://elsewhere.example/").path == "/"


def test_a_page_that_is_not_there_has_a_bar_as_well(visitor: Any) -> None:
    page = visitor.get("/banners/99999/")
    assert page.status == 404
    assert len(page.queries()) == 1
    assert page.aliases() < REPLICAS


# Reading what one has written


@pytest.mark.slow
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
    assert page.aliases() == {"default"}
    assert ("default", "pinned") in page.queries()
    assert page.visitor == ("Your token stands for a write just now.", True)
    # The form's own request is in the bar, and read nothing from a replica.
    assert page.aliases("POST /banners/new/") == {"default"}
    # The list, too, and nobody else's reads.
    assert "Bring a lamp" in member.get("/banners/").text
    assert demo.browser().get("/banners/").aliases() < REPLICAS

    # SQLite counts no positions: the replicas serve again when even the slowest slider allows it.
    wait_until(lambda: rows(demo, "replica2", there, number) == [(1,)], 5, "both replicas have the banner")
    wait_until(lambda: bool(member.get(page.path).aliases() & REPLICAS), 10, "the replicas serve it")
    assert not member.get(page.path).visitor[1]


def test_who_writes_nothing_is_required_to_see_nothing(visitor: Any) -> None:
    visitor.get("/")
    page = visitor.get("/boards/")
    assert page.visitor == ("You have no token: you have written nothing that a replica could lack.", False)
    assert not [cookie.name for cookie in visitor.cookies if cookie.name.startswith("replicant_token")]


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
