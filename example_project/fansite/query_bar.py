"""The bar at the foot of every page: which database answered each of its queries, and why, and how far each one is.

``replicant.tracing`` does the work; this is a middleware that collects a request's queries and puts them in place of
a placeholder in the page. A request that ends in a redirect shows nothing by itself: its queries are kept, in this
process, for the page that follows. What is said of the databases and of the visitor is in ``members.py``.
"""

from __future__ import annotations

import re
import secrets
import threading
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.template.loader import render_to_string

from fansite.members import colour, members, required
from replicant.tracing import Query, record_queries

PLACEHOLDER = b"<!-- query bar -->"
COOKIE = "before_redirect"
#: The sliders' own view, of which the bar is not about.
SLIDERS = "set_delay"
#: How many redirects' queries are kept for pages that have not been asked for yet.
KEPT = 100

REASONS = {
    "write": "a write",
    "exempt": "always read from the primary",
    "use_primary": "the view, or a POST, keeps its reads here",
    "transaction": "in a transaction",
    "pinned": "no replica is known to have what this visitor must see",
    "use_replica": "the view names this replica",
    "instance": "where the object it hangs on came from",
    "sticky": "this request's replica",
    "balanced": "first read: drawn by weight",
    "default": "reads go to the primary here",
    "unavailable": "no replica could serve it",
    None: "asked by name, or by no router",
}


@dataclass(frozen=True)
class Row:
    """A query as the bar shows it."""

    alias: str
    colour: int
    reason: str
    meaning: str
    summary: str
    sql: str
    milliseconds: float


@dataclass(frozen=True)
class Handled:
    """A request and what it asked of the databases."""

    method: str
    path: str
    view: str
    rows: list[Row]

    @property
    def counts(self) -> list[tuple[str, int, int]]:
        """(alias, its colour, how many queries), in the order of ``DATABASES``."""
        counts = Counter((row.colour, row.alias) for row in self.rows)
        return [(alias, colour, count) for (colour, alias), count in sorted(counts.items())]

    @property
    def milliseconds(self) -> float:
        return sum(row.milliseconds for row in self.rows)

    @property
    def is_about_sliders(self) -> bool:
        return self.view == SLIDERS


class QueryBarMiddleware:
    """Records the queries of a request and shows them in the page. Sync and async."""

    sync_capable = True
    async_capable = True

    def __init__(self, get_response: Callable[[HttpRequest], Any]) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> HttpResponseBase | Awaitable[HttpResponseBase]:
        if self.is_async:
            return self.call_async(request)
        with record_queries() as queries:
            response = self.get_response(request)
        return show(request, response, queries)

    async def call_async(self, request: HttpRequest) -> HttpResponseBase:
        with record_queries() as queries:
            response = await self.get_response(request)
        return show(request, response, queries)


def show(request: HttpRequest, response: HttpResponseBase, queries: list[Query]) -> HttpResponseBase:
    """Put the bar into a page; keep what there is to show if the browser is sent elsewhere."""
    view = request.resolver_match.view_name if request.resolver_match else ""
    handled = Handled(request.method or "", request.path, view, [_row(query) for query in queries])
    if 300 <= response.status_code < 400:
        ticket = _keep([*_take(request), handled])
        response.set_cookie(COOKIE, ticket, max_age=60, httponly=True, samesite="Lax")
    elif _is_page(response):
        before = _take(request)
        # First: the answer may tell more of the members.
        stands_for = required(request)
        shown = members()
        context = {
            "handled": handled,
            "before": [earlier for earlier in before if not earlier.is_about_sliders],
            # Whoever has just moved a slider had the bar open.
            "open": any(earlier.is_about_sliders for earlier in before),
            "members": shown,
            "stands_for": stands_for,
            "is_pinned": bool(stands_for) and not any(member.serves for member in shown if member.is_replica),
            "router": settings.DATABASE_ROUTERS[0],
        }
        bar = render_to_string("query_bar.html", context, request).encode()
        response.content = response.content.replace(PLACEHOLDER, bar, 1)
        response["Content-Length"] = str(len(response.content))
        # The sliders are a form, and the middleware that gives forms their cookie is inside of this one.
        _csrf.process_response(request, response)
        if COOKIE in request.COOKIES:
            response.delete_cookie(COOKIE, samesite="Lax")
    return response


_csrf = CsrfViewMiddleware(lambda request: HttpResponse())


def _is_page(response: HttpResponseBase) -> bool:
    return (
        isinstance(response, HttpResponse)
        and response.get("Content-Type", "").startswith("text/html")
        and not response.has_header("Content-Encoding")
        and PLACEHOLDER in response.content
    )


# What was asked before a redirect.

_kept: OrderedDict[str, list[Handled]] = OrderedDict()
_kept_lock = threading.Lock()


def _keep(handled: list[Handled]) -> str:
    ticket = secrets.token_urlsafe(12)
    with _kept_lock:
        # A browser that only ever follows redirects gathers no more than the last few.
        _kept[ticket] = handled[-3:]
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
    return ticket


def _take(request: HttpRequest) -> list[Handled]:
    with _kept_lock:
        return _kept.pop(request.COOKIES.get(COOKIE, ""), [])


# How a query is shown.


def _row(query: Query) -> Row:
    return Row(
        alias=query.alias,
        colour=colour(query.alias),
        reason=query.reason or "none",
        meaning=REASONS.get(query.reason, ""),
        summary=in_a_line(query.sql),
        sql=_lines(query.sql),
        milliseconds=query.seconds * 1000,
    )


_QUOTES = re.compile(r'["`]')
_COLUMNS = re.compile(r"^(SELECT(?: DISTINCT)?) (.{40,}?) (?=FROM )", re.DOTALL)
_VALUES = re.compile(r" \(.{30,}\) VALUES \(.*\)", re.DOTALL)
_CLAUSES = re.compile(r" (?=(?:FROM|(?:INNER|LEFT OUTER) JOIN|WHERE|GROUP BY|ORDER BY|LIMIT|SET|VALUES|RETURNING)\b)")


def in_a_line(sql: str) -> str:
    """A statement in a line: what it does, to which table, under which condition."""
    return _VALUES.sub(" …", _COLUMNS.sub(r"\1 … ", _QUOTES.sub("", sql)))


def _lines(sql: str) -> str:
    """The whole statement, a clause a line."""
    return _CLAUSES.sub("\n", _QUOTES.sub("", sql))
