"""The tokens of one user in a cache that several processes share: a list to which entries are only appended.

An entry is appended with ``add``, which only one of two requests can do for the same number. The other one then reads
the entry that was there first, so that its own entry contains that one. Thus the last entry contains all entries
before it, however many requests append at the same time, and no entry is ever replaced or deleted: each expires by
itself.

Where the list ends is a hint (``set`` by each request that appended): a reader looks at the entries that follow, too.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from typing import Any, NamedTuple

from django.core.cache import cache

#: How many entries behind the hint are read at once.
_AHEAD = 4
#: Far more than requests of one user that append at the same time.
_ATTEMPTS = 1000
#: Where ``add`` fails so many times in a row and nothing is there, the cache is out of order, and hides it: Redis with
#: ``IGNORE_EXCEPTIONS``, a Memcached without memory. Each attempt may take as long as a connection to it.
_MOST_FAILURES = 3


class CannotAppend(Exception):
    """The cache keeps nothing."""


class Last(NamedTuple):
    """The end of the list."""

    number: int | None
    """None if there is no list."""
    entry: str


class Log:
    """The list of ``user``. ``timeout``: seconds that an entry is kept."""

    def __init__(self, name: str, user: Any, timeout: float) -> None:
        # As text: what one process has as a number the session may have as its digits. As a hash: keys are short.
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
        """Append what ``entry`` returns behind the entry ``after``.

        An entry that another request has appended meanwhile is passed to ``learn`` before ``entry`` is asked again.
        Raises :class:`CannotAppend`; then the hint stays where it is, or the entries before it would not be found.
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
            raise CannotAppend(f"other requests have appended {_ATTEMPTS} entries meanwhile")
        hint = cache.get(self._hint)
        if hint is None or hint < number:
            # It outlives the entries, or they would not be found.
            cache.set(self._hint, number, 2 * self._timeout)

    def _begun(self, learn: Callable[[str], None]) -> int:
        """Begin the list, or learn the end of the one that another request has begun meanwhile."""
        # Larger than every number before, should the cache have dropped the hint.
        number = int(time.time() * 1000)
        if not cache.add(self._hint, number, 2 * self._timeout):
            last = self.last()
            if last.number is not None:
                if last.entry:
                    learn(last.entry)
                return last.number
        return number
