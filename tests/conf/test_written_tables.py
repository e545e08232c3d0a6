"""A write to tables of exempt models alone binds no read of the others. On SQLite, MySQL, MariaDB and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.contrib.sessions.backends.db import SessionStore
from django.contrib.sessions.models import Session
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection, models, transaction
from django.test import Client, override_settings

import replicant
from replicant import conf, explain, request_scope
from replicant.conf import exempt_tables
from replicant.connections import causality
from replicant.monitor import cluster_monitor
from tests.app.models import Account, Item, Tag
from tests.databases import migrate, use_databases
from tests.servers import ENGINES, Cluster

DATABASE_CACHE = {
    "default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "written_cache"},
}
EXEMPT = ["sessions", "django_cache", "app.Account"]


def settings(**keys: Any) -> dict[str, Any]:
    cluster = {"REPLICAS": ["replica1"], "WAIT_SECONDS": 0, "PROBE_SECONDS": None, "MAX_LAG": None}
    return {"default": {**cluster, "PRIMARY_ONLY": EXEMPT, **keys}}


@pytest.fixture(params=["sqlite", *ENGINES])
def late(request: pytest.FixtureRequest) -> Iterator[str]:
    """A site whose replicas stand still, so that a write that counts keeps reads on the primary."""
    if request.param == "sqlite":
        request.getfixturevalue("site")
        with override_settings(REPLICANT=settings(), CACHES=DATABASE_CACHE):
            yield "sqlite"
        return
    cluster: Cluster = request.getfixturevalue("by_engine")(request.param)
    with use_databases(cluster.databases("written"), REPLICANT=settings(), CACHES=DATABASE_CACHE):
        for replica in cluster.replicas:
            replica.pause_replication()
        yield request.param
        cluster_monitor.stop()
    for replica in cluster.replicas:
        replica.resume_replication()
    cluster.wait_until_caught_up()


@pytest.fixture(scope="module")
def by_engine() -> Iterator[Callable[[str], Cluster]]:
    from tests.servers import start

    started: dict[str, Cluster] = {}

    def get(engine: str) -> Cluster:
        if engine not in started:
            cluster = started[engine] = start(engine, replicas=1)
            cluster.create_database("written")
            with use_databases(cluster.databases("written")):
                migrate("default")
        return started[engine]

    yield get
    for cluster in started.values():
        cluster.stop()


def save_a_session() -> None:
    store = SessionStore()
    store["a"] = 1
    store.save()
    store["a"] = 2
    store.save()
    store.delete()


def clear_sessions() -> None:
    Session.objects.filter(session_key="none").delete()
    call_command("clearsessions")


def change_accounts() -> None:
    account = Account.objects.create(owner="o", balance=1)
    Account.objects.filter(pk=account.pk).update(balance=models.F("balance") + 1)
    Account.objects.get_or_create(pk=account.pk)
    Account.objects.bulk_create([Account(owner="a"), Account(owner="b")])
    account.delete()


def use_the_cache() -> None:
    cache = caches["default"]
    cache.set("a", 1)
    cache.incr("a")
    cache.set_many({"b": 2})
    cache.delete("a")


SPARED = [save_a_session, clear_sessions, change_accounts, use_the_cache]


@pytest.mark.parametrize("in_a_block", [False, True], ids=["", "block"])
@pytest.mark.parametrize("change", SPARED)
def test_a_write_to_exempt_tables_alone_binds_nothing(late: str, change: Callable[[], None], in_a_block: bool):
    call_command("createcachetable", verbosity=0)
    with request_scope():
        assert explain(Item).reason == "balanced"
        if in_a_block:
            with transaction.atomic():
                change()
        else:
            change()
        assert explain(Item).reason == "balanced"
        assert not causality.has_written()
        assert replicant.token() == ""


def execute(sql: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(sql)


def both_in_a_block() -> None:
    with transaction.atomic():
        Account.objects.create(owner="o", balance=1)
        Tag.objects.create(name="x")
        Account.objects.create(owner="o", balance=1)


BINDING = {
    "another table": lambda: Tag.objects.create(name="x"),
    "both": both_in_a_block,
    "insert from another": lambda: execute("INSERT INTO app_account (owner, balance) SELECT name, 1 FROM app_tag"),
    "update by a query": lambda: execute("UPDATE app_account SET balance = (SELECT count(*) FROM app_tag)"),
    "delete by a query": lambda: execute("DELETE FROM app_account WHERE owner IN (SELECT name FROM app_tag)"),
    "the table of a relation": lambda: Item.objects.create(name="x").tags.add(Tag.objects.create(name="y")),
}


@pytest.mark.parametrize("name", BINDING)
def test_one_more_table_binds_as_any_write(late: str, name: str):
    with request_scope():
        BINDING[name]()
        assert causality.has_written()
        assert explain(Item).reason == "pinned"


def test_a_response_that_only_saved_its_session_carries_no_token(site: Any):
    middleware = ["replicant.middleware.ReplicaMiddleware", "django.contrib.sessions.middleware.SessionMiddleware"]
    with override_settings(
        REPLICANT=settings(), MIDDLEWARE=middleware, SESSION_SAVE_EVERY_REQUEST=True, ROOT_URLCONF=__name__
    ):
        client = Client()
        for _ in range(2):
            response = client.get("/")
            assert response.content == b"balanced"
            assert list(response.cookies) == ["sessionid"]
            assert "private" not in response.headers.get("Cache-Control", "")


def _view(request: Any) -> Any:
    from django.http import HttpResponse

    request.session["seen"] = True
    request.session.save()
    return HttpResponse(explain(Item).reason)


def _urls() -> list[Any]:
    from django.urls import path

    return [path("", _view)]


urlpatterns = _urls()


def tables(**keys: Any) -> set[tuple[str, ...]]:
    clusters, problems = conf.check(settings(**keys), {alias: {} for alias in ("default", "replica1")})
    assert not [problem for problem in problems if problem.is_error]
    return set(exempt_tables._find("default", clusters))


def test_the_tables_of_a_whole_app_and_of_its_relations_are_spared():
    assert tables(PRIMARY_ONLY=["app"]) == {
        ("app_account",),
        ("app_item",),
        ("app_item_tags",),
        ("app_note",),
        ("app_piece",),
        ("app_tag",),
    }
    assert tables(PRIMARY_ONLY=["app.Item"]) == {("app_item",), ("app_item_tags",)}
    assert tables(PRIMARY_ONLY=["app.Tag"]) == {("app_tag",)}
    # The proxy is exempt, its rows are read as those of the model itself.
    assert tables(PRIMARY_ONLY=["app.ItemProxy"]) == set()
    assert tables(PRIMARY_ONLY=[]) == set()


def test_the_table_of_the_cache_is_spared():
    with override_settings(CACHES=DATABASE_CACHE):
        assert tables(PRIMARY_ONLY=["django_cache"]) == {("written_cache",)}
        assert tables(PRIMARY_ONLY=["sessions"]) == {("django_session",)}


def test_a_table_that_a_readable_model_uses_as_well_is_not_spared(monkeypatch: pytest.MonkeyPatch):
    from django.apps.registry import Apps

    registry = Apps()

    class Base(models.Model):
        class Meta:
            app_label, apps = "exempt", registry

    class Child(Base):
        class Meta:
            app_label, apps = "readable", registry

    class Seen(models.Model):
        class Meta:
            app_label, apps, db_table = "exempt", registry, "seen"

    class View(models.Model):
        class Meta:
            app_label, apps, db_table, managed = "readable", registry, "seen", False

    class Named(models.Model):
        class Meta:
            app_label, apps, db_table = "exempt", registry, 'own"."named'

    found = [Base, Child, Seen, View, Named]
    monkeypatch.setattr(exempt_tables.apps, "get_models", lambda **options: found)
    clusters = [conf.check(settings(), {alias: {} for alias in ("default", "replica1")})[0][0]]
    object.__setattr__(clusters[0], "primary_only", ["exempt"])
    assert exempt_tables._find("default", clusters) == {("own", "named")}
