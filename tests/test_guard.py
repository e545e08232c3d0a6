"""A replica's sessions are read-only; on servers see ``test_on_servers.py``."""

from __future__ import annotations

import pytest
from django.db import connections, transaction
from django.test import override_settings

from replicant import ReplicaWriteError
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def test_a_replicas_session_is_read_only(caplog: pytest.LogCaptureFixture):
    for write in (
        lambda: Item.objects.using("replica1").create(name="x"),
        lambda: connections["replica1"].cursor().execute("DELETE FROM app_item"),
    ):
        with pytest.raises(ReplicaWriteError, match=r"'replica1' is a replica.*(INSERT|DELETE) was refused.*'default'"):
            write()
    assert [record.name for record in caplog.records] == ["replicant"] * 2
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], "GUARD": False}}):
        Item.objects.using("replica1").create(name="x")
    with override_settings(REPLICANT={}):
        Item.objects.using("replica1").create(name="x")
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")
    assert Item.objects.using("replica1").count() == 2


def test_a_replicas_next_session_is_read_only_too():
    assert Item.objects.using("replica1").count() == 0
    connections["replica1"].close()
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")


def test_a_guard_that_cannot_be_set_inside_a_transaction_is_set_after_it():
    with override_settings(REPLICANT={}), transaction.atomic(using="replica1"):
        Item.objects.using("replica1").create(name="x")
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
            assert Item.objects.using("replica1").count() == 1
    with pytest.raises(ReplicaWriteError):
        Item.objects.using("replica1").create(name="x")
