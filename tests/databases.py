"""Which databases a test runs on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from asgiref.sync import sync_to_async
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from replicant import _core

TWO_REPLICAS: dict[str, Any] = {"default": {"REPLICAS": ["replica1", "replica2"]}}
#: Replicas that are stopped in a test are to be asked all the same.
HOWEVER_LATE: dict[str, Any] = {"default": {**TWO_REPLICAS["default"], "MAX_LAG": None}}


def _forget_connections() -> None:
    """Close this thread's connections and drop the objects: the next ones are made from the settings in force."""
    for connection in connections.all(initialized_only=True):
        connection.close()
        del connections[connection.alias]


def _forget_everywhere() -> None:
    _forget_connections()
    # asgiref keeps one thread for the blocking calls of async code, with connections of its own.
    asyncio.run(sync_to_async(_forget_connections)())


@contextmanager
def use_databases(databases: dict[str, Any], **settings: Any) -> Iterator[None]:
    """Run on these databases; further keywords override settings."""
    before = connections.settings
    _forget_everywhere()
    settings.setdefault("REPLICANT", TWO_REPLICAS)
    connections.settings = connections.configure_settings(databases)
    try:
        with override_settings(**settings):
            yield
    finally:
        _forget_everywhere()
        connections.settings = before
        _core.invalidate()
        _core.seed()


def sqlite(folder: Path, *aliases: str) -> dict[str, Any]:
    """A database file for each alias. They do not replicate: a replica is as empty as one that is far behind."""
    return {
        alias: {
            "ENGINE": "django.db.backends.sqlite3",
            "NAME": str(folder / f"{alias}.sqlite3"),
            "TEST": {} if alias == "default" else {"MIRROR": "default"},
        }
        for alias in aliases
    }


def ours(databases: dict[str, Any]) -> dict[str, Any]:
    """The same databases, with the engines of the package."""
    engine = {alias: settings["ENGINE"].replace("django.db", "replicant") for alias, settings in databases.items()}
    return {alias: {**settings, "ENGINE": engine[alias]} for alias, settings in databases.items()}


def migrate(*aliases: str) -> None:
    """Make the tables, on replicas that do not replicate too: the router would refuse, so it is not asked."""
    with override_settings(REPLICANT={}, DATABASE_ROUTERS=[]):
        for alias in aliases:
            call_command("migrate", database=alias, verbosity=0)
