"""Paying. The one place that takes coins out of a wallet."""

from __future__ import annotations

from django.contrib.auth.models import AbstractBaseUser
from django.db import transaction
from django.db.models import F

from shop.models import EmoticonSet, Purchase, Wallet


class PaymentRefused(Exception):
    """Nothing was paid; the text is for the buyer."""


def pay(user: AbstractBaseUser, emoticon_set: EmoticonSet) -> Wallet:
    """Buy a set out of the user's wallet and return it, or raise ``PaymentRefused``.

    The wallet's row is locked, so that of two payments at once the second sees what the first one left. A
    transaction reads from the primary, whatever scope is open around it: so does the new balance.
    """
    with transaction.atomic():
        wallet, _ = Wallet.objects.select_for_update().get_or_create(user=user)
        if wallet.purchases.filter(emoticon_set=emoticon_set).exists():
            raise PaymentRefused(f"{emoticon_set} is yours already.")
        if wallet.coins < emoticon_set.price:
            raise PaymentRefused(
                f"{emoticon_set} costs {emoticon_set.price} coins and you have {wallet.coins}. "
                "Nothing was taken from your wallet."
            )
        wallet.coins = F("coins") - emoticon_set.price
        wallet.save(update_fields=["coins"])
        wallet.refresh_from_db()
        Purchase.objects.create(wallet=wallet, emoticon_set=emoticon_set, price=emoticon_set.price)
    return wallet
