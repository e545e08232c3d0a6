"""The tokens of one user in a cache that several processes share: a list to which entries are only appended.

An entry is appended with ``add``, which succeeds for only one of two requests with the same index. The other request
then reads the first one's entry, so that its own entry contains it. Thus the last entry contains all entries before it,
however many requests append at the same time. No entry is ever replaced or deleted: each expires by itself.

The stored end of the list is only a hint (each request that appended does ``set``): a reader also reads the entries
after it.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.cache import cache

#: How many entries after the hint are read at once.
_AHEAD = 4
#: Far more than the requests of one user that append at the same time.
_ATTEMPTS = 1000
#: If ``add`` fails this many times in a row and there is no entry, the cache is broken and hides its errors: Redis with
#: ``IGNORE_EXCEPTIONS``, or a Memcached without memory. Each attempt may take as long as a connection to the cache.
_MOST_FAILURES = 3


class CannotAppend(Exception):
    """The cache does not store entries."""


class Last(NamedTuple):
    """The end of the list."""

    number: int | None
    """None if there is no list."""
    entry: str


class Log:
    """The list of ``user``. ``timeout``: seconds that an entry is kept."""

    def __init__(self, name: str, user: Any, timeout: float) -> None:
        # Converted to text, because a session may hold the digits of an id that other code has as a number. Hashed,
        # because keys must be short.
        digest = hashlib.sha256(str(user).encode()).hexdigest()[:32]
        self._prefix = f"{name}:{digest}"
        self._timeout = timeout

    def _key(self, number: int) -> str:
        return f"{self._prefix}:{number}"

    @property
    def _hint(self) -> str:
        return f"{self._prefix}:last"

    def last(self) -> Last:
        """The last entry."""
        number = cache.get(self._hint)
        return Last(None, "") if number is None else self._from(number)

    def _from(self, number: int) -> Last:
        """The last entry, at or after ``number``."""
        entry, ahead = "", _AHEAD
        while True:
            numbers = {self._key(each): each for each in range(number, number + ahead + 1)}
            found = {numbers[key]: value for key, value in cache.get_many(list(numbers)).items()}
            last = max(found, default=number)
            entry = found.get(last, entry)
            if last < number + ahead:
                return Last(last, entry)
            number, ahead = last, 2 * ahead

    def append(self, after: int | None, entry: Callable[[], str], learn: Callable[[str], None]) -> None:
        """Append the result of ``entry`` after the entry with the index ``after``.

        An entry that another request has appended in the meantime is passed to ``learn`` before ``entry`` is called
        again. Raises :class:`CannotAppend`; then the hint stays unchanged, because otherwise the earlier entries would
        not be found.
        """
        number = self._begun(learn) if after is None else after
        failures = 0
        for _ in range(_ATTEMPTS):
            number += 1
            if cache.add(self._key(number), entry(), self._timeout):
                break
            if other := cache.get(self._key(number)):
                learn(other)
                failures = 0
            elif (failures := failures + 1) == _MOST_FAILURES:
                raise CannotAppend("add() of the default cache adds nothing, and raises no error")
        else:
            raise CannotAppend(f"other requests have appended {_ATTEMPTS} entries in the meantime")
        hint = cache.get(self._hint)
        if hint is None or hint < number:
            # The hint must outlive the entries, because they are found only by it.
            cache.set(self._hint, number, 2 * self._timeout)

    def _begun(self, learn: Callable[[str], None]) -> int:
        """Begin the list, or learn the end of a list that another request has begun in the meantime."""
        # The time, so that the index is larger than every earlier one, even if the cache has dropped the hint.
        number = int(time.time() * 1000)
        if not cache.add(self._hint, number, 2 * self._timeout):
            last = self.last()
            if last.number is not None:
                if last.entry:
                    learn(last.entry)
                return last.number
        return number
