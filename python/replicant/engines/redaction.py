"""Redaction: keeps the passwords and other secrets of a database's settings out of logs, in every driver's spelling.

A driver quotes the values that it received: with ``repr()``, in a connection string with backslashes, in a URL with
percent signs, or in a message with wrapped lines. Therefore the pattern matches each character of a secret in any of
its spellings.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

_STAND_IN = "***"
#: Only this many characters of an error's text are searched. A log shows far fewer of them.
_LONGEST_TEXT = 8192
#: A shorter value, under a key that does not contain "passw", is no secret, and its redaction would make the message
#: unreadable.
_SHORTEST = 4

#: Keys of ``DATABASES`` and of the drivers' options (lower case) with values that are no secrets and help to find the
#: cause of an error. Every other text counts as a secret, because drivers have options that this package does not know.
_HARMLESS = frozenset(
    {
        *("engine", "name", "user", "host", "port", "time_zone", "mirror", "charset", "collation", "template"),
        # PostgreSQL
        *(
            "application_name",
            "assume_role",
            "channel_binding",
            "client_encoding",
            "dbname",
            "fallback_application_name",
        ),
        *("gssencmode", "hostaddr", "isolation_level", "krbsrvname", "load_balance_hosts", "passfile", "service"),
        *("sslcert", "sslcrl", "sslmode", "sslrootcert", "ssl_max_protocol_version", "ssl_min_protocol_version"),
        *("target_session_attrs",),
        # MySQL and MariaDB
        *("bind_address", "ca", "capath", "cert", "cipher", "database", "db", "program_name", "read_default_file"),
        *("read_default_group", "server_hostname", "sql_mode", "ssl_ca", "ssl_cert", "ssl_mode", "unix_socket"),
        # SQLite
        *("transaction_mode",),
    }
)

_WHITESPACE = re.compile(r"\s+")
_ANY_WHITESPACE = (
    r"(?:\s|\\+[abtnvfr]|\\+x[0-9a-fA-F]{2}|\\+u[0-9a-fA-F]{4}|%(?:[01][0-9a-fA-F]|20|[89aA][0-9a-fA-F])|\+)+"
)


def redacted(text: str, settings: Mapping[str, Any]) -> str:
    """``text`` without the secrets in the ``settings`` of a database."""
    secrets = sorted(set(_secrets(settings)), key=len, reverse=True)
    if not secrets:
        return text
    return re.sub("|".join(map(_pattern, secrets)), _STAND_IN, text[:_LONGEST_TEXT])


def _secrets(settings: Mapping[str, Any]) -> Iterator[str]:
    for key, value in settings.items():
        name = str(key).lower()
        yield from _secrets_in(value, is_password="passw" in name, is_harmless=name in _HARMLESS)


def _secrets_in(value: Any, *, is_password: bool, is_harmless: bool) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from _secrets(value)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for item in value:
            yield from _secrets_in(item, is_password=is_password, is_harmless=is_harmless)
    elif is_password or (not is_harmless and isinstance(value, (str, bytes, bytearray))):
        text = value.decode(errors="surrogateescape") if isinstance(value, (bytes, bytearray)) else str(value or "")
        text = text.strip()
        if text and (is_password or len(text) >= _SHORTEST):
            yield text


def _pattern(secret: str) -> str:
    words = ["".join(map(_spellings, word)) for word in _WHITESPACE.split(secret)]
    return _ANY_WHITESPACE.join(words)


def _spellings(character: str) -> str:
    """A pattern for a character: plain, after backslashes, in hexadecimal (repr, JSON, bytes), and in a URL. A quote
    also matches doubled, as in SQL."""
    number, encoded = ord(character), character.encode(errors="surrogatepass")
    plain = r"\\+" if character == "\\" else rf"\\*{re.escape(character)}"
    if character in "'\"":
        plain += f"{character}?"
    hexadecimal = "".join(rf"\\+x{byte:02x}" for byte in encoded)
    percents = "".join(f"%{byte:02x}" for byte in encoded)
    # JSON writes a character beyond the basic plane as two surrogates.
    pair = character.encode("utf-16-be", errors="surrogatepass")
    surrogates = "".join(rf"\\+u{pair[at : at + 2].hex()}" for at in range(0, len(pair), 2))
    return rf"(?:{plain}|(?i:\\+x{number:02x}|{surrogates}|\\+U{number:08x}|{hexadecimal}|{percents}))"
