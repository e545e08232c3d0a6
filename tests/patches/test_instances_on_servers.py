"""Reads that follow an instance of a replica. Every test runs on MySQL, MariaDB and PostgreSQL, with Django's engines
and with ours."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from typing import Any

import pytest
from django.contrib.contenttypes.models import ContentType
from django.db import connection, connections, transaction

from replicant import request_scope
from tests.app.models import Item, Note, Piece, Tag
from tests.databases import ours, use_databases
from tests.graphs.models import Animal, Event, Node
from tests.monitoring import watching
from tests.patches.instances import ACTS, LOADS, gone, in_a_thread, perform, stock
from tests.servers import Cluster


@pytest.fixture(params=["django", "replicant"])
def late(request: pytest.FixtureRequest, servers: Cluster, database: str) -> Iterator[Cluster]:
    """A cluster whose replicas stand still as soon as they have what every act begins with."""
    databases = servers.databases(database)
    settings = watching(None, WAIT_SECONDS=0)
    with use_databases(ours(databases) if request.param == "replicant" else databases, REPLICANT=settings):
        in_a_thread(_cleared)
        servers.wait_until_caught_up()
        for replica in servers.replicas:
            replica.pause_replication()
        ContentType.objects.clear_cache()
        yield servers
        for replica in servers.replicas:
            replica.resume_replication()
        servers.wait_until_caught_up()


def _cleared() -> None:
    for model in (Note, Piece, Item, Tag, Event, Animal, Node):
        model._base_manager.using("default").all().delete()
    stock()


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("around", [nullcontext, transaction.atomic])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("act", ACTS)
def test_an_instance_of_a_replica_leads_to_what_the_scope_wrote(
    act: Callable[[str], Iterator[None]], load: str, around: Any
) -> None:
    def work() -> None:
        with request_scope():
            perform(act, load, around)

    in_a_thread(work)


@pytest.mark.usefixtures("late")
@pytest.mark.parametrize("act", ACTS)
def test_an_instance_of_a_replica_leads_to_what_the_thread_wrote(act: Callable[[str], Iterator[None]]) -> None:
    in_a_thread(lambda: perform(act, "routed", nullcontext))


@pytest.mark.usefixtures("late")
def test_an_instance_of_an_alias_that_is_gone_is_one_of_the_cluster() -> None:
    def work() -> None:
        with request_scope():
            item, other = gone(Item.objects.get()), Item.objects.create(name="other")
            tag = gone(Tag.objects.create(name="tag"))
            item.tags.set([tag])
            piece = gone(Piece.objects.create(item=other, name="piece"))
            piece.item = item
            piece.save()
            item.pieces.add(gone(piece))
            assert [piece.name for piece in gone(item).pieces.all()] == ["piece"]
            note = gone(Note.objects.get())
            assert note.about == item
            other.notes.add(note)
            assert Note.objects.get().about == other
            item.name = "changed"
            item.save()
            item = gone(item)
            item.refresh_from_db()
            assert item.name == "changed"
            assert [tag.name for tag in item.tags.all()] == ["tag"]
            gone(item).delete()
            assert [item.name for item in Item.objects.all()] == ["other"]

    in_a_thread(work)


def test_the_databases_are_those_of_the_run(late: Cluster) -> None:
    assert connection.vendor in {"mysql", "postgresql"}
    assert set(connections) == {"default", "replica1", "replica2"}
