"""Tokens: a scope's requirements, as text that travels to the next request, to a task or to another service.

A token has at most 1 KiB. :mod:`replicant.tokens.seal` encrypts and authenticates it. It contains the host that made
it, that host's monotonic clock, and the scope's causality, as JSON. On the host that made it, a token ages by the
monotonic clock, so that a change of the wall clock does not change its age; on other hosts it ages by the wall clock.
Aliases and servers are keyed hashes, so that each takes the same few bytes.

A token that would be too long is cut in these steps. The requirements may grow, but never shrink:

1. Each position gets an equal share of the room (room that short positions leave goes to the long ones) and is replaced
   by a shorter position that contains it: :meth:`Position.shortened`.
2. A position that cannot be shortened enough becomes a write at the time of issue, which is judged by time.
3. If the token is still too long, because there are dozens of clusters, the entries that do not fit become one entry
   for a cluster that does not exist.

The entry of step 3 stands for a write to every cluster, at the time of issue.

A requirement that the receiver cannot compare (a cluster or a member that its settings do not have, a position of an
unknown kind, a whole token of another version, which may be newer than this code) becomes a time pin. The pin begins
when this process receives the token for the first time, because the age of the token says nothing about the servers
here, and ends ``PIN_SECONDS`` later.
"""

from __future__ import annotations

import contextlib
import functools
import json
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple

from django.conf import settings

from replicant import _core, conf
from replicant._core import Position
from replicant.connections import causality
from replicant.connections.causality import Causality
from replicant.context_manager import ContextManager
from replicant.scopes import request_scope
from replicant.tokens import seal
from replicant.tokens.seal import MAX_BYTES, ROOM, keyed_hash

#: The largest allowed difference between two hosts' clocks, in seconds. NTP keeps clocks within a tenth of it.
CLOCK_SKEW = 1.0

#: How many tokens this process has ignored, by reason. Counted without a lock: on a free-threaded interpreter, a count
#: may be lost when two tokens arrive at the same instant.
rejected = {"too_long": 0, "forged": 0, "expired": 0}

_VERSION = 3
#: Stands in place of the hash of an alias: no cluster has this hash.
_NO_CLUSTER = ""
#: The flags of an entry.
_UNPUBLISHED, _LEFT, _MISSED = 1, 2, 4

#: The time at which this process received each token for the first time, by the end of the token's text.
_receipts: dict[str, float] = {}
#: The limit for the receipts: when there are more, the older half of the limit is dropped.
_MOST_RECEIPTS = 4096


class Opened(NamedTuple):
    """A genuine token."""

    items: tuple[Causality, ...]
    """The token's requirements, aged until now."""
    age: float
    """Seconds since the token was issued."""
    is_understood: bool
    """Whether everything in the token can be compared here, so that another token of this process may replace it."""


def token() -> str:
    """A token for the writes and reads of this scope, as opaque text of at most 1 KiB; ``""`` if there are none.

    Inside an open transaction, the token stands for a write that is not yet published: a scope that presents it reads
    from the primary for ``PIN_SECONDS``; after that, its reads are routed by time.
    """
    return encode(causality.current())


def after(token: str) -> After:
    """Reads inside see at least the data that the scope of ``token`` had written and read.

    It is a context manager, ``with`` or ``async with``. Inside an open request scope, the token's requirements are
    added to that scope and stay until it ends, because rows that were read here must not disappear again. Otherwise a
    request scope is opened around the block. In a request scope of the middleware, the requirements also become part of
    the token that the client gets. A token never expires here, because tasks wait in queues for hours. A token that is
    empty, forged, damaged or made with another ``SECRET_KEY`` requires nothing.
    """
    return After(token)


class After(ContextManager):
    """The result of ``after``: a context manager for one ``with`` at a time."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._scope = request_scope()

    def __enter__(self) -> None:
        # A header may contain several tokens.
        required = [item for each in _texts(self._token) for item in decode(each.strip()) or ()]
        node = _core.scope_variable.get(None)
        if node is None or not node.in_request:
            self._scope.enter()
        causality.require(required, presented=True)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # leave() changes nothing if the scope was not entered.
        self._scope.leave()


def _texts(token: object) -> list[str]:
    """The tokens in a header's text. An object that is not text contains no token, and counts as forged."""
    if isinstance(token, str):
        return token.split(",")
    if token is not None:
        rejected["forged"] += 1
    return []


