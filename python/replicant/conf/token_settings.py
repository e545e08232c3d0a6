"""``settings.REPLICANT_TOKEN``: read only here, read late, checked once, dropped when it changes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed

from replicant.conf.validators import Key, Problem, choice, meant, number


@dataclass(frozen=True)
class TokenSettings:
    """How a client's position travels between its requests."""

    store: Literal["cookie", "header", "cache"] | None
    #: The beginning of the cookies' names, the name of the header, or the beginning of the keys in the cache.
    name: str
    domain: str | None
    path: str
    samesite: Literal["Lax", "Strict", "None", False] | None
    #: None: the same as the request.
    secure: bool | None
    #: In seconds.
    max_age: float


def _store(value: Any) -> str | None:
    wanted = choice("cookie", "header", "cache")(value)
    return None if value is None or wanted is None else f"None or {wanted}"


def _samesite(value: Any) -> str | None:
    wanted = choice("Lax", "Strict", "None")(value)
    return None if value is None or value is False or wanted is None else f"None or {wanted}"


def _secure(value: Any) -> str | None:
    return None if value is None or isinstance(value, bool) else "True, False, or None (the same as the request)"


def _name(value: Any) -> str | None:
    # A "token" of RFC 9110, which is valid for cookies and for headers.
    is_one = isinstance(value, str) and re.fullmatch(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+", value)
    return None if is_one else "letters, digits, '-' and '_'"


def _text(value: Any) -> str | None:
    return None if isinstance(value, str) and value else "text"


def _domain(value: Any) -> str | None:
    return None if value is None else _text(value) and "a domain or None"


KEYS: dict[str, Key] = {
    "STORE": Key("cookie", _store),
    "NAME": Key("replicant_token", _name),
    "DOMAIN": Key(None, _domain),
    "PATH": Key("/", _text),
    "SAMESITE": Key("Lax", _samesite),
    "SECURE": Key(None, _secure),
    "MAX_AGE": Key(60.0, number(1)),
}
_HEADER = "Replicant-Token"


def read() -> tuple[TokenSettings, list[Problem]]:
    """Read the setting: its values, as far as they are understandable, and all problems."""
    value = getattr(settings, "REPLICANT_TOKEN", {})
    problems = []
    if value is None:
        value = {"STORE": None}
    elif not isinstance(value, Mapping):
        problems.append(
            Problem(
                "E010",
                f"REPLICANT_TOKEN must be a dictionary, not {value!r}.",
                "Write REPLICANT_TOKEN = {'STORE': 'cookie'}.",
            )
        )
        value = {}
    for key in value:
        if key not in KEYS:
            likely = meant(key, KEYS)
            hint = f"Remove it{likely}." if likely else f"Known keys are {', '.join(KEYS)}."
            problems.append(Problem("E011", f"REPLICANT_TOKEN has an unknown key: {key!r}.", hint))
    values = {}
    for name, key in KEYS.items():
        values[name] = value.get(name, key.default)
        if name in value and (wanted := key.wrong(value[name])):
            problems.append(
                Problem("E012", f"REPLICANT_TOKEN[{name!r}] cannot be {value[name]!r}.", f"It takes {wanted}.")
            )
            values[name] = key.default
    if values["STORE"] == "header" and "NAME" not in value:
        values["NAME"] = _HEADER
    return TokenSettings(**{name.lower(): found for name, found in values.items()}), problems


_loaded: TokenSettings | None = None


def load() -> TokenSettings:
    """The setting in force. Raises ``ImproperlyConfigured`` with the text of ``manage.py check``."""
    global _loaded
    if _loaded is None:
        found, problems = read()
        if problems:
            raise ImproperlyConfigured("\n".join(str(problem) for problem in problems))
        _loaded = found
    return _loaded


def _changed(*, setting: str, **kwargs: Any) -> None:
    global _loaded
    if setting == "REPLICANT_TOKEN":
        _loaded = None


setting_changed.connect(_changed, dispatch_uid="replicant.conf.token_settings")
