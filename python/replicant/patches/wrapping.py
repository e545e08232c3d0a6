"""The way to patch a method: it is replaced once by a function that calls it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

_MARK = "_replicant_patched"


def wrap(owner: Any, name: str, wrapper: Callable[[Callable[..., Any]], Callable[..., Any]]) -> None:
    """Replace ``owner.name`` by the function that ``wrapper`` returns for it, unless it is already replaced.

    Raises ``AttributeError`` if ``owner`` has no such method.
    """
    method = getattr(owner, name)
    if not hasattr(method, _MARK):
        wrapped = functools.wraps(method)(wrapper(method))
        setattr(wrapped, _MARK, True)
        setattr(owner, name, wrapped)
