"""What the primary has shown to a client of other clients' rows, the client's next read finds, also while replicas are
behind. On SQLite, and on real servers with Django's engines and with ours."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, connections, transaction
from django.db.models import PROTECT, ProtectedError
from django.db.models.signals import m2m_changed
from django.test import override_settings

import replicant
from replicant import explain, request_scope
from replicant.connections import causality
from replicant.monitor import cluster_monitor
from tests.app.models import Item, Piece, Tag
from tests.databases import migrate, ours, use_databases
from tests.monitoring import watching
from tests.servers import ENGINES, Cluster


@pytest.fixture(params=["sqlite", *(f"{engine}-{kind}" for engine in ENGINES for kind in ("django", "replicant"))])
def late(request: pytest.FixtureRequest) -> Iterator[str]:
    """A site whose replicas stand still; an item that another client has made since."""
    engine, _, kind = request.param.partition("-")
    if engine == "sqlite":
        request.getfixturevalue("site")
        in_another_thread(lambda: Item.objects.create(pk=1, name="theirs"))
        yield engine
        return
    cluster: Cluster = request.getfixturevalue("by_engine")(engine)
    databases = cluster.databases("revealed")
    keys = watching(0.05, WAIT_SECONDS=0)
    with use_databases(ours(databases) if kind == "replicant" else databases, REPLICANT=keys):
        in_another_thread(Item.objects.using("default").all().delete)
        cluster.wait_until_caught_up()
        for replica in cluster.replicas:
            replica.pause_replication()
        in_another_thread(lambda: Item.objects.create(pk=1, name="theirs"))
        yield engine
        cluster_monitor.stop()
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


@pytest.fixture(scope="module")
def by_engine() -> Iterator[Callable[[str], Cluster]]:
    """Clusters of this module alone, started when they are needed: replication stands still on them."""
    from tests.servers import start

    started: dict[str, Cluster] = {}

    def get(engine: str) -> Cluster:
        if engine not in started:
            cluster = started[engine] = start(engine, replicas=2)
            cluster.create_database("revealed")
            with use_databases(cluster.databases("revealed")):
                in_another_thread(lambda: migrate("default"))
        return started[engine]

    yield get
    for cluster in started.values():
        cluster.stop()


def in_another_thread(work: Callable[[], Any]) -> None:
    """Do it as another client, whose writes bind nothing here."""

    def done() -> None:
        try:
            work()
        finally:
            connections.close_all()

    thread = threading.Thread(target=done)
    thread.start()
    thread.join()


def reason() -> str | None:
    return explain(Item).reason


def create_in_a_block() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Item.objects.create(pk=1, name="mine")


def create() -> None:
    with pytest.raises(IntegrityError):
        Item(pk=1, name="mine").save(force_insert=True)


def create_in_a_savepoint() -> None:
    with transaction.atomic():
        create_in_a_block()


def create_by_bulk() -> None:
    with pytest.raises(IntegrityError):
        Item.objects.bulk_create([Item(pk=1, name="mine")])


def violate_a_foreign_key() -> None:
    """The item is not there, which is news: another client may have deleted it."""
    with pytest.raises(IntegrityError), transaction.atomic():
        Piece.objects.create(item_id=404, name="of nothing")


def violate_a_foreign_key_that_is_checked_early() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        Piece.objects.create(item_id=404, name="of nothing")
        with connection.cursor() as cursor:
            if connection.vendor == "postgresql":
                cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")


def update_nothing() -> None:
    assert Item.objects.filter(pk=1, name="as it was").update(name="mine") == 0


def update_nothing_in_a_block() -> None:
    with transaction.atomic():
        update_nothing()


def update_nothing_and_roll_back() -> None:
    with transaction.atomic():
        update_nothing()
        transaction.set_rollback(True)


def delete_nothing() -> None:
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM app_item WHERE id = 1 AND name = 'as it was'")


def delete_no_object() -> None:
    """Others refer to items, so Django looks for them first."""
    assert Item.objects.filter(pk=1, name="as it was").delete()[0] == 0


def delete_what_is_protected() -> None:
    in_another_thread(lambda: Piece.objects.create(item_id=1, name="theirs"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Piece._meta.get_field("item").remote_field, "on_delete", PROTECT)
        with pytest.raises(ProtectedError):
            Item(pk=1).delete()


def ignore_a_conflict() -> None:
    Item.objects.bulk_create([Item(pk=1, name="mine")], ignore_conflicts=True)


def ignore_a_conflict_and_roll_back() -> None:
    with transaction.atomic():
        ignore_a_conflict()
        transaction.set_rollback(True)


def get_or_create() -> None:
    assert Item.objects.get_or_create(pk=1, defaults={"name": "mine"})[1] is False


def get_or_create_in_a_block() -> None:
    with transaction.atomic():
        get_or_create()


def _tagged_by_another_client() -> Tag:
    def tag() -> None:
        Tag.objects.using("default").get_or_create(pk=1, name="theirs")
        Item.tags.through.objects.using("default").create(item_id=1, tag_id=1)

    in_another_thread(tag)
    return Tag(pk=1, name="theirs")


def set_the_same_tags() -> None:
    Item(pk=1).tags.set([_tagged_by_another_client()])


def add_a_tag_again() -> None:
    tag, heard = _tagged_by_another_client(), []

    def hear(**kwargs: Any) -> None:
        heard.append(kwargs["pk_set"])

    # With a receiver, Django looks for the rows first.
    m2m_changed.connect(hear, sender=Item.tags.through)
    try:
        Item(pk=1).tags.add(tag)
    finally:
        m2m_changed.disconnect(hear, sender=Item.tags.through)
    assert not any(heard)


def lock() -> None:
    with transaction.atomic():
        assert Item.objects.select_for_update().get(pk=1).name == "theirs"


def lock_and_roll_back() -> None:
    with transaction.atomic():
        assert Item.objects.select_for_update().get(pk=1).name == "theirs"
        transaction.set_rollback(True)


def lock_by_a_cursor() -> None:
    if connection.vendor == "sqlite":
        lock()
        return
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT name FROM app_item WHERE id = 1 FOR UPDATE")
        assert cursor.fetchall() == [("theirs",)] or cursor.rowcount == 1


REVEALING = [
    create,
    create_in_a_block,
    create_in_a_savepoint,
    create_by_bulk,
    violate_a_foreign_key,
    violate_a_foreign_key_that_is_checked_early,
    update_nothing,
    update_nothing_in_a_block,
    update_nothing_and_roll_back,
    delete_nothing,
    delete_no_object,
    delete_what_is_protected,
    ignore_a_conflict,
    ignore_a_conflict_and_roll_back,
    get_or_create,
    get_or_create_in_a_block,
    set_the_same_tags,
    add_a_tag_again,
    lock,
    lock_and_roll_back,
    lock_by_a_cursor,
]


@pytest.mark.parametrize("reveal", REVEALING)
def test_what_was_revealed_is_found(late: str, reveal: Callable[[], None]):
    connection.ensure_connection()
    with request_scope():
        assert not Item.objects.filter(pk=1).exists()
        reveal()
        assert causality.has_written()
        assert Item.objects.filter(pk=1).exists()
        assert Item.objects.get(pk=1).name == "theirs"
        token = replicant.token()
    # The client's next request, too.
    with request_scope(), replicant.after(token):
        assert Item.objects.get(pk=1).name == "theirs"


@pytest.mark.parametrize("violate", [violate_a_foreign_key, violate_a_foreign_key_that_is_checked_early])
def test_what_a_write_to_an_exempt_table_reveals_of_others_is_found(late: str, violate: Callable[[], None]):
    keys = {**settings.REPLICANT["default"], "PRIMARY_ONLY": ["app.Piece"]}
    with override_settings(REPLICANT={"default": keys}), request_scope():
        assert not Item.objects.filter(pk=1).exists()
        violate()
        assert causality.has_written()
        assert Item.objects.get(pk=1).name == "theirs"


def test_without_a_scope_it_is_found_too(late: str):
    assert not Item.objects.filter(pk=1).exists()
    create_in_a_block()
    assert Item.objects.get(pk=1).name == "theirs"


def test_the_position_is_asked_for_once_and_only_for_a_read_of_a_replica(late: str, monkeypatch: pytest.MonkeyPatch):
    if late == "sqlite":
        pytest.skip("has no positions")
    asked: list[str] = []
    ask = causality.query_position
    monkeypatch.setattr(causality, "query_position", lambda primary: asked.append(primary) or ask(primary))
    with request_scope():
        for _ in range(3):
            update_nothing()
        with replicant.use_primary():
            Item.objects.get(pk=1)
        assert asked == []
        for _ in range(3):
            assert Item.objects.get(pk=1).name == "theirs"
        assert asked == ["default"]


def test_what_is_read_on_the_primary_and_reveals_nothing_binds_nothing(late: str):
    connection.ensure_connection()
    with request_scope():
        Item.objects.using("default").get(pk=1)
        assert not causality.has_written()
        assert reason() == "balanced"
        # A row that was made by this scope is no news, nor is a syntax error of a read.
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "CONSISTENCY": "eventual"}}):
            update_nothing()
        assert not causality.has_written()
