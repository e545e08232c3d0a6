"""Reads that follow an instance of a replica, on SQLite. For the servers see ``test_instances_on_servers``."""

from __future__ import annotations

import contextlib
import copy
import inspect
import shutil
import sqlite3
from contextlib import nullcontext
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.contenttypes.fields import GenericForeignKey
from django.contrib.contenttypes.models import ContentType
from django.db import connections, router, transaction
from django.db.models import Model
from django.db.models.query_utils import DeferredAttribute
from django.forms.models import BaseModelFormSet
from django.test import override_settings
from mptt.models import MPTTModel
from polymorphic.managers import PolymorphicManager
from polymorphic.models import PolymorphicModel

from replicant import explain, request_scope, use_replica
from replicant.tracing import record_queries
from tests.app.models import Item, Note, Piece, Tag
from tests.graphs.models import Animal, Dog, Event, Node
from tests.patches.instances import ACTS, LOADS, NOON, gone, in_a_thread, perform, stock


@pytest.fixture
def replicated(site: Path) -> Path:
    stock()
    connections.close_all()
    for replica in ("replica1", "replica2"):
        shutil.copy(site / "default.sqlite3", site / f"{replica}.sqlite3")
    return site


@pytest.mark.usefixtures("replicated")
@pytest.mark.parametrize("around", [nullcontext, transaction.atomic])
@pytest.mark.parametrize("load", LOADS)
@pytest.mark.parametrize("act", ACTS)
def test_an_instance_of_a_replica_leads_to_what_the_scope_wrote(act: Any, load: str, around: Any) -> None:
    def work() -> None:
        with request_scope():
            perform(act, load, around)

    in_a_thread(work)


@pytest.mark.usefixtures("replicated")
@pytest.mark.parametrize("act", ACTS)
def test_an_instance_of_a_replica_leads_to_what_the_thread_wrote(act: Any) -> None:
    in_a_thread(lambda: perform(act, "routed", nullcontext))


@pytest.mark.usefixtures("replicated")
def test_before_a_write_the_reads_stay_on_a_replica() -> None:
    def work() -> None:
        with request_scope():
            note, event = Note.objects.get(), Event.objects.get()
            with record_queries() as queries:
                assert note.about.name == "old"
                with pytest.raises(Event.DoesNotExist):
                    event.get_next_by_happened()
            assert {query.alias for query in queries} == {note._state.db}

    in_a_thread(work)


@pytest.mark.usefixtures("replicated")
def test_using_keeps_its_meaning_after_a_write() -> None:
    def work() -> None:
        with request_scope():
            Item.objects.filter(name="old").update(name="new")
            assert Item.objects.using("replica1").get().name == "old"
            item = Item.objects.using("replica1").get()
            assert Item.objects.using(item._state.db).get().name == "old"

    in_a_thread(work)


@pytest.mark.usefixtures("replicated")
def test_an_exempt_target_is_read_from_the_primary() -> None:
    with override_settings(
        REPLICANT={"default": {"REPLICAS": ["replica1"], "PRIMARY_ONLY": ["app.Item", "contenttypes"]}}
    ):
        Item.objects.filter(name="old").update(name="new")
        with use_replica(stale_ok=True):
            assert Note.objects.get().about.name == "new"


@pytest.mark.usefixtures("replicated")
def test_an_instance_of_another_database_is_followed_there() -> None:
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        note = Note.objects.using("replica2").get()
        Item.objects.filter(name="old").update(name="new")
        assert note.about.name == "old"


def test_a_content_type_that_a_replica_lacks_is_read_from_the_primary(replicated: Path) -> None:
    with contextlib.closing(sqlite3.connect(replicated / "replica1.sqlite3")) as replica:
        replica.execute("DELETE FROM django_content_type WHERE model = 'item'")
        replica.commit()
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        ContentType.objects.clear_cache()
        item = Item.objects.using("replica1").get()
        Item.objects.create(name="written")
        assert [note.text for note in item.notes.all()] == ["note"]
        ContentType.objects.clear_cache()
        assert Note.objects.using("replica1").get().about == item
    ContentType.objects.clear_cache()


@pytest.mark.usefixtures("replicated")
def test_a_row_of_a_replica_is_given_another_class() -> None:
    class_of = Animal.objects.create(name="animal")
    connections.close_all()
    animal = Animal.objects.non_polymorphic().get(pk=class_of.pk)
    animal._state.db = "replica1"
    dog = Dog.objects.create_from_super(animal, trick="sit")
    assert Dog.objects.using("default").get(pk=dog.pk).trick == "sit"


# An alias without a connection.


@pytest.mark.usefixtures("replicated")
def test_an_instance_of_an_alias_that_is_gone_belongs_to_the_cluster_of_its_model() -> None:
    item = gone(Item.objects.get())
    assert router.db_for_write(Item, instance=item) == "default"
    assert explain(Piece, instance=item).alias in {"default", "replica1", "replica2"}
    assert router.allow_relation(item, Item.objects.using("default").get())
    assert router.allow_relation(item, gone(item))


