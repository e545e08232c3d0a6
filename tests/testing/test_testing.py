"""``replicant.testing``: what assertions about routing accept, refuse and say; and the pytest plugin."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import override_settings

from replicant import request_scope, use_primary, use_replica
from replicant.testing import assert_reads, assert_routes, count_queries, lag
from replicant.tracing import record_queries
from tests.app.models import Account, Item

#: Seconds that a run of pytest may take.
SECONDS = 120

pytestmark = pytest.mark.usefixtures("site")


def write() -> None:
    Item.objects.create(name="written")


def read() -> None:
    Item.objects.count()


def test_reads_that_went_where_they_should_pass() -> None:
    with request_scope():
        with assert_reads("replica"):
            read()
        with use_replica("replica2"), assert_reads("replica2", count=2):
            read()
            read()
        with use_primary(), assert_reads("default"):
            read()


def test_writes_do_not_count_as_reads() -> None:
    with assert_reads("replica", count=1):
        read()
        with transaction.atomic():
            write()


def test_a_read_that_went_elsewhere_is_named_with_its_statement_and_its_reason() -> None:
    with (
        pytest.raises(AssertionError, match=r"1 of 2 reads did not go to 'replica'") as caught,
        request_scope(),
        assert_reads("replica"),
    ):
        read()
        write()
        read()
    assert "read default (pinned): SELECT COUNT(*)" in str(caught.value)


def test_a_read_past_the_router_is_named_too() -> None:
    with pytest.raises(AssertionError, match=r"read default \(no router was asked\)"), assert_reads("replica"):
        Item.objects.using("default").count()


def test_a_block_without_reads_proves_nothing_and_fails() -> None:
    with pytest.raises(AssertionError, match="No reads were made"), assert_reads("replica"):
        Item.objects.all()
    with assert_reads("replica", count=0):
        Item.objects.all()


def test_the_number_of_reads_can_be_asked_for() -> None:
    with pytest.raises(AssertionError, match="2 reads expected, 1 made"), assert_reads("replica", count=2):
        read()


def test_only_one_model_can_be_looked_at() -> None:
    with assert_reads("replica", model=Item, count=1):
        read()
        Account.objects.using("default").count()
    with (
        pytest.raises(AssertionError, match=r"reads of app\.Account did not go"),
        assert_reads("replica", model="app.Account"),
    ):
        Account.objects.using("default").count()


def test_an_error_inside_is_not_hidden() -> None:
    with pytest.raises(KeyError), assert_reads("replica"):
        raise KeyError


def test_functions_sync_and_async_can_be_decorated() -> None:
    @assert_reads("default")
    def astray() -> None:
        read()

    @assert_reads("replica", count=1)
    async def right() -> None:
        await Item.objects.acount()

    for _ in range(2):
        asyncio.run(right())
        with pytest.raises(AssertionError, match="1 of 1 reads"):
            astray()


def test_the_sequence_of_statements_can_be_asked_for() -> None:
    with request_scope(), assert_routes([("read", "replica"), ("write", "default"), ("read", "default")]):
        read()
        with transaction.atomic():
            write()
        read()


@pytest.mark.parametrize(
    "routes",
    [
        [("read", "replica")],
        [("read", "replica"), ("write", "default"), ("read", "replica")],
        [("write", "default"), ("read", "replica")],
        [("read", "replica"), ("read", "default")],
    ],
)
def test_another_sequence_fails_and_both_are_shown(routes: list[tuple[str, str]]) -> None:
    with pytest.raises(AssertionError, match=r"(?s)Expected:.*Sent:\n  read replica") as caught, assert_routes(routes):
        read()
        write()
    assert f"{routes[0][0]} {routes[0][1]}" in str(caught.value)


def test_a_kind_of_statement_there_is_not_is_refused() -> None:
    with pytest.raises(ValueError, match="'reed'"):
        assert_routes([("reed", "replica")])


def test_statements_are_counted_by_alias() -> None:
    with count_queries() as sent:
        with use_replica("replica1"):
            read()
            read()
        assert sent.by_alias == {"replica1": 2}
        with transaction.atomic():
            write()
    assert (sent.by_alias["replica1"], sent.by_alias["default"], sent.by_alias["replica2"]) == (2, 1, 0)


def test_blocks_nest_and_the_outer_one_sees_all() -> None:
    with record_queries() as all_of_it, count_queries() as outer, assert_reads("replica"):
        read()
    assert len(outer.queries) == len(all_of_it) == 1


def test_lag_refuses_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="not by both"), lag(commits=1, seconds=1):
        pass
    with pytest.raises(ValueError, match="at least 1"), lag(commits=0):
        pass
    with pytest.raises(ImproperlyConfigured, match="'other' is not a replica"), lag("other"):
        pass


def test_replicas_with_data_of_their_own_are_left_as_they_are() -> None:
    write()
    with lag(commits=1):
        assert Item.objects.using("replica1").count() == 0


def test_without_replicas_there_is_nothing_to_be_late() -> None:
    with override_settings(REPLICANT={"default": {"REPLICAS": []}}), lag(commits=1):
        write()
        with assert_reads("default"):
            read()


# The plugin, in projects of their own.

SETTINGS = """
    INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "replicant"]
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:plugin?mode=memory&cache=shared"}
    DATABASES = {"default": database, "replica1": {**database, "TEST": {"MIRROR": "default"}}}
    DATABASE_ROUTERS = ["replicant.ReplicaRouter"]
    REPLICANT = {"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": None}}
    SECRET_KEY = "for tests alone"
    USE_TZ = True
