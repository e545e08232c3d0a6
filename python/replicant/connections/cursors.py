"""Cursors that report the calls that do not pass through Django's execute wrappers."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper

#: Called before a call that bypasses the wrappers, with the connection, the method and its first argument.
Asked = Callable[[BaseDatabaseWrapper, str, Any], None]
#: Called after a call that may have written, with the connection that it was made on.
Told = Callable[[BaseDatabaseWrapper], None]


def hook_unwrapped_calls(connection: BaseDatabaseWrapper, asked: Asked, told: Told) -> None:
    """Call ``asked`` before, and ``told`` after, every cursor call of this connection that bypasses the wrappers."""
    telling_class = functools.cache(functools.partial(_telling_class, asked, told))
    for name in ("make_cursor", "make_debug_cursor"):
        connection.__dict__[name] = functools.partial(_make_cursor, getattr(connection, name), telling_class)


def _make_cursor(
    make: Callable[[Any], CursorWrapper], telling_class: Callable[[type], type[CursorWrapper]], cursor: Any
) -> CursorWrapper:
    wrapper = make(cursor)
    # The class changes, instead of a wrapper around the wrapper: other packages and Django's own tests inspect it.
    wrapper.__class__ = telling_class(type(wrapper))
    return wrapper


def _telling_class(asked: Asked, told: Told, cursor_class: type[CursorWrapper]) -> type[CursorWrapper]:
    # The functions are attributes of the class, not of the cursor: django-debug-toolbar derives a class from it, and
    # creates an instance around the cursor that is inside of ours.
    told_to = {"_asked": staticmethod(asked), "_told": staticmethod(told)}
    return type(cursor_class.__name__, (_TellingCursor, cursor_class), told_to)


class _TellingCursor(CursorWrapper):
    _asked: Asked
    _told: Told

    def callproc(self, *args: Any, **kwargs: Any) -> Any:
        return self._telling("callproc", super().callproc)(*args, **kwargs)

    @property
    def copy(self) -> Callable[..., Any]:
        """psycopg 3's COPY: its write is complete when the block ends."""
        return contextmanager(functools.partial(self._telling_block, self._inner("copy")))

    @property
    def stream(self) -> Callable[..., Any]:
        """psycopg 3's stream of rows: its write is complete when the last row was read."""
        return functools.partial(self._telling_rows, self._inner("stream"))

    @property
    def copy_expert(self) -> Callable[..., Any]:
        """psycopg2's COPY."""
        return self._telling("copy_expert", self._inner("copy_expert"))

    @property
    def copy_from(self) -> Callable[..., Any]:
        """psycopg2's COPY FROM."""
        return self._telling("copy_from", self._inner("copy_from"))

    @property
    def executescript(self) -> Callable[..., Any]:
        """sqlite3's execution of several statements at once."""
        return self._telling("executescript", self._inner("executescript"))

    def _inner(self, name: str) -> Any:
        """The method of this name: the one of the engine's own cursor class, otherwise that of the driver's cursor."""
        try:
            return getattr(super(), name)
        except AttributeError:
            return super().__getattr__(name)

    def _ask(self, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._asked(self.db, name, args[0] if args else next(iter(kwargs.values()), None))

    def _telling(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(call)
        def telling(*args: Any, **kwargs: Any) -> Any:
            self._ask(name, args, kwargs)
            try:
                return call(*args, **kwargs)
            finally:
                self._told(self.db)

        return telling

    def _telling_block(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        self._ask("copy", args, kwargs)
        try:
            with call(*args, **kwargs) as block:
                yield block
        finally:
            self._told(self.db)

    def _telling_rows(self, call: Callable[..., Any], *args: Any, **kwargs: Any) -> Iterator[Any]:
        self._ask("stream", args, kwargs)
        try:
            yield from call(*args, **kwargs)
        finally:
            self._told(self.db)
