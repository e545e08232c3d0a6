"""The routers people start with. They stand here to be compared with: see story.py."""

from __future__ import annotations

import random
from typing import Any

from django.db.models import Model

MEMBERS = {"default", "replica1", "replica2"}


class DocumentedRouter:
    """Django's documentation, "Multiple databases", the primary/replica example; there the primary is "primary"."""

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return random.choice(["replica1", "replica2"])

    def db_for_write(self, model: type[Model], **hints: Any) -> str:
        return "default"

    def allow_relation(self, obj1: Model, obj2: Model, **hints: Any) -> bool | None:
        return True if {obj1._state.db, obj2._state.db} <= MEMBERS else None

    def allow_migrate(self, db: str, app_label: str, model_name: str | None = None, **hints: Any) -> bool:
        return True


class PassedAroundRouter(DocumentedRouter):
    """The one from answers and gists: the primary is a server too, so it draws from all there were that day.

    That day there was one replica. Nobody has thought of this list since, which is the way of lists in code.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str:
        return random.choice(["default", "replica1"])
