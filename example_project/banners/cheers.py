"""How often a banner was cheered: a number in the cache, which nobody would miss."""

from __future__ import annotations

from django.core.cache import cache


def begin(banner: int) -> None:
    """Start to count, at 0."""
    cache.set(_key(banner), 0, timeout=None)


def add(banner: int) -> int:
    """One more. Returns how many there are now; raises ``ValueError`` if the count was never begun."""
    return cache.incr(_key(banner))


def _key(banner: int) -> str:
    return f"cheers:{banner}"
