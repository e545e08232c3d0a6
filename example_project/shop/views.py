from __future__ import annotations

from django.contrib import messages
from django.contrib.auth import get_user_model
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from boards.models import Post
from replicant import use_primary, use_replica
from shop.gifts import give, tip
from shop.models import EmoticonSet, Purchase, Wallet
from shop.payments import PaymentRefused, pay


@use_replica
def shop(request: HttpRequest) -> HttpResponse:
    """The sets, which change with the seasons, from a replica; what is the visitor's own, from the primary."""
    context = {"sets": EmoticonSet.objects.all()}
    if request.user.is_authenticated:
        with use_primary():
            context["wallet"] = Wallet.objects.filter(user=request.user).first()
            owned = Purchase.objects.filter(wallet__user=request.user)
            context["owned"] = set(owned.values_list("emoticon_set", flat=True))
    return render(request, "shop/shop.html", context)


@login_required
@require_POST
@use_replica
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    """The set from a replica, though this is a POST; the payment from the primary, since it is a transaction."""
    wanted = get_object_or_404(EmoticonSet, slug=slug)
    try:
        paid_from = pay(request.user, wanted)
    except PaymentRefused as refused:
        messages.warning(request, str(refused))
    else:
        messages.success(request, f"{wanted} is yours.")
        messages.info(request, f"You have {paid_from.coins} coins left.")
    return redirect("wallet")


@login_required
@require_POST
def give_coin(request: HttpRequest, username: str) -> HttpResponse:
    """No scope of its own: the lock is taken outside of a transaction, and the POST keeps it on the primary."""
    receiver = get_object_or_404(get_user_model(), username=username)
    try:
        give(request.user, receiver, 1)
    except PaymentRefused as refused:
        messages.warning(request, str(refused))
    else:
        messages.success(request, f"{receiver} has your coin.")
    return redirect("wallet")


@login_required
@require_POST
@use_replica
def tip_author(request: HttpRequest, pk: int) -> HttpResponse:
    post = get_object_or_404(Post.objects.select_related("author"), pk=pk)
    try:
        tip(request.user, post.author)
    except PaymentRefused as refused:
        messages.warning(request, str(refused))
    else:
        messages.success(request, f"{post.author} has your coin.")
    return redirect(post)


@login_required
def wallet(request: HttpRequest) -> HttpResponse:
    # Money is shown as it is, not as it was a moment ago on a replica.
    with use_primary():
        mine = Wallet.objects.filter(user=request.user).first()
        purchases = list(mine.purchases.select_related("emoticon_set")) if mine else []
    return render(request, "shop/wallet.html", {"wallet": mine, "purchases": purchases})
