"""Who uses the site in a story, and what they see of it."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from html import unescape
from typing import Any


@dataclass
class Ending:
    """How a part ended: whether as the user would have it, what the user saw, and the queries behind it."""

    well: bool
    saw: str
    #: (alias, reason, SQL)
    queries: list[tuple[str, str | None, str]] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)


class Site:
    """The site and who uses it."""

    def __init__(self, engine: str, ask: Callable[[str], None]) -> None:
        from django.contrib.auth import get_user_model

        self.engine = engine
        self._ask = ask
        self.demo = get_user_model().objects.using("default").get(username="demo")
        self.visitor = browser()

    @functools.cached_property
    def member(self) -> Any:
        """The browser of somebody who has logged in."""
        client = browser()
        expect(client.post("/login/", {"username": "demo", "password": "demo"}), 302)
        # A session that no replica has is another story.
        self._ask("catch up")
        return client

    def settle(self) -> None:
        """Have the replicas catch up, and from now on be behind."""
        _ = self.member
        self._ask("settle")

    def another(self) -> Any:
        """A second browser of the same member."""
        client = browser()
        client.cookies["sessionid"] = self.member.cookies["sessionid"].value
        return client

    def wallet(self, coins: int) -> None:
        """The member's wallet as it is to be on the primary, nothing bought, and nobody else with a coin."""
        from replicant.tracing import record_queries
        from shop.models import Purchase, Wallet

        # A list of its own, so that what only prepares a round is not taken for the user's.
        with record_queries():
            Purchase.objects.using("default").filter(wallet__user=self.demo).delete()
            Wallet.objects.using("default").exclude(user=self.demo).delete()
            Wallet.objects.using("default").filter(user=self.demo).update(coins=coins)

    def given(self) -> int:
        """How many coins the others have got."""
        from replicant.tracing import record_queries
        from shop.models import Wallet

        with record_queries():
            return sum(Wallet.objects.using("default").exclude(user=self.demo).values_list("coins", flat=True))


def browser() -> Any:
    from django.test import Client

    return Client(raise_request_exception=False, SERVER_NAME="localhost")


def expect(response: Any, status: int) -> Any:
    """What only prepares a story must not fail."""
    if response.status_code != status:
        raise RuntimeError(f"{response.request['PATH_INFO']}: {outcome(response)}")
    return response


def outcome(response: Any) -> str:
    """What a user sees of a page that failed, with the reason a developer would find in the log."""
    if getattr(response, "exc_info", None):
        kind, error, _ = response.exc_info
        return f"{response.status_code}: {kind.__name__}: {str(error).splitlines()[0]}"
    if response.get("Content-Type", "").startswith("application/json"):
        return f"{response.status_code}: {response.content.decode()}"
    return str(response.status_code)


def message(page: Any, about: str = "") -> str:
    found = re.findall(r'<p class="message[^>]*>(.*?)</p>', page.content.decode(), re.DOTALL)
    return " ".join(unescape(text) for text in found if about in text)


def repeat(rounds: int, play: Callable[[], Ending], *tables: str) -> Ending:
    """Play until it ends badly; of the queries keep those that concern the tables."""
    from replicant.tracing import record_queries

    for number in range(1, rounds + 1):
        with record_queries() as queries:
            ending = play()
        if not ending.well:
            ending.saw += f" (time {number})" if number > 1 else ""
            break
    else:
        ending.saw += f" ({rounds} times)"
    ending.queries = [
        (query.alias, query.reason, query.sql)
        for query in queries
        if any(table in query.sql for table in tables) and not query.sql.startswith("SAVEPOINT")
    ]
    return ending
