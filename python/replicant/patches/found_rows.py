"""A row that ``get_or_create`` found on the primary is found by the reads that follow.

The query is a plain one: its text does not say why it was sent to the primary. The same holds for
``select_for_update`` where a database locks no rows (SQLite).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.models import QuerySet

from replicant.connections.tracker import track
from replicant.patches.wrapping import wrap


def install() -> None:
    """Wrap the two methods of ``QuerySet``. May be called again."""
    wrap(QuerySet, "get_or_create", _getting)
    wrap(QuerySet, "select_for_update", _selecting)


def _getting(get_or_create: Callable[..., Any]) -> Callable[..., Any]:
    def getting(self: QuerySet[Any], *args: Any, **kwargs: Any) -> Any:
        result = get_or_create(self, *args, **kwargs)
        if isinstance(result, tuple) and result[-1] is False:
            _found(self)
        return result

    return getting


def _selecting(select_for_update: Callable[..., Any]) -> Callable[..., Any]:
    def selecting(self: QuerySet[Any], *args: Any, **kwargs: Any) -> QuerySet[Any]:
        result: QuerySet[Any] = select_for_update(self, *args, **kwargs)
        if not connections[result.db].features.has_select_for_update:
            _found(result)
        return result

    return selecting


def _found(queryset: QuerySet[Any]) -> None:
    connection = connections[queryset.db]
    track(connection).found(connection, queryset.model._meta.db_table)
