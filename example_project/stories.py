"""The five stories: what a browser or an app does on the site while the replicas are behind, and how that ends.

A part of a story is repeated until it ends badly, or so often that luck is no explanation.
"""

from __future__ import annotations

import base64
import contextvars
import functools
import hashlib
import itertools
import math
import secrets
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

from visitor import Ending, Site, browser, expect, message, outcome, repeat

#: How likely a part that proves nothing may pass for one that does.
LUCK = 1e-9
#: For how long a buyer who is in the lock waits for the other one to come in, in seconds.
MEETING = 0.1


@dataclass(frozen=True)
class Part:
    """One thing that is done on the site, and how it should end.

    ``share`` of the rounds, at least, end badly with a router that tosses a coin between primary and replica, if the
    replicas are ``behind`` by as much: longer than it takes from a write to the read that should see it, on a machine
    that has other things to do. Where a server knows of locks that SQLite has not, ``on_servers`` takes its place.
    """

    story: str
    title: str
    play: Callable[[Site, int], Ending]
    share: float
    behind: float
    on_servers: float | None = None
    engines: tuple[str, ...] = ("sqlite", "mysql", "mariadb", "postgresql")

    @property
    def rounds(self) -> int:
        return math.ceil(math.log(LUCK) / math.log(1 - self.share))

    def must_end_badly(self, engine: str, delay: float) -> bool:
        """Whether it must with a naive router, at a delay in seconds."""
        behind = self.behind if engine == "sqlite" or self.on_servers is None else self.on_servers
        return delay >= behind


# The banner that was saved and not found


def banner_in_the_app(site: Site, rounds: int) -> Ending:
    from django.utils import timezone
    from oauth2_provider.models import AccessToken, Application

    token = secrets.token_urlsafe(16)
    application = Application.objects.using("default").get()
    expires = timezone.now() + timedelta(hours=1)
    AccessToken.objects.create(
        user=site.demo, application=application, token=token, expires=expires, scope="read write"
    )
    site.settle()

    def play() -> Ending:
        answer = site.visitor.post(
            "/api/banners/",
            {"title": "Fog", "text": "Slow down", "colour": "sea"},
            content_type="application/json",
            headers={"Authorization": f"Bearer {token}"},
        )
        if answer.status_code == 201:
            return Ending(True, "201, with the banner")
        return Ending(False, outcome(answer))

    return repeat(rounds, play, "banners_banner")


def banner_in_the_browser(site: Site, rounds: int) -> Ending:
    site.settle()

    def play() -> Ending:
        title = f"Fog {secrets.token_hex(4)}"
        page = site.member.post("/banners/new/", {"title": title, "text": "Slow down", "colour": "sea"}, follow=True)
        if page.status_code != 200 or not page.redirect_chain:
            return Ending(False, f"after saving it: {outcome(page)}")
        if title not in site.member.get("/banners/").content.decode():
            return Ending(False, "its page, then a list without it")
        return Ending(True, "its page, and the list with it")

    return repeat(rounds, play, "banners_banner")


# The old balance inside the payment's transaction


def payment(site: Site, rounds: int) -> Ending:
    site.wallet(300)
    site.settle()
    # Another balance each time, so that what was left the time before is never right by chance.
    balances = itertools.count(300)

    def play() -> Ending:
        coins = next(balances)
        site.wallet(coins)
        page = site.member.post("/shop/first-light/buy/", follow=True)
        said = message(page, "coins left") or outcome(page)
        return Ending(said == f"You have {coins - 30} coins left.", f"paid 30 of {coins}: {said!r}")

    return repeat(rounds, play, "shop_wallet")


# Two buyers, one coin


def one_coin(site: Site, rounds: int) -> Ending:
    site.wallet(1)
    site.settle()
    paths = ["/wallet/give/wick/", "/wallet/give/moth/"]

    def one_after_the_other() -> Ending:
        site.wallet(1)
        answers = [site.member.post(path) for path in paths]
        given = site.given()
        if given == 1 and [answer.status_code for answer in answers] == [302, 302]:
            return Ending(True, "had 1 coin, gave 1: the second was refused")
        return Ending(False, f"had 1 coin, gave {given}")

    spent_twice: list[Ending] = []

    def at_once() -> Ending:
        site.wallet(1)
        with _meeting(site.demo.pk) as met:
            answers = _at_once([functools.partial(site.another().post, path) for path in paths])
        given = site.given()
        if given == 1 and [answer.status_code for answer in answers] == [302, 302]:
            return Ending(True, "had 1 coin, gave 1: the second was refused")
        saw = f"had 1 coin, gave {given}"
        if met:
            return Ending(False, f"{saw}: the lock let both in at once")
        # A stale balance did it, though the lock held. Bad enough, but wait for what is wrong with the lock.
        spent_twice.append(Ending(False, saw))
        return Ending(True, "")

    if site.engine == "sqlite":
        return repeat(rounds, one_after_the_other, "shop_wallet")
    ending = repeat(rounds, at_once, "LOCK(", "lock(", "shop_wallet")
    return spent_twice[0] if ending.well and spent_twice else ending


