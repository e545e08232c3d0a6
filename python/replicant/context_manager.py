"""A context manager for ``with`` and ``async with`` alike."""

from __future__ import annotations

from types import TracebackType
from typing import Any


class ContextManager:
    """A subclass defines ``__enter__`` and ``__exit__``; neither may wait for anything."""

    def __enter__(self) -> Any:
        raise NotImplementedError

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        raise NotImplementedError

    async def __aenter__(self) -> Any:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.__exit__(kind, error, trace)