"""

FIXTURES = """
    import pytest
    from django.contrib.auth.models import Group

    def test_reads(assert_reads, assert_routes, count_queries):
        with assert_reads("replica"), assert_routes([("read", "replica1")]), count_queries() as sent:
            Group.objects.count()
        assert sent.by_alias["replica1"] == 1
        with pytest.raises(AssertionError), assert_reads("default"):
            Group.objects.count()

    def test_counts(queries_by_alias):
        before = queries_by_alias["replica1"], queries_by_alias["default"]
        Group.objects.count()
        Group.objects.using("default").count()
        Group.objects.using("default").count()
        assert (queries_by_alias["replica1"], queries_by_alias["default"]) == (before[0] + 1, before[1] + 2)

    def test_late(lag):
        with lag(commits=1):
            Group.objects.create(name="new")
            assert Group.objects.using("default").count() == 1
            assert Group.objects.using("replica1").count() == 0
"""

#: Without pytest-django.
ALONE = """
    import contextvars
    import django
    import pytest

    django.setup()

    @pytest.fixture(scope="session", autouse=True)
    def tables():
        from django.core.management import call_command
        # The tests must not remember that their thread wrote.
        contextvars.Context().run(call_command, "migrate", verbosity=0)
"""


def run_pytest(folder: Path, *arguments: str, settings: str = "", **files: str) -> str:
    """Run tests in a project of their own; returns what pytest says."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(dedent(text))
    environment = {key: value for key, value in os.environ.items() if key != "DJANGO_SETTINGS_MODULE"}
    if settings:
        environment["DJANGO_SETTINGS_MODULE"] = settings
    environment["PYTHONPATH"] = str(folder)
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments, str(folder)]
    run = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=SECONDS
    )
    return run.stdout + run.stderr


@pytest.mark.slow
def test_the_plugin_offers_fixtures(tmp_path: Path) -> None:
    files = {"plain_settings": SETTINGS, "conftest": ALONE, "test_it": FIXTURES}
    said = run_pytest(tmp_path, "-p", "no:django", settings="plain_settings", **files)
    assert "3 passed" in said, said


@pytest.mark.slow
@pytest.mark.parametrize("transaction", [True, False])
def test_the_plugin_works_with_pytest_django(tmp_path: Path, transaction: bool) -> None:
    mark = f"""
    pytestmark = pytest.mark.django_db(transaction={transaction}, databases=["default", "replica1"])
    """
    said = run_pytest(tmp_path, settings="plain_settings", plain_settings=SETTINGS, test_it=FIXTURES + mark)
    assert "3 passed" in said, said


@pytest.mark.slow
def test_a_project_without_django_does_not_notice_the_plugin(tmp_path: Path) -> None:
    said = run_pytest(
        tmp_path,
        # Plugins of other packages, which import Django.
        *("-p", "no:django", "-p", "no:pytest-django-constance"),
        test_it="""
            import sys

            def test_nothing_is_loaded():
                assert "pytest_replicant" in sys.modules
                assert not {"replicant", "django"} & sys.modules.keys()
        """,
    )
    assert "1 passed" in said, said
