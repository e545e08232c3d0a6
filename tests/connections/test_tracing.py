"""Recorded statements, and why they went where they went."""

from __future__ import annotations

import pytest

from replicant import request_scope
from replicant.tracing import record_queries
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


def test_queries_are_recorded_with_their_reasons():
    with record_queries() as queries, request_scope():
        Item.objects.count()
        Item.objects.count()
        Item.objects.using("replica1").count()
        # Two batches: Django 6.0 sends a single one without a transaction.
        Item.objects.bulk_create([Item(name="x"), Item(name="y")], batch_size=1)
        Item.objects.count()
    told = [(query.alias, query.reason) for query in queries]
    first = told[0][0]
    assert told == [
        (first, "balanced"),
        (first, "sticky"),
        ("replica1", None),
        ("default", None),  # the transaction's BEGIN
        ("default", "write"),
        ("default", "write"),
        ("default", "pinned"),
    ]
    assert all(query.seconds > 0 for query in queries)


def test_the_innermost_recording_collects_and_the_outer_goes_on():
    with record_queries() as outer:
        Item.objects.count()
        with record_queries() as inner:
            Item.objects.count()
        Item.objects.count()
    assert (len(outer), len(inner)) == (2, 1)
