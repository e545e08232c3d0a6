"""Validators of settings, and the problems that they report."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Problem:
    """One error in the settings (``id`` starts with E), or one warning (W)."""

    id: str
    message: str
    hint: str | None = None

    @property
    def is_error(self) -> bool:
        return self.id.startswith("E")

    def __str__(self) -> str:
        return f"replicant.{self.id}: {self.message}" + (f" {self.hint}" if self.hint else "")


@dataclass(frozen=True)
class Key:
    """A key of a cluster: its default, and a function that returns the valid values as text if a value is wrong."""

    default: Any
    wrong: Callable[[Any], str | None]
    convert: Callable[[Any], Any] | None = None
    """Converts a value to the form that the package uses; None stays None."""

    def converted(self, value: Any) -> Any:
        return value if value is None or self.convert is None else self.convert(value)


#: The largest weight, and the longest time in seconds: thirty years.
_LARGEST = 1e9


def number(
    low: float, high: float = _LARGEST, *, none: bool = False, above: bool = False
) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if value is None and none:
            return None
        number = isinstance(value, (int, float)) and not isinstance(value, bool)
        if number and (low < value <= high or (value == low and not above)):
            return None
        begins = f"above {low:g}, up" if above else f"from {low:g}"
        return f"a number {begins} to {high:g}{' or None' if none else ''}"

    return check


def choice(*choices: str) -> Callable[[Any], str | None]:
    def check(value: Any) -> str | None:
        if isinstance(value, str) and value in choices:
            return None
        return " or ".join(repr(choice) for choice in choices) + meant(value, choices)

    return check


def boolean(value: Any) -> str | None:
    return None if isinstance(value, bool) else "True or False"


def name_list(value: Any) -> str | None:
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(name, str) for name in value):
        return None
    return "a list of app labels and 'app_label.Model' names"


_SETTING = re.compile(r"@?[A-Za-z_][\w$]*(\.[A-Za-z_][\w$]*)*")


def setting_names(value: Any) -> str | None:
    if isinstance(value, (list, tuple, set, frozenset)) and all(
        isinstance(name, str) and _SETTING.fullmatch(name) for name in value
    ):
        return None
    return (
        "a list of names of session settings, such as 'search_path', 'app.tenant', 'sql_mode', 'database' or '@tenant'"
    )


def meant(word: Any, words: Iterable[str]) -> str:
    """The end of a hint that names the likely intended word."""
    if isinstance(word, str):
        # Compared without regard to case; the hint shows the word in its correct case.
        written = {known.lower(): known for known in words}
        found = difflib.get_close_matches(word.lower(), written, n=1, cutoff=0.6)
        if found:
            return f" (did you mean {written[found[0]]!r}?)"
    return ""
