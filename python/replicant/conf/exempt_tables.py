"""The exempt tables, which are never read from a replica: the tables of the models in ``PRIMARY_ONLY``.

A write to an exempt table raises no requirement for replicas, because no model that is read from replicas has its rows
there. A statement counts as such a write only if its text surely names no other table, see ``src/sql/tables.rs``.

Joins are an exception. A query of a model that is read from replicas may join the table of an exempt model, for example
by a foreign key. The join then sees the replica's rows of the exempt table. A check warns about it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.cache.backends.db import DatabaseCache
from django.db.models import Model, deletion
from django.utils.module_loading import import_string

from replicant import _core
from replicant.conf import Cluster
from replicant.conf.validators import Problem

#: The parts of a table's name, as a statement gives them: the table, or the schema and the table.
Table = tuple[str, ...]

#: The class of `on_delete` values by which the database itself follows a foreign key on a deletion (Django 6.1).
_FOLLOWED_BY_DATABASE: Any = getattr(deletion, "DatabaseOnDelete", ())

#: The exempt tables of each primary, and the generation of the configuration for which they were found.
_known: dict[str, tuple[int, frozenset[Table]]] = {}


def of(primary: str, clusters: Sequence[Cluster]) -> frozenset[Table]:
    """The tables on ``primary`` that belong only to exempt models."""
    if not apps.models_ready:
        return frozenset()
    generation = _core.generation()
    known = _known.get(primary)
    if known is None or known[0] != generation:
        known = _known[primary] = (generation, _find(primary, clusters))
    return known[1]


def is_spared(sql: Any, vendor: str, tables: frozenset[Table]) -> bool:
    """Whether a statement surely concerns no table other than one of ``tables``."""
    if not isinstance(sql, str):
        return False
    target = _core.target_table(sql, vendor)
    return target is not None and tuple(target) in tables and _core.names_one_table(sql, vendor)


def _find(primary: str, clusters: Sequence[Cluster]) -> frozenset[Table]:
    exempt, others = set(_cache_tables(primary, clusters)), set()
    for model, is_exempt in _models(primary, clusters):
        if is_exempt:
            exempt.add(_table(model))
            continue
        # A read of a model that inherits from another one joins the parent's table.
        others.add(_table(model))
        others.update(_table(parent) for parent in model._meta.get_parent_list())
        for field in model._meta.local_fields:
            related = field.remote_field
            if related is not None and isinstance(getattr(related, "on_delete", None), _FOLLOWED_BY_DATABASE):
                others.add(_table(related.model))
    return frozenset(exempt - others)


def _models(primary: str, clusters: Sequence[Cluster]) -> Iterator[tuple[type[Model], bool]]:
    """The models that live on the cluster of ``primary``, and whether each is exempt."""
    cluster = next((each for each in clusters if each.primary == primary), None)
    if cluster is None:
        return
    for model in apps.get_models(include_auto_created=True):
        labels = _labels(model)
        # The rows of a proxy live on the cluster of its concrete model.
        if _home(labels[1:], clusters) == primary:
            yield model, _is_named(labels, cluster.primary_only)


def _labels(model: type[Model]) -> list[tuple[str, str]]:
    """The labels of a model, the same as in the core.

    They are its own label, the label of its concrete model, and for the table of a many-to-many field the label of the
    model that declares the field.
    """
    concrete: Any = model._meta.concrete_model or model
    found = [model, concrete]
    if concrete._meta.auto_created:
        found.append(concrete._meta.auto_created)
    return [(each._meta.app_label, each._meta.model_name or "") for each in found]


def _home(labels: Sequence[tuple[str, str]], clusters: Sequence[Cluster]) -> str | None:
    for whole_app in (False, True):
        for label in labels:
            for cluster in clusters:
                if _is_named([label], cluster.models, whole_app=whole_app, model=not whole_app):
                    return cluster.primary
    return "default" if any(cluster.primary == "default" for cluster in clusters) else None


def _is_named(
    labels: Sequence[tuple[str, str]], names: Sequence[str], *, whole_app: bool = True, model: bool = True
) -> bool:
    for name in names:
        app, _, rest = name.partition(".")
        for label in labels:
            if app == label[0] and ((whole_app and not rest) or (model and rest.lower() == label[1])):
                return True
    return False


def _table(model: Any) -> Table:
    # In Django, a table name with a schema has quotes inside: 'schema"."table'.
    return tuple(part.strip('"') for part in model._meta.db_table.split('"."'))


def _cache_tables(primary: str, clusters: Sequence[Cluster]) -> Iterator[Table]:
    """The tables of Django's database cache, if the pseudo-model that Django uses for them is exempt."""
    labels = [("django_cache", "cacheentry")]
    cluster = next((each for each in clusters if each.primary == primary), None)
    if cluster is None or _home(labels, clusters) != primary or not _is_named(labels, cluster.primary_only):
        return
    for cache in settings.CACHES.values():
        try:
            backend = import_string(cache["BACKEND"])
        except (ImportError, KeyError):
            continue
        if isinstance(backend, type) and issubclass(backend, DatabaseCache) and cache.get("LOCATION"):
            yield (str(cache["LOCATION"]),)


def warnings(clusters: Sequence[Cluster]) -> list[Problem]:
    """Relations by which a query that a replica serves can join the table of an exempt model."""
    found = []
    for cluster in clusters:
        if not cluster.replicas or not apps.models_ready:
            continue
        models = dict(_models(cluster.primary, clusters))
        relations = sorted(
            f"{model._meta.label}.{field.name}"
            for model, is_exempt in models.items()
            if not is_exempt and not model._meta.proxy and not model._meta.auto_created
            for field in [*model._meta.local_fields, *model._meta.local_many_to_many]
            if isinstance(field.related_model, type) and models.get(field.related_model, False)
        )
        if relations:
            named = ", ".join(relations[:3]) + (f" and {len(relations) - 3} more" if len(relations) > 3 else "")
            found.append(
                Problem(
                    "W021",
                    f"A read from a replica of REPLICANT[{cluster.primary!r}] can join the table of an exempt model, "
                    f"by {named}: a write to that table does not keep such a read on the primary.",
                    "Read the exempt model in a separate query, add the models that join it to PRIMARY_ONLY, or "
                    "silence this check if such a join may be stale.",
                )
            )
    return found
