"""Our engines are Django's, with something added: what works on theirs works on ours."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.db import DatabaseError, IntegrityError, connection, connections, models, transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.models import Count, F
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string

from replicant.backends import ReplicantMixin
from tests.app.models import Account, Item, Piece, Tag
from tests.databases import ours, sqlite, use_databases
from tests.drivers import DRIVERS, mysql_driver
from tests.servers import ENGINES, Cluster

GEOGRAPHIC = {"mysql_gis": "mysql", "postgis": "postgis", "spatialite": "spatialite"}


@pytest.fixture(params=["sqlite", *ENGINES])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database behind one of our engines, migrated."""
    if request.param == "sqlite":
        databases = sqlite(tmp_path, "default")
    else:
        cluster: Cluster = request.getfixturevalue("clusters_by_name")(request.param)
        cluster.create_database("backends")
        databases = {"default": cluster.databases("backends")["default"]}
    with use_databases(ours(databases), REPLICANT={"default": {"REPLICAS": []}}):
        call_command("migrate", verbosity=0)
        yield request.param


@pytest.fixture(scope="session")
def clusters_by_name(request: pytest.FixtureRequest) -> Any:
    """A cluster by the name of its engine: one that is up already, else a primary alone."""
    from tests.conftest import clusters
    from tests.servers import start

    started: dict[str, Cluster] = {}

    def get(name: str) -> Cluster:
        running = clusters.get(name)
        if running is not None and running.primary.running:
            return running
        if name not in started:
            started[name] = start(name, replicas=0)
        return started[name]

    yield get
    for cluster in started.values():
        cluster.stop()


def test_the_engine_is_djangos_with_something_added(backend: str):
    name = {"sqlite": "sqlite3", "mariadb": "mysql"}.get(backend, backend)
    theirs = import_string(f"django.db.backends.{name}.base.DatabaseWrapper")
    wrapper = connections["default"]
    assert isinstance(wrapper, ReplicantMixin)
    assert isinstance(wrapper, theirs)
    assert wrapper.vendor == theirs.vendor
    for part in ("features_class", "introspection_class", "client_class", "creation_class", "ops_class"):
        assert getattr(wrapper, part) is getattr(theirs, part)
    assert wrapper.SchemaEditorClass is theirs.SchemaEditorClass


def test_rows_are_made_read_changed_and_deleted(backend: str):
    item = Item.objects.create(name="a")
    assert item.pk is not None
    assert Item.objects.get(pk=item.pk).name == "a"
    Item(pk=item.pk + 100, name="numbered").save()
    assert Item.objects.filter(pk=item.pk + 100, name="numbered").exists()
    made = Tag.objects.bulk_create([Tag(name=name) for name in "xyz"])
    if backend != "mysql":
        assert [tag.pk for tag in made] == list(Tag.objects.order_by("pk").values_list("pk", flat=True))
    item.tags.set(Tag.objects.all())
    assert Item.objects.annotate(tagged=Count("tags")).get(pk=item.pk).tagged == 3
    account, created = Account.objects.get_or_create(owner="o", defaults={"balance": 1})
    assert created
    assert Account.objects.filter(pk=account.pk).update(balance=F("balance") + 4) == 1
    account.refresh_from_db()
    assert account.balance == 5
    assert Account.objects.update_or_create(owner="o", defaults={"balance": 7}) == (account, False)
    Piece.objects.bulk_create([Piece(item=item) for _ in range(3)])
    assert Item.objects.filter(pk=item.pk).delete()[0] >= 4
    assert list(Tag.objects.order_by("-name").values_list("name", flat=True)[:2]) == ["z", "y"]
    assert sum(1 for _ in Tag.objects.iterator(chunk_size=1)) == 3


def test_a_bulk_of_one_row_brings_its_number_back(backend: str):
    (tag,) = Tag.objects.bulk_create([Tag(name="one")])
    assert backend == "mysql" or tag.pk == Tag.objects.get(name="one").pk
    with transaction.atomic():
        assert Tag.objects.create(name="two").pk == Tag.objects.get(name="two").pk


def test_mariadb_still_returns_what_only_returning_can(backend: str):
    first = Tag.objects.create(name="a")
    features = connection.features.can_return_columns_from_insert
    with CaptureQueriesContext(connection) as queries:
        second = Tag.objects.create(name="b")
        many = Tag.objects.bulk_create([Tag(name="c"), Tag(name="d")])
    assert second.pk > first.pk
    sent = [query["sql"] for query in queries if query["sql"].startswith("INSERT")]
    returning = {"mysql": [False, False], "mariadb": [False, True]}.get(backend, [features, features])
    assert ["RETURNING" in sql for sql in sent] == returning
    if features:
        assert [tag.pk for tag in many] == list(Tag.objects.filter(name__in="cd").values_list("pk", flat=True))
    # An insert that fails leaves the way of inserting as it was.
    with pytest.raises(IntegrityError):
        Tag.objects.create(pk=first.pk, name="again")
    assert connection.features.can_return_columns_from_insert == features


