"""What to do about a row that a replica does not have yet."""

from __future__ import annotations

from typing import Any, TypeVar

from django.db.models import Model, QuerySet
from django.shortcuts import get_object_or_404

from replicant import use_primary

_Row = TypeVar("_Row", bound=Model)


def get_or_ask_primary(rows: QuerySet[_Row], **lookup: Any) -> _Row:
    """The row that matches, from a replica if it has it, else from the primary; ``Http404`` if that has none.

    For pages about one thing, whose address may be a second old: whoever has just saved it, and whoever was sent the
    link, must not be told that it does not exist. Only a miss costs the primary a query.
    """
    try:
        return rows.get(**lookup)
    except rows.model.DoesNotExist:
        with use_primary():
            return get_object_or_404(rows, **lookup)
