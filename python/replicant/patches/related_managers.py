"""The managers of related objects, for rows that were read from a replica.

``author.books.add(book)`` compares the alias from which the book was loaded with the alias to which it is about to
write, and treats a row of a replica as one that was never saved. No answer of a router changes that. Therefore the
alias of such a row is set to the primary just before: the row is about to be changed there, and ``save()`` sets the
same alias.

``book.notes`` of a generic relation fixes the alias for reads at the first access, and would also send ``update()`` and
``delete()`` to it (Django's ticket 36389). Other managers leave the alias to the query.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

from django.apps import apps
from django.db import connections, models, router
from django.db.models.fields import related_descriptors

from replicant.connections.tracker import track
from replicant.patches import instances
from replicant.patches.wrapping import wrap


def install() -> None:
    """Let the managers that are made from now on accept rows of replicas. May be called again."""
    wrap(related_descriptors, "create_reverse_many_to_one_manager", _taking_rows_of_replicas)
    wrap(related_descriptors, "create_forward_many_to_many_manager", _of_rows_between)
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes import fields

        wrap(fields, "create_generic_related_manager", _leaving_the_alias_to_the_query)


def _taking_rows_of_replicas(create: Callable[..., type[Any]]) -> Callable[..., type[Any]]:
    def created(superclass: type[Any], rel: Any) -> type[Any]:
        manager = create(superclass, rel)
        add = manager.add

        @functools.wraps(add)
        def adding(self: Any, *objs: Any, **options: Any) -> None:
            _take_over(objs, router.db_for_write(self.model, instance=self.instance))
            add(self, *objs, **options)

        manager.add = adding
        return manager

    return created


def _of_rows_between(create: Callable[..., type[Any]]) -> Callable[..., type[Any]]:
    def created(superclass: type[Any], rel: Any, reverse: bool) -> type[Any]:
        manager = create(superclass, rel, reverse)
        _reveal(manager, ("add", "set"), lambda self: self.through)
        return manager

    return created


def _reveal(manager: type[Any], names: Iterable[str], model_of: Callable[[Any], type[models.Model]]) -> None:
    """Have later reads find the rows that these methods compared with on the primary.

    Django reads the rows first, and sends nothing if they are as wanted already.
    """
    for name in names:
        setattr(manager, name, _revealing(getattr(manager, name), model_of))


def _revealing(method: Callable[..., Any], model_of: Callable[[Any], type[models.Model]]) -> Callable[..., Any]:
    @functools.wraps(method)
    def revealing(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = method(self, *args, **kwargs)
        model = model_of(self)
        connection = connections[router.db_for_write(model, instance=self.instance)]
        track(connection).found(connection, model._meta.db_table)
        return result

    return revealing


def _leaving_the_alias_to_the_query(create: Callable[..., type[Any]]) -> Callable[..., type[Any]]:
    create = _taking_rows_of_replicas(create)

    def created(superclass: type[Any], rel: Any) -> type[Any]:
        manager = create(superclass, rel)
        _leave_the_alias_to_the_query(manager, rel)
        return manager

    return created


def _leave_the_alias_to_the_query(manager: type[Any], rel: Any) -> None:
    initialise, apply = manager.__init__, manager._apply_rel_filters

    @functools.wraps(initialise)
    def initialised(self: Any, instance: Any = None) -> None:
        if instance is not None:
            # Without this, Django would search the content type on the instance's alias, and create it there if it is
            # missing.
            instances.learn_content_type(
                instance._state.db, model=instance, for_concrete_model=rel.field.for_concrete_model
            )
        initialise(self, instance)

    @functools.wraps(apply)
    def applied(self: Any, queryset: Any) -> Any:
        related = apply(self, queryset)
        if not self._db:
            related._db = None
            related._add_hints(instance=self.instance)
        return related

    manager.__init__ = initialised
    manager._apply_rel_filters = applied


def _take_over(objs: Iterable[Any], primary: str) -> None:
    """Set the alias of rows that were read from replicas of ``primary`` to ``primary``."""
    for obj in objs:
        # `objs` may contain any object; Django raises an error for a wrong one.
        if not isinstance(obj, models.Model) or obj._state.db in (None, primary):
            continue
        if instances.follows_the_router(obj._state.db) and router.db_for_write(type(obj), instance=obj) == primary:
            obj._state.db = primary
