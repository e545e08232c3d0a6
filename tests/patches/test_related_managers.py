"""Rows of a replica, handed to the managers of related objects."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connections

from replicant import explain, use_replica
from tests.app.models import Item, Note, Piece


@pytest.fixture
def replicated(site: Path) -> None:
    """Two items, the first with a piece and a note, on the primary and on the replicas."""
    first, _ = Item.objects.create(name="first"), Item.objects.create(name="second")
    Piece.objects.create(item=first, name="piece")
    content_type = ContentType.objects.db_manager("default").get_for_model(Item)
    Note.objects.create(content_type=content_type, object_id=first.pk, text="note")
    connections.close_all()
    for replica in ("replica1", "replica2"):
        shutil.copy(site / "default.sqlite3", site / f"{replica}.sqlite3")


@pytest.mark.usefixtures("replicated")
def test_a_row_of_a_replica_is_added_to_what_refers_to_it() -> None:
    with use_replica(stale_ok=True):
        item, piece = Item.objects.get(name="second"), Piece.objects.get()
    assert piece._state.db in {"replica1", "replica2"}
    item.pieces.add(piece)
    assert Piece.objects.using("default").get().item == item


@pytest.mark.usefixtures("replicated")
def test_rows_of_a_replica_replace_what_was_there() -> None:
    with use_replica(stale_ok=True):
        Item.objects.get(name="second").pieces.set(Piece.objects.all())
    assert Piece.objects.using("default").get().item.name == "second"


@pytest.mark.usefixtures("replicated")
def test_a_row_of_a_replica_is_added_by_its_content_type() -> None:
    with use_replica(stale_ok=True):
        Item.objects.get(name="second").notes.add(Note.objects.get())
    assert Note.objects.using("default").get().about.name == "second"


@pytest.mark.usefixtures("replicated")
def test_a_row_that_was_added_is_read_where_it_was_written() -> None:
    with use_replica(stale_ok=True):
        item, piece = Item.objects.get(name="second"), Piece.objects.get()
    item.pieces.add(piece)
    assert explain(Piece, instance=piece).alias == "default"


@pytest.mark.usefixtures("replicated")
def test_a_row_of_a_database_outside_of_the_cluster_is_still_refused() -> None:
    note = Note.objects.using("default").get()
    note._state.db = "other"
    with pytest.raises(ValueError, match="isn't saved"):
        Item.objects.using("default").get(name="second").notes.add(note)
