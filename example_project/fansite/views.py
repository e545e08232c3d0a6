"""The pages that are about the whole site."""

from __future__ import annotations

import asyncio

from django.contrib.auth import get_user_model
from django.db.models import Count
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST

from banners.models import Banner
from boards.models import Board, Post
from fansite import delays
from replicant import use_replica
from shop.models import EmoticonSet


@use_replica
async def front(request: HttpRequest) -> HttpResponse:
    """An async view: one scope, and so one replica, for everything that is awaited in it."""
    posts, members = await asyncio.gather(Post.objects.acount(), get_user_model().objects.acount())
    context = {
        "banner": await Banner.objects.select_related("author").order_by("-pk").afirst(),
        "latest_posts": [post async for post in Post.objects.select_related("author", "board")[:6]],
        "newest_set": await EmoticonSet.objects.order_by("-pk").afirst(),
        "posts": posts,
        "members": members,
        # Loaded here: the template must not send a query of its own in a thread that runs an event loop.
        "user": await request.auser(),
    }
    return render(request, "front.html", context)


@use_replica("replica2")
def statistics(request: HttpRequest) -> HttpResponse:
    """The heavy queries: always on the same replica, where they slow nobody else down."""
    boards = list(Board.objects.annotate(size=Count("posts")).order_by("-size", "name"))
    authors = get_user_model().objects.annotate(size=Count("posts")).filter(size__gt=0).order_by("-size")[:5]
    sets = EmoticonSet.objects.annotate(sold=Count("purchases")).order_by("-sold", "name")
    context = {
        "boards": boards,
        "largest": max((board.size for board in boards), default=0) or 1,
        "authors": list(authors),
        "sets": list(sets),
    }
    return render(request, "statistics.html", context)


@require_POST
def set_delay(request: HttpRequest, alias: str) -> HttpResponse:
    """A slider of the bar was moved. Asks no database."""
    if delays.of_the_demo is None:
        raise Http404("no demo runs here")
    try:
        delays.of_the_demo.set(alias, int(request.POST.get("stop", "")))
    except (LookupError, ValueError):
        raise Http404("no such replica, or no such delay") from None
    back = request.POST.get("next", "")
    return redirect(back if url_has_allowed_host_and_scheme(back, {request.get_host()}) else "front")