@contextmanager
def _meeting(giver: int) -> Iterator[list[bool]]:
    """Hold whoever is about to spend the giver's coin until a second one is, but not for long."""
    from django.db.models.signals import pre_save

    from shop.models import Wallet

    barrier = threading.Barrier(2)
    met: list[bool] = []

    def wait(instance: Any, **kwargs: Any) -> None:
        if instance.user_id == giver:
            try:
                barrier.wait(MEETING)
            except threading.BrokenBarrierError:
                return
            met.append(True)

    pre_save.connect(wait, sender=Wallet)
    try:
        yield met
    finally:
        pre_save.disconnect(wait, sender=Wallet)


def _at_once(actions: list[Callable[[], Any]]) -> list[Any]:
    from django.db import connections

    def act(action: Callable[[], Any]) -> Any:
        try:
            return action()
        finally:
            connections.close_all()

    with ThreadPoolExecutor(len(actions)) as pool:
        # In copies of this context: that is how record_queries() sees them.
        begun = [pool.submit(contextvars.copy_context().run, act, action) for action in actions]
    return [one.result() for one in begun]


def row_lock(site: Site, rounds: int) -> Ending:
    from boards.models import Post

    site.wallet(1000)
    site.settle()
    post = Post.objects.using("default").order_by("pk")[0]

    def play() -> Ending:
        page = site.member.post(f"/posts/{post.pk}/tip/", follow=True)
        said = message(page, "has your coin")
        return Ending(bool(said), said or outcome(page))

    return repeat(rounds, play, "shop_wallet")


# The login that lost its token


def code_of_the_app(site: Site, rounds: int) -> Ending:
    site.settle()

    def play() -> Ending:
        answer = _exchange(site, *_authorize(site))
        if answer.status_code != 200:
            return Ending(False, f"the code just granted: {outcome(answer)}")
        return _use(site, answer)

    return repeat(rounds, play, "oauth2_provider_grant", "oauth2_provider_accesstoken")


def token_of_the_app(site: Site, rounds: int) -> Ending:
    codes = [_authorize(site) for _ in range(rounds)]
    site.settle()

    def play() -> Ending:
        answer = _exchange(site, *codes.pop())
        if answer.status_code != 200:
            return Ending(False, f"the code: {outcome(answer)}")
        return _use(site, answer)

    return repeat(rounds, play, "oauth2_provider_accesstoken")


def _authorize(site: Site) -> tuple[str, str]:
    """Let the member allow the app to log in. Returns the code and the secret that proves whose it is (RFC 7636)."""
    from api.clients import CLIENT_ID, REDIRECT_URI

    verifier = secrets.token_urlsafe(48)
    digest = hashlib.sha256(verifier.encode()).digest()
    asked = {
        "response_type": "code",
        "client_id": CLIENT_ID,
        "redirect_uri": REDIRECT_URI,
        "scope": "read write",
        "state": secrets.token_urlsafe(8),
        "code_challenge": base64.urlsafe_b64encode(digest).rstrip(b"=").decode(),
        "code_challenge_method": "S256",
    }
    expect(site.member.get("/oauth/authorize/", asked), 200)
    answer = expect(site.member.post("/oauth/authorize/", {**asked, "allow": "Authorize"}), 302)
    return parse_qs(urlsplit(answer["Location"]).query)["code"][0], verifier


def _exchange(site: Site, code: str, verifier: str) -> Any:
    from api.clients import CLIENT_ID, REDIRECT_URI

    return site.visitor.post(
        "/oauth/token/",
        {
            "grant_type": "authorization_code",
            "client_id": CLIENT_ID,
            "redirect_uri": REDIRECT_URI,
            "code": code,
            "code_verifier": verifier,
        },
    )


