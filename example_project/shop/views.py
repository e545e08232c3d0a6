from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_POST

from replicant import use_primary, use_replica
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
def buy(request: HttpRequest, slug: str) -> HttpResponse:
    wanted = get_object_or_404(EmoticonSet, slug=slug)
    try:
        pay(request.user, wanted)
    except PaymentRefused as refused:
        messages.warning(request, str(refused))
    else:
        messages.success(request, f"{wanted} is yours.")
    return redirect("wallet")


@login_required
def wallet(request: HttpRequest) -> HttpResponse:
    # Money is shown as it is, not as it was a moment ago on a replica.
    with use_primary():
        mine = Wallet.objects.filter(user=request.user).first()
        purchases = list(mine.purchases.select_related("emoticon_set")) if mine else []
    return render(request, "shop/wallet.html", {"wallet": mine, "purchases": purchases})
