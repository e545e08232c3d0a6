"""Ways to load an instance, and what may be done with one."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import datetime, timedelta, timezone
from typing import Any

from django.contrib.contenttypes.models import ContentType
from django.db import connections
from django.forms import modelformset_factory

from tests.app.models import Item, Note
from tests.graphs.models import Animal, Dog, Event, Node

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)
#: Where an instance comes from: a read that is routed, or one that names the replica.
LOADS = ["routed", "replica1"]


def stock() -> None:
    """Write the rows that every act begins with, on the primary."""
    item = Item.objects.create(name="old")
    content_type = ContentType.objects.db_manager("default").get_for_model(Item)
    Note.objects.create(content_type=content_type, object_id=item.pk, text="note")
    Event.objects.create(happened=NOON, title="noon")
    Dog.objects.create(name="old", trick="old")
    for name in ("root", "other"):
        Node.objects.create(name=name)


def loaded(queryset: Any, load: str) -> Any:
    return queryset.using(load).first() if load != "routed" else queryset.first()


# The acts: an instance is loaded from a replica, something is written, and the instance leads to what was written.


def target_changed(load: str) -> Iterator[None]:
    note = loaded(Note.objects.all(), load)
    yield
    Item.objects.filter(name="old").update(name="new")
    assert note.about.name == "new"


def target_created(load: str) -> Iterator[None]:
    note = loaded(Note.objects.all(), load)
    yield
    note.object_id = Item.objects.create(name="created").pk
    assert note.about is not None


def target_replaced(load: str) -> Iterator[None]:
    note = loaded(Note.objects.all(), load)
    assert note.about is not None
    yield
    note.object_id = Item.objects.create(name="created").pk
    assert note.about.name == "created"
    assert note.about is note.about


def deferred_target(load: str) -> Iterator[None]:
    note = loaded(Note.objects.only("text"), load)
    yield
    Item.objects.filter(name="old").update(name="new")
    assert note.about.name == "new"
    assert not note.get_deferred_fields()


def next_row(load: str) -> Iterator[None]:
    event = loaded(Event.objects.all(), load)
    yield
    Event.objects.create(happened=NOON + timedelta(hours=1), title="later")
    assert event.get_next_by_happened().title == "later"


def previous_row(load: str) -> Iterator[None]:
    event = loaded(Event.objects.only("title"), load)
    yield
    Event.objects.create(happened=NOON - timedelta(hours=1), title="earlier")
    assert event.get_previous_by_happened().title == "earlier"
    assert "happened" in vars(event)


def real_instance(load: str) -> Iterator[None]:
    animal = loaded(Animal.objects.non_polymorphic(), load)
    yield
    Dog.objects.update(trick="new")
    assert animal.get_real_instance().trick == "new"


def row_of_a_form(load: str) -> Iterator[None]:
    item = loaded(Item.objects.all(), load)
    yield
    Item.objects.filter(name="old").update(name="new")
    formset = modelformset_factory(Item, fields=["name"], extra=0)(queryset=Item.objects.using(item._state.db))
    assert formset.forms[0].instance._state.db == item._state.db
    assert formset.forms[0].fields["id"].clean(item.pk).name == "new"


def tree(load: str) -> Iterator[None]:
    node = loaded(Node.objects.filter(name="other"), load)
    yield
    root = Node.objects.using("default").get(name="root")
    for number in range(3):
        Node.objects.create(name=f"child {number}", parent=Node.objects.using("default").get(pk=root.pk))
    node.parent = Node.objects.using("default").get(pk=root.pk)
    node.save()
    family = Node.objects.using("default").order_by("lft")
    assert [(one.name, one.lft, one.rght) for one in family] == [
        ("root", 1, 10),
        ("child 0", 2, 3),
        ("child 1", 4, 5),
        ("child 2", 6, 7),
        ("other", 8, 9),
    ]


ACTS: list[Callable[[str], Iterator[None]]] = [
    target_changed,
    target_created,
    target_replaced,
    deferred_target,
    next_row,
    previous_row,
    real_instance,
    row_of_a_form,
    tree,
]


def perform(act: Callable[[str], Iterator[None]], load: str, around: Callable[[], AbstractContextManager[Any]]) -> None:
    """Load outside of the block that writes: a routed read inside of a transaction would not go to a replica."""
    for _ in (steps := act(load)):
        with around():
            next(steps, None)


def in_a_thread(work: Callable[[], None]) -> None:
    """Run in a thread that has written nothing yet."""
    errors: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    for error in errors:
        raise error


def gone(instance: Any) -> Any:
    """The instance as a cache has kept it from before a deploy that renamed its alias."""
    kept = pickle.loads(pickle.dumps(instance))
    kept._state.db = "replica9"
    return kept
