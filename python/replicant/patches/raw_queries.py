"""``Model.objects.raw()`` is routed when it is iterated, as other querysets are.

Django calls the router when the query is built. If the scope writes between that time and the iteration, the chosen
replica may lack the write. An alias that is named by ``using=``, ``.using()`` or ``db_manager()`` stays the user's
choice.

``QuerySet.raw`` stores the alias that the router has just returned, so that it later looks like a user's choice. Every
other access to the rows goes through ``RawQuerySet.iterator``.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

from django.db.models import QuerySet
from django.db.models.query import RawQuerySet

from replicant.patches.wrapping import wrap

#: The index of ``using`` among the arguments: ``raw(raw_query, params, translations, using)``.
_PLACE_OF_USING = 3
#: The attributes that a queryset caches when it reads its rows.
_FOUND = ("columns", "model_fields")


def install() -> None:
    """Wrap the two methods. May be called again."""
    wrap(QuerySet, "raw", _leaving_the_alias_open)
    wrap(RawQuerySet, "iterator", _asking)


def _leaving_the_alias_open(raw: Callable[..., Any]) -> Callable[..., Any]:
    def built(self: Any, *args: Any, **kwargs: Any) -> Any:
        made: Any = raw(self, *args, **kwargs)
        is_named = self._db is not None or kwargs.get("using") is not None or len(args) > _PLACE_OF_USING
        if not is_named and not self._for_write:
            made._db = None
            made._hints = self._hints
        return made

    return built


def _asking(iterator: Callable[..., Any]) -> Callable[..., Any]:
    def asking(self: Any) -> Iterator[Any]:
        if self._db is not None:
            yield from iterator(self)
            return
        alias = self.db
        self.query = self.query.chain(using=alias)
        # A copy with a fixed alias: Django would call the router again for the rows' alias, and for the spelling of
        # column names on that alias.
        decided = copy.copy(self)
        decided._db = alias
        try:
            yield from iterator(decided)
        finally:
            vars(self).update({name: vars(decided)[name] for name in _FOUND if name in vars(decided)})

    return asking
