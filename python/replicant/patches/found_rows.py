"""Binds a scope to facts that the primary has revealed and that the text of a statement does not show.

- ``get_or_create`` found a row on the primary. Its query is a plain SELECT: the text does not show why it was sent to
  the primary. The same holds for ``select_for_update`` if a database locks no rows (SQLite).
- A deletion found no row, or other rows forbid it. Django queries the rows first, and then sends no DELETE.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections, router
from django.db.models import ProtectedError, QuerySet, RestrictedError
from django.db.models.deletion import Collector

from replicant.connections.tracker import track
from replicant.patches.wrapping import wrap


def install() -> None:
    """Wrap the methods. May be called again."""
    wrap(QuerySet, "get_or_create", _getting)
    wrap(QuerySet, "select_for_update", _selecting)
    wrap(QuerySet, "delete", _deleting)
    wrap(Collector, "collect", _collecting)


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


def _deleting(delete: Callable[..., Any]) -> Callable[..., Any]:
    def deleting(self: QuerySet[Any]) -> Any:
        result = delete(self)
        if result[0] == 0:
            alias = self._db or router.db_for_write(self.model, **self._hints)  # type: ignore[attr-defined]
            _found(self.using(alias))
        return result

    return deleting


def _collecting(collect: Callable[..., Any]) -> Callable[..., Any]:
    def collecting(self: Collector, *args: Any, **kwargs: Any) -> Any:
        try:
            return collect(self, *args, **kwargs)
        except (ProtectedError, RestrictedError):
            connection = connections[self.using]
            track(connection).reveal(connection)
            raise

    return collecting


def _found(queryset: QuerySet[Any]) -> None:
    connection = connections[queryset.db]
    # A row of a child model is a row of each of its parents, too, which may be read from replicas.
    for model in (queryset.model, *queryset.model._meta.all_parents):
        track(connection).found(connection, model._meta.db_table)
