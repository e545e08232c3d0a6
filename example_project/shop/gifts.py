"""Coins from one member to another, locked in the two ways that the ORM does not offer and people write by hand.

Both are sent with ``raw()``, and a router takes that for a read. On a replica the one lock is taken and excludes
nobody, and the other is refused.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.contrib.auth.models import AbstractBaseUser
from django.db import connection, transaction
from django.db.models import F

from shop.models import Wallet
from shop.payments import PaymentRefused

#: To take a lock by its name, and to give it back. Raw queries must have a column for the primary key.
NAMED_LOCKS = {
    "mysql": (
        "SELECT 1 AS id, GET_LOCK(%s, 10) AS coins",
        "SELECT 1 AS id, RELEASE_LOCK(%s)",
    ),
    "postgresql": (
        "SELECT 1 AS id, 1 AS coins, pg_advisory_lock(hashtext(%s))",
        "SELECT 1 AS id, pg_advisory_unlock(hashtext(%s))",
    ),
}


def give(giver: AbstractBaseUser, receiver: AbstractBaseUser, coins: int) -> None:
    """Hand coins over under a named lock, or raise ``PaymentRefused``."""
    with named_lock(f"wallet of {giver.pk}"):
        wallet = Wallet.objects.get(user=giver)
        _hand_over(wallet, receiver, coins)


def tip(giver: AbstractBaseUser, receiver: AbstractBaseUser) -> None:
    """Hand one coin over under a row lock written by hand, or raise ``PaymentRefused``."""
    # SQLite has no such clause and needs none: its transaction has all other writers wait.
    lock = "FOR UPDATE" if connection.features.has_select_for_update else ""
    with transaction.atomic():
        [wallet] = Wallet.objects.raw(f"SELECT * FROM shop_wallet WHERE user_id = %s {lock}", [giver.pk])
        _hand_over(wallet, receiver, 1)


def _hand_over(wallet: Wallet, receiver: AbstractBaseUser, coins: int) -> None:
    if wallet.coins < coins:
        raise PaymentRefused(f"You have {wallet.coins} coins. Nothing was taken from your wallet.")
    with transaction.atomic():
        wallet.coins -= coins
        wallet.save(update_fields=["coins"])
        Wallet.objects.get_or_create(user=receiver)
        Wallet.objects.filter(user=receiver).update(coins=F("coins") + coins)


@contextmanager
def named_lock(name: str) -> Iterator[None]:
    """Let one at a time in; ``PaymentRefused`` after 10 s on MySQL and MariaDB. SQLite has no such locks."""
    if connection.vendor not in NAMED_LOCKS:
        yield
        return
    take, release = NAMED_LOCKS[connection.vendor]
    [lock] = Wallet.objects.raw(take, [name])
    if not lock.coins:
        raise PaymentRefused("Your wallet is in use. Try again.")
    try:
        yield
    finally:
        # A lock belongs to the session that took it, wherever a router sent that.
        list(Wallet.objects.raw(release, [name], using=lock._state.db))
