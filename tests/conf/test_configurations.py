"""What becomes of a configuration when the settings change."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import weakref

import pytest
from django.db import router
from django.test import override_settings

from replicant import _core, conf, explain
from replicant.conf import active
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def test_a_configuration_that_is_over_is_let_go(site):
    class Gone:
        _meta = Item._meta

    router.db_for_read(Gone)
    gone = weakref.ref(Gone)
    del Gone
    gc.collect()
    assert gone() is not None
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica2"]}}):
        router.db_for_read(Item)
        # What a decision lets go of goes with the next call that is none.
        explain(Item)
        gc.collect()
        assert gone() is None


def test_settings_read_before_a_change_are_not_put_in_force_after_it(site, monkeypatch: pytest.MonkeyPatch):
    was_read, changed = threading.Event(), threading.Event()
    read = conf.read

    def slowly():
        found = read()
        if threading.current_thread() is slow:
            was_read.set()
            assert changed.wait(10)
        return found

    monkeypatch.setattr(active, "read", slowly)
    slow = threading.Thread(target=lambda: explain(Item))
    _core.invalidate()
    slow.start()
    assert was_read.wait(10)
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica2"]}}):
        explain(Item)
        changed.set()
        slow.join()
        assert [cluster.replicas for cluster in conf.in_force()] == [[("replica2", 1.0)]]


ENDING = """
import os

import django
import django.db
from django.test import override_settings

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.settings"
django.setup()

from replicant import _core, explain
from tests.app.models import Item


class Ending(django.db.utils.ConnectionHandler):
    def __del__(self):
        _core.invalidate()
        print("has changed the settings in its turn")


own = django.db.connections
with override_settings(REPLICANT={"default": {"REPLICAS": []}}):
    django.db.connections = Ending(own.settings)
    explain(Item)
    django.db.connections = own
    for _ in range(2):
        _core.invalidate()
        explain(Item)
"""


def test_what_ends_with_a_configuration_may_change_the_settings():
    """In a process of its own, which would stand still for ever."""
    command = [sys.executable, "-c", ENDING]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (result.returncode, result.stdout) == (0, "has changed the settings in its turn\n"), result.stderr
