"""How a read is routed: a test or more for each row of the table in ``docs/architecture.md``."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router, transaction
from django.test import override_settings
from django.utils.functional import SimpleLazyObject

import replicant
from replicant import NoReplicaAvailable, _core, explain, request_scope, use_primary, use_replica
from tests.app.models import Account, Item, ItemProxy, Piece
from tests.core.routing import REPLICAS, on, reason, replicant_with

pytestmark = pytest.mark.usefixtures("site")


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
