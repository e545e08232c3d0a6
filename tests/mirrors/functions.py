"""Tests for pytest-django; ``tests/patches/test_test_runner.py`` runs them, in processes of their own."""

from __future__ import annotations

import pytest
from django.db import transaction
from django.test.testcases import DatabaseOperationForbidden

import replicant
from replicant import use_replica
from tests.app.models import Item


@pytest.mark.django_db
def test_a_replica_that_is_not_listed_is_not_chosen():
    Item.objects.create(name="x")
    with use_replica("replica1"):
        assert replicant.explain(Item) == ("default", "unavailable", ())
        assert Item.objects.get()._state.db == "default"
    with pytest.raises(DatabaseOperationForbidden):
        Item.objects.using("replica1").exists()


@pytest.mark.parametrize("name", ["one", "another"])
@pytest.mark.django_db(databases=["default", "replica1"])
def test_a_replica_that_is_listed_sees_what_is_not_committed(name: str, django_assert_num_queries):
    Item.objects.create(name=name)
    with django_assert_num_queries(0):
        assert Item.objects.get()._state.db == "replica1"
    with transaction.atomic():
        assert Item.objects.get()._state.db == "default"
    with pytest.raises(replicant.ReplicaWriteError):
        Item.objects.using("replica1").update(name="x")


# Before those that leave new content types behind, which what was serialized would meet: with Django alone, too.
@pytest.mark.django_db(databases=["default", "replica1"], serialized_rollback=True, transaction=True)
def test_the_live_server_reads_from_replicas(live_server, client):
    assert client.get("/read/").content.decode().split()[:2] == ["replica1", "balanced"]


@pytest.mark.parametrize("name", ["one", "another"])
@pytest.mark.django_db(transaction=True, databases="__all__")
def test_a_replica_sees_what_is_committed(name: str):
    Item.objects.create(name=name)
    assert Item.objects.get()._state.db in ("replica1", "replica2")
    assert replicant.explain(Item).reason == "balanced"


def test_without_a_database_nothing_is_chosen():
    with pytest.raises(RuntimeError):
        Item.objects.exists()
