"""What tests of the router share: settings, rows that one database alone has, and the reason for a route."""

from __future__ import annotations

from django.db import connections, models
from django.test import override_settings

from replicant import explain
from tests.app.models import Item

REPLICAS = {"replica1", "replica2"}


def replicant_with(**keys):
    return override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], **keys}})


def on(alias: str, name: str = "x") -> Item:
    """An item on one database only, as a replica that lags or runs ahead of the others would have it."""
    with override_settings(REPLICANT={}):
        item = Item.objects.using(alias).create(name=name)
        connections[alias].close()
    return item


def reason(model: type[models.Model] = Item, **hints) -> str | None:
    return explain(model, **hints).reason
