"""The same visitors for every site: what they read and write, and whether a page lacks what they wrote before."""

from __future__ import annotations

import http.client
import random
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from urllib.parse import urlencode

#: Of a hundred visits, this many write something: a banner or a post.
WRITING = 5
BOARDS = ("episodes", "theories", "drawings", "recordings", "meetings", "lost-and-found")
READ = ("/", "/boards/", "/banners/", "/shop/", *(f"/boards/{slug}/" for slug in BOARDS))
_OK, _MOVED, _MISSING = 200, 302, 404


@dataclass
class Tally:
    """What was asked, and what was wrong with the answers."""

    requests: int = 0
    written: int = 0
    stale_pages: int = 0
    """The page that a visitor was sent to after writing, without what was written (or none at all)."""
    stale_lists: int = 0
    """The list that a visitor looked at next, without what was written."""
    failed: int = 0
    """Any other answer than the one a site without replicas gives: a 500, or a visitor who had been logged out."""
    failures: dict[str, int] = field(default_factory=dict)

    @property
    def stale(self) -> int:
        return self.stale_pages + self.stale_lists


class Visitor:
    """A browser: a kept connection, and cookies."""

    def __init__(self, port: int, tally: Tally, patience: float = 60.0) -> None:
        self.seconds: list[float] = []
        """How long each request took."""
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
        self._cookies: dict[str, str] = {}
        self._tally = tally

    def get(self, path: str) -> tuple[int, str]:
        return self._ask("GET", path)[:2]

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, str]:
        """The status, and where the visitor is sent."""
        body = urlencode({**fields, "csrfmiddlewaretoken": self._cookies.get("csrftoken", "")})
        status, _, location = self._ask("POST", path, body)
        return status, location

    def log_in(self, name: str) -> bool:
        self.get("/login/")
        return self.post("/login/", {"username": name, "password": "visitor"})[0] == _MOVED

    def close(self) -> None:
        self._connection.close()

    def failed(self, what: str) -> None:
        self._tally.failed += 1
        self._tally.failures[what] = self._tally.failures.get(what, 0) + 1

    def _ask(self, method: str, path: str, body: str | None = None) -> tuple[int, str, str]:
        headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in self._cookies.items())}
        if body is not None:
            headers["Content-Type"] = "application/x-www-form-urlencoded"
        begun = time.monotonic()
        self._connection.request(method, path, body, headers)
        answer = self._connection.getresponse()
        page = answer.read().decode()
        self.seconds.append(time.monotonic() - begun)
        for cookie in answer.headers.get_all("Set-Cookie") or ():
            for name, morsel in SimpleCookie(cookie).items():
                self._cookies[name] = morsel.value
                if morsel["max-age"] == "0" or not morsel.value:
                    del self._cookies[name]
        self._tally.requests += 1
        return answer.status, page, answer.headers.get("Location", "")


def visits(visitor: Visitor, tally: Tally, seed: int | str, writing: int = WRITING) -> Iterator[None]:
    """Endless visits, one or a few requests each; the same for the same seed. Of a hundred, ``writing`` write."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        if chance.randrange(100) >= writing:
            path = chance.choice(READ)
            status, _ = visitor.get(path)
            if status != _OK:
                visitor.failed(f"GET {path}: {status}")
        elif chance.random() < 0.5:
            _write(visitor, tally, f"banner {seed}-{number}", "/banners/new/", "/banners/", {"colour": "sea"})
        else:
            listed = f"/boards/{chance.choice(BOARDS)}/"
            _write(visitor, tally, f"post {seed}-{number}", f"{listed}write/", listed, {})
        yield


def _write(visitor: Visitor, tally: Tally, title: str, path: str, listed: str, more: dict[str, str]) -> None:
    status, _ = visitor.get(path)  # the form
    if status != _OK:
        visitor.failed(f"GET {path}: {status}")
        return
    fields = {"title": title, "text": title, "body": title, **more}
    status, location = visitor.post(path, fields)
    if status != _MOVED or "/login/" in location:
        visitor.failed(f"POST {re.sub('[0-9]+', 'N', path)}: {status} {location[:8]}")
        return
    tally.written += 1
    tally.stale_pages += _lacks(visitor, title, location)
    # The others may have written so much since that it is no longer on the first page.
    tally.stale_lists += _lacks(visitor, title, listed) and _lacks(visitor, title, f"{listed}?page=2")


def _lacks(visitor: Visitor, title: str, path: str) -> bool:
    """Whether a page is shown without what was written, or not found."""
    status, page = visitor.get(path)
    if status not in (_OK, _MISSING):
        visitor.failed(f"GET {re.sub('[0-9]+', 'N', path)}: {status}")
        return False
    return title not in page