def test_transactions_and_savepoints(backend: str):
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Tag.objects.create(name="gone")
        raise ZeroDivisionError
    called = []
    with transaction.atomic():
        transaction.on_commit(lambda: called.append(Tag.objects.count()))
        Tag.objects.create(name="kept")
        with pytest.raises(DatabaseError), transaction.atomic():
            connection.cursor().execute("SELECT nonsense FROM nowhere")
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Tag.objects.create(name="gone")
            raise ZeroDivisionError
    assert list(Tag.objects.values_list("name", flat=True)) == ["kept"]
    assert called == [1]
    connection.set_autocommit(False)
    Tag.objects.create(name="by hand")
    connection.rollback()
    connection.set_autocommit(True)
    assert Tag.objects.count() == 1


def test_tables_are_introspected_and_changed(backend: str):
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        assert {"app_item", "app_tag", "app_account"} <= set(tables)
        names = [column.name for column in connection.introspection.get_table_description(cursor, "app_tag")]
        assert names == ["id", "name"]
        assert connection.introspection.get_primary_key_column(cursor, "app_tag") == "id"
        constraints = connection.introspection.get_constraints(cursor, "app_piece")
    assert any(constraint["foreign_key"] == ("app_item", "id") for constraint in constraints.values())
    field = models.CharField(max_length=9, default="", db_default="new")
    field.set_attributes_from_name("extra")
    field.model = Tag
    with connection.schema_editor() as editor:
        editor.add_field(Tag, field)
    with connection.cursor() as cursor:
        names = [column.name for column in connection.introspection.get_table_description(cursor, "app_tag")]
        assert names == ["id", "name", "extra"]
    with connection.schema_editor() as editor:
        editor.remove_field(Tag, field)


def test_flush_and_fixtures(backend: str):
    Tag.objects.create(name="x")
    call_command("flush", interactive=False, verbosity=0)
    assert Tag.objects.count() == 0
    call_command("check", databases=["default"], verbosity=0)
    connection.check_constraints()
    connection.close()
    assert Tag.objects.count() == 0
    assert connection.is_usable()


@pytest.mark.parametrize("driver", DRIVERS)
@pytest.mark.parametrize("cluster", ["mysql", "mariadb"], indirect=True)
def test_both_mysql_drivers_insert_and_read(cluster: Cluster, database: str, driver: str):
    with mysql_driver(driver), use_databases(ours(cluster.databases(database))):
        tag = Tag.objects.create(name="é☃")
        assert Tag.objects.using("default").get(pk=tag.pk).name == "é☃"
        with transaction.atomic():
            assert Tag.objects.create(name="y").pk > tag.pk
        cluster.wait_until_caught_up()
        assert Tag.objects.using("replica1").filter(pk=tag.pk).exists()


def test_the_mixin_combines_with_somebody_elses_engine(tmp_path: Path):
    from django.db.backends.sqlite3 import base

    class Theirs(base.DatabaseWrapper):
        def init_connection_state(self) -> None:
            super().init_connection_state()
            with self.cursor() as cursor:
                cursor.execute("PRAGMA cache_size = -1234")

    class Combined(ReplicantMixin, Theirs):
        pass

    settings = connections.configure_settings(sqlite(tmp_path, "default"))["default"]
    combined: BaseDatabaseWrapper = Combined(settings, "default")
    with combined.cursor() as cursor:
        cursor.execute("PRAGMA cache_size")
        assert cursor.fetchone() == (-1234,)
    combined.close()


def test_geographic_engines_load_nothing_until_they_are_asked_for():
    code = (
        "import django, sys; from django.conf import settings; settings.configure(); django.setup();"
        "import replicant.backends, replicant.backends.sqlite3.base;"
        "print([name for name in sys.modules if 'contrib.gis' in name or 'MySQLdb' in name or 'psycopg' in name])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize("name", GEOGRAPHIC)
def test_geographic_engines_stand_on_djangos(name: str):
    try:
        theirs = import_string(f"django.contrib.gis.db.backends.{GEOGRAPHIC[name]}.base.DatabaseWrapper")
    except ImproperlyConfigured:
        # No GDAL here: then ours is refused by the same words.
        with pytest.raises(ImproperlyConfigured, match="GDAL"):
            import_string(f"replicant.backends.{name}.base.DatabaseWrapper")
    else:
        mro = import_string(f"replicant.backends.{name}.base.DatabaseWrapper").__mro__
        assert mro.index(ReplicantMixin) < mro.index(theirs)
