"""The contract's table and the router's other answers, as Django asks for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, models, router, transaction
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

import replicant
from replicant import NoReplicaAvailable, ReplicaRouter, _core, explain, request_scope, use_primary, use_replica
from replicant.conf import active
from replicant.tracing import record_queries
from tests.app.models import Account, Item, ItemProxy, Note, Piece

pytestmark = pytest.mark.usefixtures("site")

REPLICAS = {"replica1", "replica2"}


def replicant_with(**keys):
    return override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"], **keys}})


def on(alias: str, name: str = "x") -> Item:
    """An item on one database only, as a replica that lags or runs ahead of the others would have it."""
    with override_settings(REPLICANT={}):
        item = Item.objects.using(alias).create(name=name)
        connections[alias].close()
    return item


def reason(model: type[models.Model] = Item, **hints) -> str | None:
    return explain(model, **hints).reason


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


# Row 1.


def test_row_1_a_model_of_no_cluster_is_nobodys_business():
    with override_settings(REPLICANT={"other": {"REPLICAS": ["replica1"], "MODELS": ["auth"]}}):
        assert explain(Item) == (None, None, ())
        assert _core.ReplicaRouter().db_for_write(Item) is None
        assert router.db_for_read(Item) == "default"


def test_row_1_an_instance_from_outside_of_its_cluster_is_followed_there():
    item = on("other", "elsewhere")
    assert explain(Item, instance=item).alias is None
    with override_settings(REPLICANT={}):
        Piece.objects.using("other").create(item=item, name="p")
    assert [piece.name for piece in item.pieces.all()] == ["p"]
    item.name = "changed"
    item.save()
    assert Item.objects.using("other").get().name == "changed"


def test_row_1_an_instance_of_another_cluster_does_not_lead_there():
    clusters = {"default": {"REPLICAS": ["replica1"]}, "other": {"REPLICAS": ["replica2"], "MODELS": ["auth"]}}
    with override_settings(REPLICANT=clusters):
        user = User(pk=1)
        user._state.db = "replica2"
        assert explain(Item, instance=user).alias == "replica1"
        assert router.db_for_write(Item, instance=user) == "default"
        assert explain(User, instance=user).alias == "replica2"
        user._state.db = "replica1"
        assert explain(User, instance=user).alias is None


# Row 2.


@pytest.mark.parametrize("name", ["app", "app.Item", "app.item", "app.ITEM"])
def test_row_2_exempt_models_are_read_from_the_primary(name: str):
    with replicant_with(PRIMARY_ONLY=[name]), use_replica():
        assert explain(Item) == ("default", "exempt", ("replica1", "replica2"))
        assert reason(Account) == ("exempt" if name == "app" else "balanced")


def test_row_2_sessions_and_the_database_cache_are_exempt_by_default():
    from django.contrib.sessions.models import Session
    from django.core.cache.backends.db import Options

    assert reason(Session) == "exempt"
    cache_model = type("CacheEntry", (), {"_meta": Options("cache_table")})
    assert reason(cache_model) == "exempt"


def test_row_2_a_proxy_of_an_exempt_model_is_exempt():
    with replicant_with(PRIMARY_ONLY=["app.Item"]):
        assert reason(ItemProxy) == "exempt"


# Rows 3 and 4.


def test_row_3_use_primary():
    with use_replica(), use_primary():
        assert explain(Item).alias == "default"
        assert reason() == "use_primary"


def test_row_4_a_transaction_on_the_primary():
    with use_replica("replica1"), transaction.atomic():
        assert reason() == "transaction"
        with transaction.atomic():
            assert reason() == "transaction"
    with transaction.atomic(using="other"):
        assert reason() == "balanced"


# Row 5.


def test_row_5_a_write_keeps_the_request_on_the_primary():
    with request_scope():
        assert reason() == "balanced"
        Item.objects.create(name="x")
        assert explain(Item) == ("default", "pinned", ())
        with use_replica("replica1"):
            assert reason() == "pinned"
        with use_replica(stale_ok=True):
            assert reason() == "balanced"
        assert Item.objects.get().name == "x"
    assert reason() == "balanced"


def test_row_5_outside_a_request_for_pin_seconds():
    with replicant_with(PIN_SECONDS=0.2):
        Item.objects.create(name="x")
        assert reason() == "pinned"
        import time

        deadline = time.monotonic() + 10
        while reason() == "pinned":
            assert time.monotonic() < deadline
        assert reason() == "balanced"


def test_row_5_eventual_consistency_pins_nothing():
    with replicant_with(CONSISTENCY="eventual"), request_scope():
        Item.objects.create(name="x")
        assert reason() == "balanced"


def test_row_5_a_write_elsewhere_pins_nothing():
    with request_scope():
        Item.objects.using("other").create(name="x")
        assert reason() == "balanced"


# Row 6.


def test_row_6_a_replica_by_name():
    with request_scope():
        with use_replica("replica2"):
            assert all(router.db_for_read(Item) == "replica2" for _ in range(20))
            assert reason() == "use_replica"
        first = router.db_for_read(Item)
        with use_replica("replica1" if first == "replica2" else "replica2"):
            assert router.db_for_read(Item) != first
        assert router.db_for_read(Item) == first


def test_row_6_weight_0_is_reached_by_name_only():
    with override_settings(REPLICANT={"default": {"REPLICAS": {"replica1": 1, "replica2": 0}}}):
        assert all(router.db_for_read(Item) == "replica1" for _ in range(100))
        with use_replica("replica2"):
            assert router.db_for_read(Item) == "replica2"


def test_row_6_a_name_that_is_no_member_is_refused_on_entry():
    scope = use_replica("replica3")
    with pytest.raises(ImproperlyConfigured, match=r"use_replica\('replica3'\).*'default', 'replica1', 'replica2'"):
        scope.__enter__()
    with pytest.raises(ImproperlyConfigured, match="use_primary"):
        use_primary("nowhere").__enter__()
    assert reason() == "balanced"


# Row 7.


def test_row_7_an_instance_from_the_primary_is_followed_there():
    item = on("default")
    assert explain(Piece, instance=item) == ("default", "instance", ("replica1", "replica2"))
    with use_replica():
        assert reason(Piece, instance=item) == "balanced"
    with replicant_with(PRIMARY_ONLY=["app.Item"]):
        assert reason(Piece, instance=item) == "balanced"


def test_row_7b_an_object_graph_reads_from_one_replica():
    on("replica1"), on("replica2")
    item = Item.objects.using("replica2").get()
    assert all(explain(Piece, instance=item)[:2] == ("replica2", "instance") for _ in range(20))
    with request_scope():
        assert reason(Piece, instance=item) == "balanced"


def test_row_7_a_lazy_user_is_placed_like_the_user():
    user = SimpleLazyObject(lambda: User(pk=1))
    user._state.db = "default"
    with replicant_with(PRIMARY_ONLY=["auth"]):
        assert reason(Item, instance=user) == "balanced"
    clusters = {"default": {"REPLICAS": ["replica1"]}, "other": {"REPLICAS": ["replica2"], "MODELS": ["auth"]}}
    with override_settings(REPLICANT=clusters):
        user._state.db = "other"
        assert router.db_for_write(User, instance=user) == "other"
        assert router.db_for_write(Item, instance=user) == "default"


def test_an_unsaved_instance_says_nothing():
    assert reason(Piece, instance=Item()) == "balanced"
    assert reason(Piece, instance=object()) == "balanced"
    assert reason(Piece, instance=None) == "balanced"


# Rows 8 and 9.


def test_row_8_a_request_reads_from_one_replica():
    with request_scope():
        first = router.db_for_read(Item)
        assert all(router.db_for_read(Account) == first for _ in range(50))
        assert reason() == "sticky"
    with use_replica():
        assert len({router.db_for_read(Item) for _ in range(50)}) == 1


def test_row_9_without_a_scope_each_read_is_balanced():
    assert {router.db_for_read(Item) for _ in range(100)} == REPLICAS
    with replicant_with(STICKY=False), request_scope():
        assert {router.db_for_read(Item) for _ in range(100)} == REPLICAS


def test_row_9_the_primary_takes_its_own_weight():
    with replicant_with(PRIMARY_WEIGHT=1, BALANCE="round_robin"):
        drawn = [router.db_for_read(Item) for _ in range(9)]
        assert {alias: drawn.count(alias) for alias in drawn} == {"default": 3, "replica1": 3, "replica2": 3}


def test_row_9_draws_follow_the_weights():
    databases = {alias: {} for alias in ("default", "replica1", "replica2", "replica3")}
    weights = {"replica1": 1, "replica2": 2, "replica3": 7}
    before = connections.settings
    connections.settings = connections.configure_settings(databases | {"other": {}})
    try:
        with override_settings(REPLICANT={"default": {"REPLICAS": weights}}):
            _core.seed(1)
            drawn = [router.db_for_read(Item) for _ in range(100_000)]
    finally:
        connections.settings = before
    counts = {alias: drawn.count(alias) for alias in weights}
    statistic = sum((counts[alias] - weight * 1e4) ** 2 / (weight * 1e4) for alias, weight in weights.items())
    # Chi-square with 2 degrees of freedom exceeds 13.816 with p = 0.001.
    assert statistic < 13.816, counts
    assert sum(counts.values()) == 100_000


# Row 10.


def test_row_10_reads_stay_on_the_primary_unless_asked_for():
    with replicant_with(READS="primary"):
        assert explain(Item) == ("default", "default", ("replica1", "replica2"))
        with use_replica():
            assert reason() == "balanced"


def test_row_10_outside_of_requests():
    with replicant_with(OUTSIDE_REQUESTS="primary"):
        assert reason() == "default"
        with request_scope():
            assert reason() == "balanced"


def test_row_10_no_replicas_is_a_laptop():
    with override_settings(REPLICANT={"default": {"REPLICAS": [], "ON_UNAVAILABLE": "error"}}), use_replica():
        assert explain(Item) == ("default", "default", ())


def test_row_10_during_migrate_the_primary(monkeypatch: pytest.MonkeyPatch):
    from django.core.management import call_command
    from django.db.migrations.executor import MigrationExecutor

    seen = []

    def look(self, *args, **kwargs):
        with use_replica():
            seen.append(explain(Item)[:2])
        raise RuntimeError("halfway")

    monkeypatch.setattr(MigrationExecutor, "migrate", look)
    with pytest.raises(RuntimeError, match="halfway"):
        call_command("migrate", verbosity=0)
    assert seen == [("default", "default")]
    assert reason() == "balanced"


# Row 11.


@pytest.fixture
def all_down(site: Path):
    for alias in REPLICAS:
        _core.set_state(alias, "down")
    yield
    for alias in REPLICAS:
        _core.set_state(alias, "up")


@pytest.mark.usefixtures("all_down")
def test_row_11_each_policy():
    assert explain(Item) == ("default", "unavailable", ())
    with replicant_with(ON_UNAVAILABLE="replica"):
        _core.set_state("replica2", "lagging")
        assert explain(Item)[:2] == ("replica2", "unavailable")
        _core.set_state("replica2", "down")
    with replicant_with(ON_UNAVAILABLE="error"):
        with pytest.raises(NoReplicaAvailable, match=r"replica1 is down, replica2 is down.*ON_UNAVAILABLE = 'error'"):
            Item.objects.count()
        with pytest.raises(NoReplicaAvailable):
            explain(Item)
    assert issubclass(NoReplicaAvailable, replicant.ReplicantError)


@pytest.mark.usefixtures("all_down")
def test_row_11_the_spill_is_drawn_once_per_request():
    with replicant_with(PRIMARY_SPILL=0.5):
        outcomes = set()
        for _ in range(50):
            with request_scope():
                drawn = set()
                for _ in range(5):
                    try:
                        drawn.add(router.db_for_read(Item))
                    except NoReplicaAvailable:
                        drawn.add("refused")
                assert len(drawn) == 1
                outcomes |= drawn
        assert outcomes == {"default", "refused"}


@pytest.mark.usefixtures("all_down")
def test_states_outlive_a_change_of_settings():
    with replicant_with(READS="replica"):
        assert explain(Item).eligible == ()


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
