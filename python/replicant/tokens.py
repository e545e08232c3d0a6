"""Tokens: what a scope must see, as text that travels to the next request, to a task or to another service.

A token is ``payload:signature``, at most 1 KiB. It is signed by :class:`django.core.signing.Signer` with ``SECRET_KEY``
and read with ``SECRET_KEY_FALLBACKS`` too. The payload is URL-safe base64 of

- one byte for the version and eight for the time of issue (milliseconds of wall clock, big endian), in every version,
- eight random bytes,
- who made it, when by its monotonic clock, and the scope's causality, as JSON, encrypted.

On the host that made it a token ages by the monotonic clock, so that nobody who sets the clock makes it younger or
older; on others by the wall clock.

Why encrypted: MySQL's positions name servers by UUID and MariaDB's by number, and a client must learn neither. Hashes
in their place would do only for a receiver that knows every server already, which a process that has just started
does not. The key stream is SHAKE-256 over a key derived from the secret, the time and the random bytes; the payload is
signed as it is sent (encrypt, then authenticate), so nothing is decrypted, or even parsed, that was not made here.
Aliases stand as keyed hashes, so that each takes the same few bytes.

How a token that would be too long is cut. What it asks for may grow, never shrink:

1. Each position gets an equal share of the room (what short ones leave over goes to the long ones) and is replaced by
   a shorter one that contains it: :meth:`Position.shortened`.
2. A position that cannot be shortened so far becomes a write at the time of issue, to be judged by time.
3. If even that is too much, because there are dozens of clusters, those that do not fit become one entry for a cluster
   that nobody has.

An entry for a cluster that the receiver does not have (3, or an alias that is gone) stands for a write to every
cluster, at the time of issue. So does all of a token of another version: it may be newer than this code.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
import struct
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from django.conf import settings
from django.core.signing import BadSignature, Signer, b64_decode, b64_encode
from django.utils.crypto import salted_hmac

from replicant import _core, causality
from replicant._core import Position
from replicant.causality import Causality
from replicant.scopes import request_scope

#: The longest token, in bytes: servers take 8 KiB for all headers of a request, and this must leave the others room.
MAX_BYTES = 1024
#: How far two hosts' clocks may be apart, in seconds. NTP keeps them within a tenth of it.
CLOCK_SKEW = 1.0

#: How many tokens this process has ignored, by reason. Counted without a lock: on a free-threaded interpreter one may
#: be lost when two arrive in the same instant.
rejected = {"too_long": 0, "forged": 0, "expired": 0}

_VERSION = 1
_SALT = "replicant.token"
_HEADER = struct.Struct(">BQ8s")
#: Bytes left for the JSON: base64 turns 3 into 4, and the signature takes 43 and the colon.
_ROOM = (MAX_BYTES - 44) // 4 * 3 - _HEADER.size
#: Stands where the hash of an alias would: no cluster has it.
_NO_CLUSTER = ""


def token() -> str:
    """What this scope has written and read, as opaque, signed text of at most 1 KiB; ``""`` if neither.

    Inside an open transaction it stands for a write that is not yet published: whoever presents it reads from the
    primary for ``PIN_SECONDS``, then by time.
    """
    return encode(causality.current())


def renewed(received: Iterable[Causality]) -> str:
    """The token that takes the place of those that brought ``received``; ``""`` if what the client holds will do.

    A token is moved on while some replica lacks what was written, and to another member when reads move there. It need
    not be to say that its client has read again where it says: the client stays there, and before it leaves, it
    must see elsewhere what was shown there until then. So a token ends: what is not moved on expires, and its client
    is again one that only reads.
    """
    items = causality.current()
    if causality.has_written() or _is_to_be_moved_on(items, list(received)):
        return encode(items)
    return ""


def _is_to_be_moved_on(items: Iterable[Causality], received: Sequence[Causality]) -> bool:
    for item in items:
        before = {required.member for required in received if required.cluster == item.cluster}
        if item.position is not None or item.written is not None or (before and before != {item.member}):
            return True
    return False


def after(token: str) -> After:
    """Reads inside see at least what the scope that made ``token`` had written and read.

    A context manager, ``with`` or ``async with``. Inside an open request scope the token's requirements are added to it
    and stay until it ends, since what was read here must not disappear again; otherwise a request scope is opened
    around the block. A token does not grow too old here: tasks wait in queues for hours. One that is empty, forged,
    damaged or signed with another ``SECRET_KEY`` requires nothing.
    """
    return After(token)


class After:
    """What ``after`` returns: a context manager for one ``with`` at a time."""

    def __init__(self, token: str) -> None:
        self._token = token
        self._scope = request_scope()

    def __enter__(self) -> None:
        required = decode(self._token) or ()
        node = _core.scope_variable.get(None)
        if node is None or not node.in_request:
            self._scope.enter()
        causality.require(required)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Changes nothing if it was not entered.
        self._scope.leave()

    async def __aenter__(self) -> None:
        self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scope.leave()


def encode(items: Sequence[Causality]) -> str:
    """A token for ``items``; ``""`` for none. At most :data:`MAX_BYTES` long; the module says how it is cut."""
    if not items:
        return ""
    secret = settings.SECRET_KEY
    plain = _plain(secret, items)
    if len(plain) > _ROOM:
        plain = _cut(secret, items)
    header = _HEADER.pack(_VERSION, int(time.time() * 1000), os.urandom(8))
    return _signer(secret).sign(b64_encode(header + _xor(secret, header, plain)).decode())


def decode(token: str, max_age: float | None = None) -> tuple[Causality, ...] | None:
    """What a token requires, aged until now; None, and counted in :data:`rejected`, if it is not to be trusted.

    ``max_age`` is in seconds; None lets a token be of any age. Anything may be passed: the cost is bounded, and nothing
    is raised but ``ImproperlyConfigured``, if the settings cannot be used.

    What was made here and cannot be understood, a position of a kind unknown or an alias that is gone, becomes a write
    at the time of issue, to be judged by time.
    """
    if not token:
        return ()
    if len(token) > MAX_BYTES:
        rejected["too_long"] += 1
        return None
    opened = _unsigned(token)
    if opened is None:
        rejected["forged"] += 1
        return None
    secret, payload = opened
    version, issued, _ = _HEADER.unpack_from(payload)
    # Another host's clock may be ahead of ours.
    age = max(0.0, time.time() - issued / 1000)
    entries: list[Any] | None = None
    if version == _VERSION:
        origin, ticks, *entries = json.loads(_xor(secret, payload[: _HEADER.size], payload[_HEADER.size :]))
        if origin != _hash(secret, _host()):
            # Its clock may have been behind ours: too old is the unsafe side.
            age = max(0.0, age - CLOCK_SKEW)
        elif ticks is not None:
            age = max(0.0, ((_ticks() or ticks) - ticks) / 1000)
    if max_age is not None and age > max_age:
        rejected["expired"] += 1
        return None
    clusters = _clusters(secret, _core.generation())
    everything = [_write(primary, age) for primary, _ in clusters.values()]
    if entries is None:
        return tuple(everything)
    required: list[Causality] = []
    for cluster, kind, text, written, unpublished, member, read in entries:
        if cluster not in clusters:
            required += everything
            continue
        primary, members = clusters[cluster]
        ages = [] if written is None else [age + written / 1000]
        position = None
        if kind is not None:
            try:
                position = Position(kind, text)
            except ValueError:
                ages.append(age)
        if member is not None and member not in members:
            # What it had shown, the primary had by then.
            ages.append(age + read / 1000)
            member = read = None
        required.append(
            Causality(
                cluster=primary,
                position=position,
                written=min(ages, default=None),
                unpublished=bool(unpublished),
                member=None if member is None else members[member],
                read=None if read is None else age + read / 1000,
                known=0.0 if position is None else age,
            )
        )
    return tuple(required)


def _write(cluster: str, age: float) -> Causality:
    return Causality(cluster=cluster, position=None, written=age, unpublished=False, member=None, read=None)


# What is inside.


def _plain(secret: str | bytes, items: Iterable[Causality], *, and_more: bool = False) -> bytes:
    """The JSON: who made it, its monotonic clock, and an entry for each cluster. Times and ages are in milliseconds."""
    entries: list[object] = [_hash(secret, _host()), _ticks()]
    for item in items:
        position = item.position
        entries.append(
            (
                _hash(secret, item.cluster),
                None if position is None else position.kind,
                None if position is None else str(position),
                _milliseconds(item.written),
                int(item.unpublished),
                None if item.member is None else _hash(secret, item.member),
                # A read with no age is taken for one of now.
                _milliseconds(item.read) if item.member is None else _milliseconds(item.read) or 0,
            )
        )
    if and_more:
        entries.append((_NO_CLUSTER, None, None, 0, 0, None, None))
    return json.dumps(entries, separators=(",", ":")).encode()


def _milliseconds(seconds: float | None) -> int | None:
    return None if seconds is None else max(0, int(seconds * 1000))


def _cut(secret: str | bytes, items: Sequence[Causality]) -> bytes:
    """The JSON in at most ``_ROOM`` bytes, asking for as much or more."""
    kept = list(items)
    with_position = [place for place, item in enumerate(kept) if item.position is not None]
    with_position.sort(key=lambda place: len(str(kept[place].position)))
    room = _ROOM - len(_plain(secret, kept)) + sum(len(str(kept[place].position)) for place in with_position)
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
    while len(plain) > _ROOM:
        kept.pop()
        plain = _plain(secret, kept, and_more=True)
    return plain


# What keeps it shut.


def _signer(secret: str | bytes) -> Signer:
    # One key at a time, since the one that signed also encrypted.
    return Signer(key=secret, fallback_keys=[], salt=_SALT)


def _unsigned(token: str) -> tuple[str | bytes, bytes] | None:
    """The secret that signed a token, and its payload; None if none of ours did."""
    if token.isascii():
        for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
            try:
                payload = _signer(secret).unsign(token)
            except BadSignature:
                continue
            return secret, b64_decode(payload.encode())
    return None


@functools.lru_cache(maxsize=16)
def _key(secret: str | bytes, purpose: str) -> bytes:
    return salted_hmac(f"{_SALT}.{purpose}", "", secret, algorithm="sha256").digest()


def _xor(secret: str | bytes, header: bytes, text: bytes) -> bytes:
    """Encrypt or decrypt: the header, which is never the same twice, makes the key stream."""
    stream = hashlib.shake_256(_key(secret, "cipher") + header).digest(len(text))
    return (int.from_bytes(stream, "big") ^ int.from_bytes(text, "big")).to_bytes(len(text), "big")


@functools.lru_cache(maxsize=1024)
def _hash(secret: str | bytes, name: str) -> str:
    """Stands for an alias or a host: 8 bytes, so that two of a thousand names are alike once in 10^13 sites."""
    return b64_encode(salted_hmac(f"{_SALT}.name", name, secret, algorithm="sha256").digest()[:8]).decode()


@functools.lru_cache(maxsize=8)
def _clusters(secret: str | bytes, generation: int) -> dict[str, tuple[str, dict[str, str]]]:
    """By the hash of its primary's alias, each cluster's primary, and its members by hash, in that configuration."""
    return {
        _hash(secret, primary): (primary, {_hash(secret, member["alias"]): member["alias"] for member in members})
        for primary, members in _core.snapshot().items()
    }


_BOOT = Path("/proc/sys/kernel/random/boot_id")
_CLOCK = Path("/proc/self/ns/time")


@functools.cache
def _host() -> str:
    """Names this host: two processes with the same name share a clock."""
    try:
        name = _BOOT.read_text().strip()
    except OSError:
        return platform.node()
    # A container may have a monotonic clock of its own.
    with contextlib.suppress(OSError):
        name += str(_CLOCK.readlink())
    return name


def _ticks() -> int | None:
    """The monotonic clock, in milliseconds; None where it begins anew at a boot, and the host keeps its name."""
    return None if _host() == platform.node() else int(time.monotonic() * 1000)
