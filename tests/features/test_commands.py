"""Django's own commands, while replicas stand still."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.contrib.auth.models import Permission, User
from django.contrib.contenttypes.models import ContentType
from django.core.management import CommandError, call_command
from django.db import connection, connections, migrations, models
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.loader import MigrationLoader

from replicant import ReplicaWriteError, request_scope, use_replica
from tests.features.conftest import PASSWORD, READS, Sent, elsewhere, new, new_book
from tests.features.models import Author, Book


def run(*arguments: Any, **options: Any) -> str:
    output = io.StringIO()
    elsewhere(lambda: call_command(*arguments, stdout=output, stderr=output, **options))
    return output.getvalue()


def tables(alias: str) -> set[str]:
    return set(connections[alias].introspection.table_names())


def test_migrating_twice_sends_nothing_to_replicas(sent: Sent):
    """Also if the one who runs it has no idea of what replicas have: everything is asked of the primary."""
    for _ in range(2):
        assert "No migrations to apply." in run("migrate")
    assert "[X] 0001_initial" in run("showmigrations", "features")
    assert "CREATE TABLE" in run("sqlmigrate", "features", "0001")
    assert run("makemigrations", check_changes=True, dry_run=True) == "No changes detected\n"
    assert sent.to_replicas() == []


class Project(MigrationLoader):
    """Two migrations that are in no file: a table, and rows that are written and read back."""

    def load_disk(self) -> None:
        super().load_disk()
        for name, operations in self.more.items():
            migration = migrations.Migration(name, "features")
            migration.operations = operations
            migration.dependencies = [self.last]
            self.disk_migrations["features", name] = migration
            self.last = ("features", name)

    @property
    def more(self) -> dict[str, list[Any]]:
        return {
            "0002_shelf": [
                migrations.CreateModel(
                    "Shelf", [("id", models.BigAutoField(primary_key=True)), ("name", models.CharField(max_length=9))]
                )
            ],
            "0003_fill": [migrations.RunPython(fill, empty)],
        }

    last = ("features", "0001_initial")


def fill(apps: Any, schema_editor: Any) -> None:
    shelf = apps.get_model("features", "Shelf")
    shelf.objects.create(name="one")
    # As it is written everywhere: through the default manager, with no alias.
    assert [each.name for each in shelf.objects.all()] == ["one"]
    for each in shelf.objects.filter(name="one"):
        each.name = "two"
        each.save()
        each.refresh_from_db()
    assert shelf.objects.get(name="two").pk
    # And of what was there before, what the primary has.
    apps.get_model("features", "Book").objects.filter(title="old 00").update(stock=12)
    assert apps.get_model("features", "Book").objects.get(title="old 00").stock == 12


def empty(apps: Any, schema_editor: Any) -> None:
    shelf = apps.get_model("features", "Shelf")
    assert shelf.objects.count() == 1
    shelf.objects.all().delete()
    assert not shelf.objects.exists()


@pytest.fixture
def more_migrations(monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("executor", "loader"):
        monkeypatch.setattr(f"django.db.migrations.{place}.MigrationLoader", Project)


@pytest.mark.usefixtures("more_migrations")
@pytest.mark.parametrize("scope", [None, use_replica], ids=["plain", "use_replica"])
def test_migrations_that_write_and_read_see_what_they_wrote(scope: Any, sent: Sent):
    ran = (scope or (lambda function: function))(run)
    assert "Applying features.0003_fill... OK" in ran("migrate", "features")
    assert "features_shelf" in tables("default")
    # What receivers of post_migrate make of it, content types and permissions, is there too.
    assert Permission.objects.using("default").filter(codename="add_shelf").count() == 1
    assert "Unapplying features.0003_fill... OK" in ran("migrate", "features", "0001")
    assert "features_shelf" not in tables("default")
    assert sent.to_replicas() == []


def test_content_types_and_permissions_that_replicas_lack_are_not_made_twice(sent: Sent):
    """What `migrate` does at its end, for models whose content types the primary alone has."""
    before = elsewhere(lambda: Permission.objects.using("default").count())
    elsewhere(lambda: ContentType.objects.using("default").get(app_label="features", model="review").delete())
    for _ in range(2):
        ContentType.objects.clear_cache()
        run("migrate")
    assert elsewhere(lambda: Permission.objects.using("default").count()) == before
    assert sent.to_replicas() == []


def test_a_replica_is_not_migrated_by_name(sent: Sent):
    """Django itself notes what it would have done, in a table that is there already: nothing is sent."""
    before = tables("replica1")
    assert "No migrations to apply." in run("migrate", database="replica1")
    assert tables("replica1") == before
    assert sent.to_replicas() != []


@pytest.mark.usefixtures("more_migrations")
def test_a_replica_that_lacks_a_migration_refuses_what_django_notes_of_it(sent: Sent):
    with pytest.raises(ReplicaWriteError, match="'replica1' is a replica"):
        run("migrate", "features", database="replica1")
    assert "features_shelf" not in tables("replica1")
    del sent[:]


def test_a_dump_has_what_the_primary_has_and_is_loaded_there(tmp_path: Path, sent: Sent):
    book = elsewhere(new_book)
    dump = tmp_path / "dump.json"
    run("dumpdata", "features", "app", output=str(dump), natural_foreign=True, natural_primary=True)
    elsewhere(lambda: Author.objects.filter(pk=book.author_id).delete())
    assert "Installed" in run("loaddata", str(dump))
    assert elsewhere(lambda: Book.objects.using("default").get(title=book.title).author.name) == book.author.name
    # And over what is there.
    assert "Installed" in run("loaddata", str(dump))
    assert sent.to_replicas() == []


def test_a_replica_is_neither_dumped_nor_loaded_nor_flushed(tmp_path: Path, sent: Sent):
    """To Django, what is not migrated somewhere is not there: the dump of a replica is empty."""
    assert run("dumpdata", "features.Book", database="replica2").strip() == "[]"
    dump = tmp_path / "dump.json"
    run("dumpdata", "features.Book", output=str(dump))
    assert "Installed 0 object(s)" in run("loaddata", str(dump), database="replica2")
    run("flush", database="replica2", interactive=False)
    assert Book.objects.using("replica2").filter(title__startswith="old").exists()
    assert [sql for sql in sent.to_replicas() if not sql.strip().startswith((*READS, "SET "))] == []
    del sent[:]


EXCLUDED = ["contenttypes", "auth.permission", "admin", "sessions"]


def test_everything_is_flushed_and_loaded_again(tmp_path: Path, sent: Sent):
    dump = tmp_path / "dump.json"
    run("dumpdata", output=str(dump), natural_foreign=True, exclude=EXCLUDED)
    run("flush", interactive=False)
    assert elsewhere(lambda: Book.objects.using("default").count()) == 0
    assert elsewhere(lambda: Permission.objects.using("default").filter(codename="add_book").count()) == 1
    ContentType.objects.clear_cache()
    assert "Installed" in run("loaddata", str(dump))
    assert elsewhere(lambda: Book.objects.using("default").filter(title__startswith="old").count()) > 0
    assert sent.to_replicas() == []


def test_users_are_made_and_given_passwords_by_command(monkeypatch: pytest.MonkeyPatch, sent: Sent):
    name = new()
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", PASSWORD)
    options = {"username": name, "email": "", "interactive": False}
    assert "Superuser created successfully." in run("createsuperuser", **options)
    with pytest.raises(CommandError, match="already taken"):
        run("createsuperuser", **options)
    monkeypatch.setattr("getpass.getpass", lambda prompt: "Some-words-12")
    assert "Password changed successfully" in run("changepassword", name)
    assert elsewhere(lambda: User.objects.using("default").get(username=name)).check_password("Some-words-12")
    assert sent.to_replicas() == []


def test_what_only_reads_runs_on_a_replica():
    models = run("inspectdb", "features_book", database="replica1")
    assert "class FeaturesBook(models.Model):" in models
    assert run("sqlflush", database="replica1")
    assert "features_book" in run("sqlsequencereset", "features", database="replica1") or connection.vendor == "mysql"


def test_tables_of_the_cache_are_made_on_the_primary_alone(sent: Sent):
    run("createcachetable")
    run("createcachetable", database="replica1")
    assert [sql for sql in sent.to_replicas() if "CREATE" in sql] == []
    run("clearsessions")


def test_models_of_all_apps_are_on_the_primary():
    loader = MigrationExecutor(connection).loader
    assert not loader.detect_conflicts()
    with request_scope():
        assert {model._meta.db_table for model in apps.get_models()} <= tables("default")
