"""Routes the reads that follow an instance.

Django and other packages send a few reads with ``.using(instance._state.db)``, without a call of the router. An
instance keeps the alias of the replica that it was loaded from, so that after a write such a read would show the old
state. This module wraps each method that sends such reads. ``.using("replica1")`` itself is not changed, because it is
a user's choice.

Django, all versions unless one is named:

- ``Model._get_next_or_previous_by_FIELD`` reads the neighbour, for ``get_next_by_FOO`` and ``get_previous_by_FOO``.
- ``GenericForeignKey.get_content_type`` reads the content type of a target.
- ``GenericForeignKey.__get__``, since 6.1 ``GenericForeignKeyDescriptor.__get__``, reads the target.
- ``BaseModelFormSet.add_fields`` prepares the read of the row that a form names by its primary key.
- ``DeferredAttribute.fetch_many`` (since 6.1) reads a deferred field of all rows of a query (``FETCH_PEERS``).

The managers of generic relations also read a content type: see :mod:`replicant.patches.related_managers`.

Other packages, if they are installed:

- django-polymorphic 4: ``get_real_instance`` and similar methods read the row with its real class, and content types;
  ``create_from_super`` reads the row that it is about to change.
- django-mptt 0.17: ``save``, ``delete`` and ``insert_at`` of a node read the tree around it, which they change.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import Any

from django.apps import apps
from django.db import connections, models, router
from django.db.models.query_utils import DeferredAttribute

from replicant import _core, conf
from replicant.patches.wrapping import wrap

#: Methods of other packages that read rows with ``_state.db`` and then change them: app, module, class and methods. The
#: instance is about to be changed on the primary, so that from then on it counts as loaded from the primary.
_CHANGES = [
    ("mptt", "mptt.models", "MPTTModel", ("save", "delete", "insert_at", "_mptt_refresh")),
]


def install() -> None:
    """Wrap the methods. May be called again."""
    from django.forms.models import BaseModelFormSet

    _wrap_neighbours()
    wrap(BaseModelFormSet, "add_fields", _row_of_a_form)
    if hasattr(DeferredAttribute, "fetch_many"):
        wrap(DeferredAttribute, "fetch_many", _deferred_of_peers)
    if apps.is_installed("django.contrib.contenttypes"):
        from django.contrib.contenttypes import fields

        wrap(fields.GenericForeignKey, "get_content_type", _content_type)
        wrap(getattr(fields, "GenericForeignKeyDescriptor", fields.GenericForeignKey), "__get__", _target)
    if apps.is_installed("polymorphic"):
        polymorphic = import_module("polymorphic.models").PolymorphicModel
        wrap(polymorphic, "get_real_instance", _real_instance)
        wrap(polymorphic, "get_real_instance_class", _real_class)
        wrap(polymorphic, "get_real_concrete_instance_class", _real_concrete_class)
        wrap(polymorphic, "get_real_concrete_instance_class_id", _real_concrete_class)
        wrap(import_module("polymorphic.managers").PolymorphicManager, "create_from_super", _created_from_super)
    for app, module, owner, names in _CHANGES:
        if apps.is_installed(app):
            for name in names:
                wrap(getattr(import_module(module), owner), name, _changed)


def _wrap_neighbours() -> None:
    """Wrap the method behind ``get_next_by_FOO``. Loaded models already have it as an attribute, bound to a field."""
    name = "_get_next_or_previous_by_FIELD"
    method = getattr(models.Model, name)
    wrap(models.Model, name, _neighbour)
    for model in apps.get_models(include_auto_created=True):
        for attribute, bound in list(vars(model).items()):
            if isinstance(bound, functools.partialmethod) and bound.func is method:
                wrapped = functools.partialmethod(getattr(models.Model, name), *bound.args, **bound.keywords)
                setattr(model, attribute, wrapped)


def follows_the_router(alias: str | None) -> bool:
    """Whether the reads that follow rows of ``alias`` are routed: ``alias`` is a replica, or DATABASES lacks it.

    DATABASES lacks the alias of an instance that was pickled or cached before a deploy renamed or removed the alias.
    """
    return alias is not None and (alias not in connections.settings or _core.role(alias) == "replica")


_twin_classes: dict[type[Any], type[Any]] = {}


def _twins(state: type[Any]) -> type[Any]:
    """A subclass of ``state`` whose deletion does not clear the cache of related objects.

    Since Django 6.1 a state clears this cache when it is freed, and the twin's state shares the cache with the
    instance's state.
    """
    if state not in _twin_classes:
        _twin_classes[state] = type(state.__name__, (state,), {"__del__": lambda self: None})
    return _twin_classes[state]


def read_as(instance: Any, model: type[models.Model]) -> Any:
    """``instance``; or, if it came from a replica, a twin with the alias that a read of ``model`` for it is routed to.

    The alias of the instance itself is not changed, even for a short time, because other threads may use the instance.
    Related objects that the twin loads are also cached on the instance.
    """
    state = instance._state
    if not follows_the_router(state.db):
        return instance
    twin, twins_state = object.__new__(type(instance)), object.__new__(_twins(type(state)))
    # Django makes the dictionary at the first access. It must exist before the copy: otherwise the twin and the
    # instance would have one each.
    _ = state.fields_cache
    vars(twins_state).update(vars(state), db=router.db_for_read(model, instance=instance))
    vars(twin).update(vars(instance), _state=twins_state)
    return twin


def take_over(instance: Any) -> None:
    """Set the alias of an instance from a replica to the primary, where it is about to be changed, as ``save()``
    does."""
    if follows_the_router(instance._state.db):
        instance._state.db = router.db_for_write(type(instance), instance=instance)


def learn_content_type(
    alias: str | None, *, id: Any = None, model: Any = None, for_concrete_model: bool = True
) -> None:
    """Put a content type into Django's cache, under the alias of a replica, before Django searches it there.

    The content type is read from the alias that the router returns, and created on the primary if it is missing:
    without this, Django would read and create it on the replica.
    """
    from django.contrib.contenttypes.models import ContentType

    if not follows_the_router(alias):
        return
    manager, key = ContentType.objects, id
    if model is not None:
        meta = manager._get_opts(model, for_concrete_model)  # type: ignore[attr-defined]
        key = (meta.app_label, meta.model_name)
    if key in manager._cache.get(alias, {}):  # type: ignore[attr-defined]
        return
    if alias in connections.settings and not conf.is_replica_of(alias, router.db_for_write(ContentType)):
        # Content types live on another cluster, where they may have other keys.
        return
    found = (
        manager.get_for_id(id) if model is None else manager.get_for_model(model, for_concrete_model=for_concrete_model)
    )
    manager._add_to_cache(alias, found)  # type: ignore[attr-defined]


# Wrappers of Django's methods.


def _neighbour(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, field: Any, is_next: bool, **kwargs: Any) -> Any:
        if self._state.db is not None:
            # Loads a deferred field into the instance; without this, it would be loaded only into the twin.
            getattr(self, field.attname)
        return method(read_as(self, type(self)), field, is_next, **kwargs)

    return wrapped


def _row_of_a_form(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, form: Any, index: int | None) -> None:
        method(self, form, index)
        field = form.fields.get(self._pk_field.name)
        queryset = getattr(field, "queryset", None)
        if queryset is not None and queryset._db is not None and follows_the_router(form.instance._state.db):
            queryset = queryset.using(None)
            queryset._add_hints(instance=form.instance)
            field.queryset = queryset

    return wrapped


def _deferred_of_peers(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, instances: list[Any]) -> None:
        first = read_as(instances[0], self.field.model)
        if first is not instances[0]:
            # Django takes the alias from the first instance. The twin gets a value for the field, so that the field is
            # not read for the twin.
            vars(first)[self.field.attname] = None
            instances = [first, *instances]
        method(self, instances)

    return wrapped


def _content_type(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, obj: Any = None, id: Any = None, using: str | None = None, model: Any = None) -> Any:
        if obj is not None:
            learn_content_type(obj._state.db, model=obj, for_concrete_model=self.for_concrete_model)
        elif id is not None or model is not None:
            learn_content_type(using, id=id, model=model, for_concrete_model=self.for_concrete_model)
        return method(self, obj, id, using, model)

    return wrapped


def _target(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, instance: Any, cls: Any = None) -> Any:
        if instance is not None and follows_the_router(instance._state.db):
            # Since Django 6.1, `self` is a descriptor of the field.
            model = _model_to_read(getattr(self, "field", self), instance)
            if model is not None:
                instance = read_as(instance, model)
        return method(self, instance, cls)

    return wrapped


def _model_to_read(field: Any, instance: Any) -> type[models.Model] | None:
    """The model that a generic foreign key of ``instance`` leads to; None if nothing is to be read."""
    # These reads load deferred fields into the instance itself, which keeps them.
    ct_id = getattr(instance, field.model._meta.get_field(field.ct_field).attname, None)
    pk = getattr(instance, field.fk_field)
    if ct_id is None:
        return None
    if field.is_cached(instance):
        target = field.get_cached_value(instance)
        if target is None or (
            field.get_content_type(obj=target).id == ct_id and target._meta.pk.to_python(pk) == target.pk
        ):
            return None
    found: type[models.Model] | None = field.get_content_type(id=ct_id, using=instance._state.db).model_class()
    return found


# Wrappers of django-polymorphic's methods.


def _real_instance(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any) -> Any:
        if not follows_the_router(self._state.db) or self.get_real_instance_class() in (None, type(self)):
            return method(self)
        return method(read_as(self, type(self)))

    return wrapped


def _real_class(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any) -> Any:
        if self.polymorphic_ctype_id is not None:
            learn_content_type(self._state.db, id=self.polymorphic_ctype_id)
        return method(self)

    return wrapped


def _real_concrete_class(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any) -> Any:
        model = self.get_real_instance_class()
        if model is not None:
            learn_content_type(self._state.db, model=model)
        return method(self)

    return wrapped


def _created_from_super(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, obj: Any, **kwargs: Any) -> Any:
        take_over(obj)
        return method(self, obj, **kwargs)

    return wrapped


# The wrapper of the methods in `_CHANGES`.


def _changed(method: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(self: Any, *args: Any, **kwargs: Any) -> Any:
        if kwargs.get("using") is None:
            take_over(self)
        return method(self, *args, **kwargs)

    return wrapped
