"""A small product of our own, by which the checker is checked: it keeps the promise, or breaks it in a known way.

It asks the servers' administrators, on the request's thread, at every read: nobody would want it. But it is right, and
each of its bugs is one line; the checker must tell the one from the other on real servers.
"""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import Any

from django.db import connections

from tests.consistency.clients import REPLICAS
from tests.consistency.history import PRIMARY
from tests.servers import Cluster, Node, QueryError

BUGS = ("one has caught up", "position before the read", "open snapshot")


#: Seconds between two looks at a replica, for the bug that takes them for what a read saw.
PROBE_SECONDS = 1.0


@dataclass
class _Scope:
    """What a request must see. Positions are texts as the administrator gives them, "" for none."""

    wrote: bool = False
    written: str = ""
    """It has written up to here, as far as it has asked."""
    member: str = ""
    """The replica it last read from ..."""
    process: int = 0
    """... and the process that served it there."""
    seen: str = ""
    """Where a probe had found that one (for a bug: what it had when it was read is not known)."""


_scope: ContextVar[_Scope | None] = ContextVar("handmade", default=None)


class HandMade:
    """A router, and what links a client's requests: ``DATABASE_ROUTERS=[x]`` and ``link=lambda: x``.

    A replica serves if it has all that the session wrote; another one than the session last read from, if it has
    all there is. One that has restarted is another one: a PostgreSQL replica that was killed comes back in an older
    state than it had shown.
    """

    def __init__(self, cluster: Cluster, bug: str = "") -> None:
        assert bug in ("", *BUGS), bug
        self._cluster = cluster
        self._bug = bug
        self._tokens: dict[str, _Scope] = {}
        self._numbers = itertools.count()
        self._probed: dict[str, tuple[float, str]] = {}

    # The router

    def db_for_write(self, model: Any, **hints: Any) -> str:
        scope = _scope.get()
        assert scope is not None
        scope.wrote = True
        return PRIMARY

    def db_for_read(self, model: Any, **hints: Any) -> str:
        scope = _scope.get()
        assert scope is not None
        if connections[PRIMARY].in_atomic_block:
            return PRIMARY
        self._publish(scope)
        shuffled = random.sample(REPLICAS, len(REPLICAS))
        serving = [alias for alias in shuffled if self._serves(scope, alias)]
        if self._bug == "one has caught up" and serving:
            serving = shuffled
        if not serving:
            return PRIMARY
        # It leaves its replica more often than it must: only then is there something to get wrong.
        scope.member = scope.member if scope.member in serving and random.random() < 0.7 else serving[0]
        scope.process = self._replica(scope.member).pid
        if self._bug == "position before the read":
            scope.seen = self._probe(scope.member)
        return scope.member

    def _serves(self, scope: _Scope, alias: str) -> bool:
        stays = scope.member == "" or (scope.member, scope.process) == (alias, self._replica(alias).pid)
        if connections[alias].in_atomic_block and (scope.written or not stays) and self._bug != "open snapshot":
            return False
        # At least what its last replica can have shown.
        seen = "" if stays else scope.seen or self._cluster.primary.position()
        return self._has(alias, scope.written) and self._has(alias, seen)

    def _has(self, alias: str, position: str) -> bool:
        try:
            return not position or self._replica(alias).reached(position, 0.0)
        except (OSError, QueryError):
            return False

    def _probe(self, alias: str) -> str:
        probed_at, position = self._probed.get(alias, (0.0, ""))
        if time.monotonic() - probed_at > PROBE_SECONDS:
            ask = "SELECT pg_last_wal_replay_lsn()"
            node = self._replica(alias)
            with suppress(OSError, QueryError):
                position = node.value(ask) if self._cluster.engine == "postgresql" else node.position()
            self._probed[alias] = time.monotonic(), position
        return position

    def _replica(self, alias: str) -> Node:
        return self._cluster.replicas[REPLICAS.index(alias)]

    def _publish(self, scope: _Scope) -> None:
        if scope.wrote:
            scope.written, scope.wrote = self._cluster.primary.position(), False

    # What links requests

    @contextmanager
    def open(self, texts: Sequence[str]) -> Iterator[None]:
        came = self._tokens[texts[0]] if texts else _Scope()
        if len(texts) > 1:
            # Of all there is no session has seen more.
            came = _Scope(written=self._cluster.primary.position())
        reset = _scope.set(replace(came))
        try:
            yield
        finally:
            _scope.reset(reset)

    def token(self) -> str:
        scope = _scope.get()
        assert scope is not None
        self._publish(scope)
        text = str(next(self._numbers))
        self._tokens[text] = replace(scope)
        return text