def encode(items: Sequence[Causality]) -> str:
    """A token for ``items``; ``""`` for none. At most :data:`MAX_BYTES` long; the module's docstring explains the
    cut."""
    if not items:
        return ""
    secret = settings.SECRET_KEY
    plain = _plain(secret, items)
    if len(plain) > ROOM:
        plain = _cut(secret, items)
    return seal.seal(secret, _VERSION, plain)


def decode(token: object, max_age: float | None = None) -> tuple[Causality, ...] | None:
    """A token's requirements, aged until now; None if the token cannot be trusted, which :data:`rejected` then counts.

    ``max_age`` is in seconds; None allows any age. Any object may be passed as ``token``: the cost is bounded, and the
    only error is ``ImproperlyConfigured``, if the settings cannot be used.

    A requirement of a genuine token that cannot be compared becomes a write at the time of the token's first receipt,
    which is judged by time.
    """
    if token is None or token == "":
        return ()
    found = opened(token, max_age)
    return None if found is None else found.items


def opened(token: object, max_age: float | None = None) -> Opened | None:
    """A token and its requirements, as in :func:`decode`; None if the token cannot be trusted."""
    if not isinstance(token, str):
        rejected["forged"] += 1
        return None
    if len(token) > MAX_BYTES:
        rejected["too_long"] += 1
        return None
    unsealed = seal.unseal(token)
    if unsealed is None:
        rejected["forged"] += 1
        return None
    secret = unsealed.secret
    # The other host's clock may be ahead of this host's, so that the age would be negative.
    age = max(0.0, time.time() - unsealed.issued)
    entries: list[Any] | None = None
    if unsealed.version == _VERSION:
        origin, ticks, *entries = json.loads(unsealed.text)
        if origin != keyed_hash(secret, _host()):
            # The other host's clock may have been behind this host's. An age that is too large would be unsafe.
            age = max(0.0, age - CLOCK_SKEW)
        elif ticks is not None:
            age = max(0.0, ((_ticks() or ticks) - ticks) / 1000)
    if max_age is not None and age > max_age:
        rejected["expired"] += 1
        return None
    clusters = _clusters(secret, _core.generation())
    received = _since_receipt(token)
    if entries is None:
        return Opened(tuple(_pins(clusters, received)), age, is_understood=False)
    required: list[Causality] = []
    is_understood = True
    for cluster, *entry in entries:
        if cluster == _NO_CLUSTER:
            required += [_write(primary, age) for primary, _ in clusters.values()]
        elif cluster not in clusters:
            is_understood = False
            required += _pins(clusters, received)
        else:
            item, is_whole = _required(secret, *clusters[cluster], entry, age, received)
            required.append(item)
            is_understood &= is_whole
    return Opened(tuple(required), age, is_understood)


def _required(
    secret: str | bytes, primary: str, members: dict[str, str], entry: list[Any], age: float, received: float
) -> tuple[Causality, bool]:
    """The requirement of an entry for the cluster of ``primary``, and whether all of it can be compared here."""
    kind, text, written, flags, member, server, read = entry
    ages = [] if written is None else [age + written / 1000]
    pins = [] if received >= conf.pin_seconds(primary) else [received]
    position, is_whole = None, True
    if kind is not None:
        try:
            position = Position(kind, text)
        except ValueError:
            is_whole = False
            ages += pins
    read = None if read is None else age + read / 1000
    is_left = bool(flags & _LEFT)
    if member is not None and member not in members:
        # An unknown member that is only a preference can be dropped, because it requires nothing.
        if read is not None and not is_left:
            is_whole = False
            ages += pins
            read = None
        member = None
    alias = None if member is None else members[member]
    doubt: Literal["", "other", "unknown"] = ""
    number = None
    if alias is not None and read is not None and not is_left:
        number = _core.server(alias)
        if server is None:
            doubt = "other" if conf.has_positions(primary) else ""
            number = None
        elif number is None:
            doubt = "unknown"
        elif server != keyed_hash(secret, _server(number)):
            doubt, number = "other", None
    item = Causality(
        cluster=primary,
        position=position,
        written=min(ages, default=None),
        unpublished=bool(flags & _UNPUBLISHED),
        member=alias,
        read=read,
        known=0.0 if position is None else age,
        received=received,
        server=number,
        left=is_left,
        doubt=doubt,
        missed=bool(flags & _MISSED),
    )
    return item, is_whole


