"""The routers that decide nothing."""

from __future__ import annotations

from typing import Any


class ConstantRouter:
    """The least a router can do in Python."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "replica1"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"


class OneDatabaseRouter:
    """A site without replicas: everything goes to the primary."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return "default"

    def db_for_write(self, model: Any, **hints: Any) -> str:
        return "default"

    def allow_relation(self, one: Any, other: Any, **hints: Any) -> bool:
        return True
