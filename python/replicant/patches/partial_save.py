"""Saves only the loaded fields of a row that was partly loaded from a replica, as for a row of the primary.

Django does this if a row is saved in the database that it came from. In any other database Django saves all fields,
after it has loaded the missing ones from the row's own database: values that the caller never saw, and that may be
older than the values that they overwrite.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import connections
from django.db.models import Model

from replicant import _core, conf
from replicant.patches.wrapping import wrap


def install() -> None:
    """Wrap ``Model.save_base``. May be called again."""
    wrap(Model, "save_base", _saving_in_part)


def _saving_in_part(save_base: Callable[..., Any]) -> Callable[..., Any]:
    def saving(
        self: Model,
        raw: bool = False,
        force_insert: Any = False,
        force_update: bool = False,
        using: str | None = None,
        update_fields: Any = None,
    ) -> None:
        if update_fields is None and using and not raw and not force_insert:
            update_fields = _loaded_from_a_replica(self, using)
        save_base(self, raw, force_insert, force_update, using, update_fields)

    return saving


def _loaded_from_a_replica(instance: Model, using: str) -> frozenset[str] | None:
    """The loaded fields of a row that was partly loaded from a replica of ``using``; None for any other row."""
    alias = instance._state.db
    if alias is None or alias == using:
        return None
    meta = instance._meta
    loaded = {field.attname for field in meta.concrete_fields if field.generated or field.attname in vars(instance)}
    if len(loaded) == len(meta.concrete_fields):
        return None
    # An alias that DATABASES lacks belonged to a member of the cluster when the row was pickled or cached.
    if not conf.is_replica_of(alias, using) and (alias in connections.settings or _core.role(using) != "primary"):
        return None
    return frozenset(loaded.difference(field.attname for field in meta.pk_fields)) or None
