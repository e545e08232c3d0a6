"""The base of objects around a block of code: a context manager, sync and async, and a decorator of functions of both
kinds."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from replicant.context_manager import ContextManager

if TYPE_CHECKING:
    from typing_extensions import Self

_F = TypeVar("_F", bound=Callable[..., Any])


class Block(ContextManager):
    """A subclass defines entry, exit, and how to make another object like itself."""

    def again(self) -> Self:
        """Another object like this one, for each call of a decorated function."""
        raise NotImplementedError

    def __call__(self, function: _F) -> _F:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: Any, **kwargs: Any) -> Any:
                async with self.again():
                    return await function(*args, **kwargs)

            return cast(_F, awaited)

        @functools.wraps(function)
        def called(*args: Any, **kwargs: Any) -> Any:
            with self.again():
                return function(*args, **kwargs)

        return cast(_F, called)
