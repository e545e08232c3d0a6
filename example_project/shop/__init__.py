"""Emoticon sets, and the coins to buy them with: what must never be read stale."""