def _use(site: Site, answer: Any) -> Ending:
    token = answer.json()["access_token"]
    banners = site.visitor.get("/api/banners/", headers={"Authorization": f"Bearer {token}"})
    if banners.status_code != 200:
        return Ending(False, f"the token just issued: {outcome(banners)}")
    return Ending(True, "logged in, and shown the banners")


def cheers(site: Site, rounds: int) -> Ending:
    from django.core.cache import cache

    from replicant.tracing import record_queries

    cache.clear()
    site.settle()

    def play() -> Ending:
        with record_queries():
            cache.clear()
        page = site.member.post("/banners/1/cheer/", follow=True)
        said = message(page, "Cheers") or outcome(page)
        return Ending(said == "Cheers: 1.", repr(said) if page.status_code == 200 else said)

    return repeat(rounds, play, "django_cache")


# The writer that still served half of the reads


def readers(site: Site, rounds: int) -> Ending:
    """A visitor who only reads, and so is required to see nothing. The verdict takes two of these: see ``compare``."""
    from boards.models import Post
    from replicant.tracing import record_queries

    post = Post.objects.using("default").order_by("pk")[0]
    visitor = browser()
    pages = ["/", "/boards/", "/boards/theories/", post.get_absolute_url(), "/banners/", "/shop/"]
    with record_queries() as queries:
        for number in range(rounds):
            expect(visitor.get(pages[number % len(pages)]), 200)
    reads = Counter(query.alias for query in queries if query.sql.startswith("SELECT"))
    return Ending(True, "", [(query.alias, query.reason, query.sql) for query in queries[-3:]], dict(reads))


def compare(before: Ending, after: Ending) -> Ending:
    """The writer is there to write, and a server that was added is there to be used."""
    replicas = ["replica1", "replica2", "replica3"]
    well = before.reads.keys() == set(replicas[:2]) and after.reads.keys() == set(replicas)
    saw = f"{_shares(before.reads, replicas[:2])}; with a third: {_shares(after.reads, replicas)}"
    idle = [alias for alias in replicas if alias not in after.reads]
    if idle:
        saw += f"; {' and '.join(idle)}: never asked"
    return Ending(well, saw, [*before.queries, *after.queries])


def _shares(reads: dict[str, int], replicas: list[str]) -> str:
    """Each one's part of the reads, in hundredths."""
    writer, *others = [round(100 * reads.get(alias, 0) / sum(reads.values())) for alias in ["default", *replicas]]
    return f"writer {writer} %, replicas {' + '.join(map(str, others))}"


SERVERS = ("mysql", "mariadb", "postgresql")
BANNER = "1. The banner that was saved and not found"
PAYMENT = "2. The old balance, read inside the payment's transaction"
COIN = "3. Two buyers, one coin"
LIBRARY = "4. The library that lost what it had just written"
WRITER = "5. The writer that still served half of the reads"
#: From a write to the read that should see it: in one request, and in the next one. In seconds.
AT_ONCE, NEXT = 0.05, 0.5
PARTS = {
    "api": Part(BANNER, "saved in the app", banner_in_the_app, 1 / 2, AT_ONCE),
    "browser": Part(BANNER, "saved in the browser", banner_in_the_browser, 1 / 2, NEXT),
    "payment": Part(PAYMENT, "buys a set", payment, 1 / 2, AT_ONCE),
    # On servers, the two locks must be taken on two of them.
    "coin": Part(COIN, "given to two at once", one_coin, 1 / 2, NEXT, on_servers=0),
    "row_lock": Part(COIN, "raw FOR UPDATE", row_lock, 1 / 2, 0, engines=SERVERS),
    # The library reads the code four times and the token twice; one of them is enough.
    "code": Part(LIBRARY, "OAuth: the code", code_of_the_app, 15 / 16, AT_ONCE),
    "token": Part(LIBRARY, "OAuth: the token", token_of_the_app, 3 / 4, AT_ONCE),
    "cache": Part(LIBRARY, "cache: set, then incr", cheers, 1 / 2, AT_ONCE),
    # A replica whose weight is 1 of 4 must be drawn once.
    "readers": Part(WRITER, "pages read", readers, 1 / 4, 0),
}
NOTES = {
    BANNER: "In the app the request that saves it reads it back. In the browser the next two look for it: they bring "
    "the token that the first one left in a cookie.",
    COIN: "The lock is taken through raw(), which a router takes for a read. SQLite has no such lock: there one gives "
    "it after the other.",
    WRITER: "The third replica joins in the settings, and nowhere else.",
}
