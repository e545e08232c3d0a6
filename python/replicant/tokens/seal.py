"""The encryption of tokens: only a site with the same ``SECRET_KEY`` can read or make a token.

A token is URL-safe base64 of a header and a sealed text. The header has the same form in every version:

- one byte for the version,
- eight bytes for the time of issue (milliseconds of wall clock, big endian),
- 24 random bytes, the nonce.

The text is sealed with XChaCha20-Poly1305, which also authenticates the header; the key is derived by HKDF-SHA256 from
``SECRET_KEY``. A token is also opened with ``SECRET_KEY_FALLBACKS``. A text that this site did not make is neither
decrypted nor parsed.

Tokens are encrypted because positions name servers (by UUID on MySQL, by server id on MariaDB), and a client must not
learn these names. Hashes of the names would work only for a receiver that already knows every server, and a process
that has just started does not.
"""

from __future__ import annotations

import functools
import os
import struct
import time
from typing import NamedTuple

from django.conf import settings
from django.core.signing import b64_decode, b64_encode
from django.utils.crypto import salted_hmac

from replicant._core import Cipher

#: The longest token, in bytes: servers accept 8 KiB for all headers of a request, and a token must leave room for the
#: other headers.
MAX_BYTES = 1024
_PURPOSE = b"replicant.token"
_HEADER = struct.Struct(">BQ24s")
_TAG_BYTES = 16
#: Bytes left for the text: base64 turns 3 into 4.
ROOM = MAX_BYTES // 4 * 3 - _HEADER.size - _TAG_BYTES
#: The length of a token's end that is used to tell tokens apart: all of it is random.
_TAIL = 20


class Unsealed(NamedTuple):
    """The content of a genuine token."""

    secret: str | bytes
    """The secret that opened it."""
    version: int
    issued: float
    """The time of issue, in seconds of wall clock."""
    text: bytes


def seal(secret: str | bytes, version: int, text: bytes) -> str:
    """``text``, of at most :data:`ROOM` bytes, as a token that is issued now."""
    nonce = os.urandom(24)
    header = _HEADER.pack(version, int(time.time() * 1000), nonce)
    return b64_encode(header + _cipher(secret).seal(nonce, header, text)).decode()


def unseal(token: str) -> Unsealed | None:
    """The content of a token; None if none of this site's secrets made it, or it is damaged."""
    payload = _payload(token)
    if payload is None:
        return None
    header, sealed = payload[: _HEADER.size], payload[_HEADER.size :]
    version, issued, nonce = _HEADER.unpack(header)
    for secret in (settings.SECRET_KEY, *settings.SECRET_KEY_FALLBACKS):
        text = _cipher(secret).open(nonce, header, sealed)
        if text is not None:
            return Unsealed(secret, version, issued / 1000, text)
    return None


def tail(token: str) -> str:
    """A short text that tells a genuine token apart from all others."""
    return token[-_TAIL:]


def _payload(token: str) -> bytes | None:
    try:
        payload = b64_decode(token.encode())
    except ValueError:
        return None
    # Python's decoder skips characters outside the alphabet, and surplus bits. Encoding again makes sure that each
    # token has exactly one text.
    is_whole = len(payload) >= _HEADER.size + _TAG_BYTES and b64_encode(payload) == token.encode()
    return payload if is_whole else None


@functools.lru_cache(maxsize=16)
def _cipher(secret: str | bytes) -> Cipher:
    return Cipher(secret if isinstance(secret, bytes) else secret.encode(), _PURPOSE)


@functools.lru_cache(maxsize=1024)
def keyed_hash(secret: str | bytes, name: str) -> str:
    """A hash that stands for an alias or a host: 8 bytes, so that with a thousand names a site has a chance of 1 in
    10^13 that two hashes collide."""
    return b64_encode(salted_hmac("replicant.token.name", name, secret, algorithm="sha256").digest()[:8]).decode()
