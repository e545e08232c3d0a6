"""Calls the entry in every way there is: what ``tests.core.test_entry`` runs under valgrind."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from pathlib import Path

import django
from django.test import override_settings

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from django.db import connection, router, transaction  # noqa: E402

from replicant import ReplicaRouter, _core, request_scope  # noqa: E402
from tests.app.models import Item  # noqa: E402
from tests.databases import sqlite, use_databases  # noqa: E402


def call() -> None:
    built, instance = ReplicaRouter(), Item(pk=1)
    instance._state.db = "replica1"
    for keywords in ({}, {"instance": instance}, {"instance": None, "more": [1]}):
        router.db_for_read(Item, **keywords)
        built.db_for_read(model=Item, **keywords)
        for wrong in ((), (1, 2, 3), (object(),)):
            with contextlib.suppress(TypeError):
                built.db_for_read(*wrong, **keywords)
    with request_scope(), transaction.atomic():
        router.db_for_read(Item)
    connection.close()


def call_in_threads() -> None:
    call()
    thread = threading.Thread(target=call)
    thread.start()
    thread.join()


def main() -> None:
    with use_databases(sqlite(Path(sys.argv[1]), "default", "replica1", "replica2")):
        for public in (False, True):
            # Settings that come and go while a thread holds on to what it saw.
            for replicas in (["replica1"], ["replica1", "replica2"], []):
                with override_settings(REPLICANT={"default": {"REPLICAS": replicas}}):
                    _core.public_lookup(public)
                    call_in_threads()


if __name__ == "__main__":
    main()
