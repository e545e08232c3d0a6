"""The router's other answers, as Django asks for them, and settings that change while it runs."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import models, router
from django.test import override_settings

import replicant
from replicant import ReplicaRouter, _core, explain, request_scope, use_replica
from replicant.conf import active
from replicant.tracing import record_queries
from tests.app.models import Item, ItemProxy, Note, Piece
from tests.core.routing import REPLICAS, on, reason, replicant_with

pytestmark = pytest.mark.usefixtures("site")


def test_a_read_goes_to_a_replica_and_a_write_to_the_primary():
    assert router.db_for_read(Item) in REPLICAS
    assert router.db_for_write(Item) == "default"
    on("replica1"), on("replica2")
    assert Item.objects.count() == 1
    Item.objects.create(name="new")
    assert Item.objects.using("default").count() == 1


def test_django_builds_the_router_with_no_arguments_and_calls_it_in_rust():
    built = router.routers[0]
    assert isinstance(built, ReplicaRouter)
    for name in ("db_for_read", "db_for_write", "allow_relation", "allow_migrate"):
        assert type(getattr(built, name)).__name__ == "builtin_function_or_method"


def test_an_error_on_the_way_is_raised_and_nothing_is_decided():
    class Broken(type):
        @property
        def _meta(cls):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        router.db_for_read(Broken("Model", (), {}))
    with pytest.raises(ZeroDivisionError):
        explain(Broken("Model", (), {}))


def test_a_subclass_can_change_an_answer():
    class Mine(ReplicaRouter):
        def __init__(self, name):
            self.name = name

        def db_for_read(self, model, **hints):
            return "other" if model is Note else super().db_for_read(model, **hints)

    mine = Mine("mine")
    assert mine.db_for_read(Note) == "other"
    assert mine.db_for_read(Item) in REPLICAS


# The other answers.


def test_objects_of_one_cluster_may_be_related():
    one, two, foreign = on("replica1"), on("default"), on("other")
    assert router.allow_relation(one, two) is True
    assert router.allow_relation(one, foreign) is False  # Django's own answer: the aliases differ.
    assert _core.ReplicaRouter().allow_relation(one, foreign) is None
    assert _core.ReplicaRouter().allow_relation(one, Item()) is None


def test_nothing_is_migrated_on_a_replica():
    built = _core.ReplicaRouter()
    assert built.allow_migrate("replica1", "app", model_name="item", model=Item) is False
    assert built.allow_migrate("replica1", "nonsense") is False
    assert built.allow_migrate("default", "app", model_name="item") is None
    assert built.allow_migrate("other", "app", model_name="item") is None


def test_what_has_no_text_for_a_name_is_migrated_where_django_says():
    # Such as the mocks that tests put in the place of apps and models.
    built = _core.ReplicaRouter()
    assert built.allow_migrate("default", object()) is None
    assert built.allow_migrate("default", "app", model_name=object()) is None
    assert built.allow_migrate("replica1", object()) is False


def test_models_are_migrated_on_their_own_cluster():
    clusters = {"default": {"REPLICAS": ["replica1"]}, "other": {"REPLICAS": [], "MODELS": ["app.Item", "auth"]}}
    with override_settings(REPLICANT=clusters):
        built = _core.ReplicaRouter()
        assert built.allow_migrate("default", "app", model_name="item") is False
        assert built.allow_migrate("other", "app", model_name="item") is None
        assert built.allow_migrate("default", "app", model_name="piece", model=Piece) is None
        assert built.allow_migrate("other", "app", model_name="piece", model=Piece) is False
        # A proxy lives with its concrete model, and the table of a many-to-many field with the model that has it.
        assert built.allow_migrate("other", "app", model_name="itemproxy", model=ItemProxy) is None
        assert router.db_for_write(Item.tags.through) == "other"
        # RunPython names an app alone: here its models are on both.
        assert built.allow_migrate("other", "app") is None
        assert built.allow_migrate("default", "app") is None
        assert built.allow_migrate("default", "auth") is False
        assert built.allow_migrate("other", "contenttypes") is False


def test_generic_foreign_keys_and_prefetching_stay_together():
    item = on("replica1", "a")
    with override_settings(REPLICANT={}):
        kind = ContentType.objects.db_manager("replica1").get_for_model(Item)
        note = Note.objects.using("replica1").create(content_type=kind, object_id=item.pk, text="n")
    with use_replica("replica1"), record_queries() as queries:
        found = Item.objects.prefetch_related("notes").get()
        assert [note.text for note in found.notes.all()] == ["n"]
        assert Note.objects.get(pk=note.pk).about == item
    assert {query.alias for query in queries} == {"replica1"}


def test_historical_models_do_not_pile_up():
    for number in range(5000):
        meta = type("Meta", (), {"app_label": "app", "apps": apps.__class__()})
        model = type("Old", (models.Model,), {"__module__": "old", "Meta": meta, "number": number})
        assert router.db_for_write(model) == "default"


# Settings at run time.


def test_changed_settings_take_effect_at_once():
    assert explain(Item).alias in REPLICAS
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "READS": "primary"}}):
        assert explain(Item) == ("default", "default", ("replica1",))
    with override_settings(REPLICANT={}):
        assert explain(Item).alias is None
    assert explain(Item).alias in REPLICAS


def test_settings_that_changed_while_they_were_read_are_not_put_in_force(monkeypatch: pytest.MonkeyPatch):
    real, late = active.read, []

    def read():
        found = real()
        if not late:
            # Somebody else changes the settings now, and what was read is of yesterday.
            late.append(override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "READS": "primary"}}))
            late[0].enable()
        return found

    monkeypatch.setattr(active, "read", read)
    _core.invalidate()
    try:
        assert reason() == "default"
    finally:
        late[0].disable()
    assert reason() == "balanced"


def test_other_settings_matter_too():
    assert reason() == "balanced"
    for setting in ("DATABASES", "INSTALLED_APPS"):
        before = _core.generation()
        active._changed(setting=setting)
        assert _core.generation() > before
    before = _core.generation()
    active._changed(setting="DEBUG")
    assert _core.generation() == before


def test_a_rebuild_keeps_scopes_and_records():
    with request_scope():
        first = router.db_for_read(Item)
        with replicant_with(PRIMARY_WEIGHT=1):
            assert router.db_for_read(Item) == first
            Item.objects.create(name="x")
        assert reason() == "pinned"


def test_wrong_settings_are_refused_by_the_router_with_the_text_of_the_check():
    with (
        override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "READ": "primary"}}),
        pytest.raises(ImproperlyConfigured, match=r"replicant\.E002.*'READ'.*did you mean 'READS'"),
    ):
        Item.objects.count()
    assert Item.objects.count() == 0


def test_explain_counts_and_changes_nothing():
    def reads():
        return [member["reads"] for member in replicant.status()["clusters"]["default"]["members"]]

    before = reads()
    with request_scope():
        told = {explain(Item).alias for _ in range(20)}
        assert len(told) == 1
        assert router.db_for_read(Item) in told
        assert reason() == "sticky"
    after = reads()
    assert sum(sum(member.values()) for member in after) == 1 + sum(sum(member.values()) for member in before)


def test_status_is_plain_data(site: Path):
    import json

    with request_scope():
        Item.objects.count()
    told = json.loads(json.dumps(replicant.status()))
    members = told["clusters"]["default"]["members"]
    assert [(member["alias"], member["role"], member["state"]) for member in members] == [
        ("default", "primary", "up"),
        ("replica1", "replica", "up"),
        ("replica2", "replica", "up"),
    ]
    assert sum(member["share"] for member in members) == pytest.approx(1)


def test_a_row_loaded_in_part_is_copied_whole_to_a_database_outside_of_its_cluster():
    with override_settings(REPLICANT={}):
        pk = Item.objects.using("replica1").create(name="copied").pk
    item = Item.objects.using("replica1").only("pk").get(pk=pk)
    item.save(using="other")
    assert Item.objects.using("other").get(pk=pk).name == "copied"