def _since_receipt(token: str) -> float:
    """Seconds since this process received a token for the first time."""
    now = time.monotonic()
    first = _receipts.setdefault(seal.tail(token), now)
    if len(_receipts) > _MOST_RECEIPTS:
        for key in list(_receipts)[: _MOST_RECEIPTS // 2]:
            _receipts.pop(key, None)
    return now - first


def _pins(clusters: Mapping[str, tuple[str, object]], received: float) -> list[Causality]:
    """A time pin on each cluster, for a token that arrived ``received`` seconds ago, unless the pin is over."""
    return [_write(primary, received) for primary, _ in clusters.values() if received < conf.pin_seconds(primary)]


def _write(cluster: str, age: float) -> Causality:
    return Causality(cluster=cluster, position=None, written=age, unpublished=False, member=None, read=None)


# The content of a token.


def _plain(secret: str | bytes, items: Iterable[Causality], *, and_more: bool = False) -> bytes:
    """The JSON: the host that made the token, its monotonic clock, and an entry for each cluster. Times and ages are in
    milliseconds."""
    entries: list[object] = [keyed_hash(secret, _host()), _ticks()]
    for item in items:
        position = item.position
        # Only the age of a read on a member that the scope has left may be negative.
        read = None if item.read is None else int((item.read if item.left else max(0.0, item.read)) * 1000)
        entries.append(
            (
                keyed_hash(secret, item.cluster),
                None if position is None else position.kind,
                None if position is None else str(position),
                None if item.written is None else max(0, int(item.written * 1000)),
                _UNPUBLISHED * item.unpublished | _LEFT * item.left | _MISSED * item.missed,
                None if item.member is None else keyed_hash(secret, item.member),
                None if item.server is None else keyed_hash(secret, _server(item.server)),
                read,
            )
        )
    if and_more:
        entries.append((_NO_CLUSTER, None, None, 0, 0, None, None, None))
    return json.dumps(entries, separators=(",", ":")).encode()


def _server(number: int) -> str:
    return f"server {number}"


def _cut(secret: str | bytes, items: Sequence[Causality]) -> bytes:
    """The JSON in at most :data:`~replicant.tokens.seal.ROOM` bytes, with the same or larger requirements."""
    kept = list(items)
    with_position = [place for place, item in enumerate(kept) if item.position is not None]
    with_position.sort(key=lambda place: len(str(kept[place].position)))
    room = ROOM - len(_plain(secret, kept)) + sum(len(str(kept[place].position)) for place in with_position)
    for done, place in enumerate(with_position):
        item = kept[place]
        assert item.position is not None
        shorter = item.position.shortened(max(0, room) // (len(with_position) - done))
        if shorter is None:
            kept[place] = item._replace(position=None, written=0.0)
        else:
            kept[place] = item._replace(position=shorter)
            room -= len(str(shorter))
    plain = _plain(secret, kept)
    while len(plain) > ROOM:
        kept.pop()
        plain = _plain(secret, kept, and_more=True)
    return plain


@functools.lru_cache(maxsize=8)
def _clusters(secret: str | bytes, generation: int) -> dict[str, tuple[str, dict[str, str]]]:
    """For each cluster, by the hash of its primary's alias: the primary, and the members by hash, in that
    configuration."""
    return {
        keyed_hash(secret, primary): (
            primary,
            {keyed_hash(secret, member["alias"]): member["alias"] for member in members},
        )
        for primary, members in _core.snapshot().items()
    }


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = Path("/proc/self/ns/time")


@functools.cache
def _host() -> str:
    """The name of this host: two processes with the same name share a clock."""
    try:
        name = _BOOT.read_text().strip()
    except OSError:
        return platform.node()
    # A container may have a separate monotonic clock.
    with contextlib.suppress(OSError):
        name += str(_CLOCK.readlink())
    return name


def _ticks() -> int | None:
    """The monotonic clock, in milliseconds; None if the host's name stays the same over a boot, which restarts the
    clock."""
    return None if _host() == platform.node() else int(time.monotonic() * 1000)
