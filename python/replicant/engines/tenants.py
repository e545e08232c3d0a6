"""Connections that choose a tenant's schema by themselves: the connections of django-tenants.

``connection.set_tenant(tenant)`` sends nothing. The engine sends ``SET search_path`` when a cursor is opened, on the
primary only. Therefore such a connection counts as having a changed ``search_path`` from its beginning, before the
first statement and between two sessions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

_UID = "replicant.engines.tenants"
SETTING = "search_path"


def chooses_schema(engine: type[BaseDatabaseWrapper]) -> bool:
    """Whether connections of this class choose the schema of a tenant."""
    return hasattr(engine, "set_tenant") and hasattr(engine, "set_schema")


def put_something_off(connection: BaseDatabaseWrapper) -> bool:
    """Whether the next cursor of such a connection will send the deferred SET."""
    return getattr(connection, "search_path_set_schemas", True) is None


def watch(engine: type[BaseDatabaseWrapper], track: Callable[[BaseDatabaseWrapper], object]) -> None:
    """Call ``track`` with each new connection of this class. A second call for the same class does nothing."""
    begin = engine.__init__
    if not chooses_schema(engine) or hasattr(begin, _UID):
        return

    @functools.wraps(begin)
    def begun(self: BaseDatabaseWrapper, *args: Any, **kwargs: Any) -> None:
        begin(self, *args, **kwargs)
        track(self)

    setattr(begun, _UID, True)
    engine.__init__ = begun  # type: ignore[method-assign]