@pytest.mark.usefixtures("replicated")
def test_what_belongs_to_an_instance_of_an_alias_that_is_gone_is_read() -> None:
    item, tag = Item.objects.get(), Tag.objects.create(name="tag")
    item.tags.add(tag)
    Piece.objects.create(item=item, name="piece")
    item = gone(item)
    assert [tag.name for tag in item.tags.all()] == ["tag"]
    assert [note.text for note in item.notes.all()] == ["note"]
    assert gone(Piece.objects.get()).item == item
    assert gone(Note.objects.get()).about == item
    assert gone(Animal.objects.non_polymorphic().get()).get_real_instance().trick == "old"
    with pytest.raises(Event.DoesNotExist):
        gone(Event.objects.get()).get_next_by_happened()


@pytest.mark.usefixtures("replicated")
def test_an_instance_of_an_alias_that_is_gone_is_changed_and_deleted() -> None:
    item, tag = gone(Item.objects.get()), gone(Tag.objects.create(name="tag"))
    item.tags.add(tag)
    item.tags.set([tag])
    piece = gone(Piece.objects.create(item=Item.objects.get(), name="piece"))
    item.pieces.add(piece)
    piece = gone(piece)
    piece.item = item
    piece.save()
    item.name = "changed"
    item.save()
    item = gone(item)
    item.refresh_from_db()
    assert (item.name, item.tags.count()) == ("changed", 1)
    item.tags.remove(tag)
    note = gone(Note.objects.get())
    item.notes.add(note)
    assert Note.objects.get(pk=note.pk).about == item
    gone(item).delete()
    assert not Item.objects.using("default").exists()


@pytest.mark.usefixtures("replicated")
def test_a_row_that_was_loaded_in_part_from_an_alias_that_is_gone_is_saved_in_that_part() -> None:
    event = gone(Event.objects.only("title").get())
    Event.objects.update(happened=NOON + timedelta(days=1))
    event.title = "changed"
    event.save()
    event = Event.objects.using("default").get()
    assert (event.title, event.happened) == ("changed", NOON + timedelta(days=1))


@pytest.mark.usefixtures("replicated")
def test_a_tree_is_changed_through_an_instance_of_an_alias_that_is_gone() -> None:
    node = gone(Node.objects.get(name="other"))
    node.parent = Node.objects.using("default").get(name="root")
    node.save()
    gone(node).delete()
    assert [node.name for node in Node.objects.using("default")] == ["root"]


# What is wrapped: a version of Django, or of a package, that changes one of these needs another wrapper.


SIGNATURES = {
    (Model, "_get_next_or_previous_by_FIELD"): "(self, field, is_next, **kwargs)",
    (GenericForeignKey, "get_content_type"): "(self, obj=None, id=None, using=None, model=None)",
    (BaseModelFormSet, "add_fields"): "(self, form, index)",
    (PolymorphicModel, "get_real_instance"): "(self)",
    (PolymorphicModel, "get_real_instance_class"): "(self)",
    (PolymorphicModel, "get_real_concrete_instance_class"): "(self)",
    (PolymorphicModel, "get_real_concrete_instance_class_id"): "(self)",
    (PolymorphicManager, "create_from_super"): "(self, obj, **kwargs)",
    (MPTTModel, "save"): "(self, *args, **kwargs)",
    (MPTTModel, "delete"): "(self, *args, **kwargs)",
    (MPTTModel, "insert_at"): (
        "(self, target, position='first-child', save=False, allow_existing_pk=False, refresh_target=True)"
    ),
    (MPTTModel, "_mptt_refresh"): "(self)",
}


def bare(method: Any) -> str:
    """The signature of what is wrapped, without its annotations."""
    signature = inspect.signature(method)
    parameters = [each.replace(annotation=each.empty) for each in signature.parameters.values()]
    return str(signature.replace(parameters=parameters, return_annotation=signature.empty))


@pytest.mark.parametrize(("owner", "name"), SIGNATURES)
def test_what_is_wrapped_takes_what_it_took(owner: type, name: str) -> None:
    method = getattr(owner, name)
    assert hasattr(method, "__wrapped__")
    assert bare(method.__wrapped__) == SIGNATURES[owner, name]


def test_the_descriptor_of_a_generic_foreign_key_takes_what_it_took() -> None:
    descriptor = inspect.getattr_static(Note, "about")
    get = type(descriptor).__get__
    assert hasattr(get, "__wrapped__")
    assert bare(get.__wrapped__) == "(self, instance, cls=None)"
    assert {"ct_field", "fk_field", "model"} <= set(vars(getattr(descriptor, "field", descriptor)))


@pytest.mark.skipif(not hasattr(DeferredAttribute, "fetch_many"), reason="since Django 6.1")
@pytest.mark.usefixtures("replicated")
def test_a_field_of_all_rows_is_fetched_where_a_routed_read_goes() -> None:
    from django.db.models import FETCH_PEERS  # type: ignore[attr-defined]

    Item.objects.create(name="second")
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        items = list(Item.objects.using("default").only("pk").fetch_mode(FETCH_PEERS))
        for item in items:
            item._state.db = "replica1"
        Item.objects.update(name="new")
        assert [item.name for item in items] == ["new", "new"]


def test_the_twin_of_an_instance_leaves_it_alone(replicated: Path) -> None:
    note = Note.objects.using("replica1").get()
    before = copy.copy(vars(note))
    Item.objects.create(name="written")
    assert note.about is not None
    assert {**vars(note), "_state": None} == {**before, "_state": None}
    assert note._state.db == "replica1"
