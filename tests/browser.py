"""A browser's cookies, as far as tokens are concerned."""

from __future__ import annotations

from collections.abc import Mapping
from http.cookies import Morsel
from typing import Any

NAME = "replicant_token"
HEADER = "Replicant-Token"


def set_by(response: Any, name: str = NAME) -> dict[str, Morsel[str]]:
    """The cookies with tokens that a response sets."""
    return {key: morsel for key, morsel in response.cookies.items() if key.startswith(name) and morsel.value}


def deleted_by(response: Any, name: str = NAME) -> set[str]:
    """The names of the cookies with tokens that a response deletes."""
    return {key for key, morsel in response.cookies.items() if key.startswith(name) and not morsel.value}


def carries_token(response: Any) -> bool:
    return bool(set_by(response)) or HEADER in response.headers


def held(client: Any) -> dict[str, str]:
    """The tokens that Django's test client holds. It keeps cookies that were deleted, without a value."""
    return {key: morsel.value for key, morsel in client.cookies.items() if key.startswith(NAME) and morsel.value}


def forget(client: Any) -> None:
    """Drop all tokens of Django's test client."""
    for key in held(client):
        del client.cookies[key]


class Jar:
    """The cookies of one browser. Responses may be applied in any order, which a client of Django's cannot do."""

    def __init__(self, cookies: Mapping[str, str] = {}) -> None:
        self.cookies = dict(cookies)

    def header(self) -> str:
        return "; ".join(f"{key}={value}" for key, value in self.cookies.items())

    def apply(self, response: Any) -> None:
        """Take in what a response sets and deletes."""
        for key, morsel in response.cookies.items():
            if morsel.value and morsel["max-age"] != 0:
                self.cookies[key] = morsel.value
            else:
                self.cookies.pop(key, None)

    @property
    def tokens(self) -> list[str]:
        return [value for key, value in self.cookies.items() if key.startswith(NAME)]
