"""``replicant.testing``: what assertions about routing accept, refuse and say; and the pytest plugin."""

from __future__ import annotations

import asyncio
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
    with pytest.raises(ValueError, match="less than nothing"), lag(commits=0):
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

_PROJECT = """
    import django
    from django.conf import settings

    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": "file:plugin?mode=memory&cache=shared"}
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", "replicant"],
        DATABASES={"default": database, "replica1": {**database, "TEST": {"MIRROR": "default"}}},
        DATABASE_ROUTERS=["replicant.ReplicaRouter"],
        REPLICANT={"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": None}},
        SECRET_KEY="-",
    )
    django.setup()

    import pytest

    @pytest.fixture(scope="session", autouse=True)
    def tables():
        import contextvars
        from django.core.management import call_command
        # The tests must not remember that their thread wrote.
        contextvars.Context().run(call_command, "migrate", verbosity=0)
"""


def run_pytest(folder: Path, **files: str) -> subprocess.CompletedProcess[str]:
    for name, text in files.items():
        (folder / f"{name}.py").write_text(dedent(text))
    command = [sys.executable, "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def test_the_plugin_offers_fixtures(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        conftest=_PROJECT,
        test_it="""
            import pytest

            def test_reads(assert_reads, assert_routes, count_queries):
                from django.contrib.contenttypes.models import ContentType
                with assert_reads("replica"), assert_routes([("read", "replica1")]), count_queries() as sent:
                    ContentType.objects.count()
                assert sent.by_alias["replica1"] == 1
                with pytest.raises(AssertionError), assert_reads("default"):
                    ContentType.objects.count()

            def test_counts(queries_by_alias):
                from django.contrib.contenttypes.models import ContentType
                assert queries_by_alias["replica1"] == 0
                ContentType.objects.count()
                ContentType.objects.using("default").count()
                ContentType.objects.using("default").count()
                assert (queries_by_alias["replica1"], queries_by_alias["default"]) == (1, 2)

            def test_late(lag):
                from django.contrib.contenttypes.models import ContentType
                before = ContentType.objects.using("default").count()
                with lag(commits=1):
                    ContentType.objects.create(app_label="a", model="b")
                    assert ContentType.objects.using("default").count() == before + 1
                    assert ContentType.objects.using("replica1").count() == before
        """,
    )
    assert "3 passed" in run.stdout, run.stdout + run.stderr


def test_a_project_without_django_does_not_notice_the_plugin(tmp_path: Path) -> None:
    run = run_pytest(
        tmp_path,
        test_it="""
            import sys

            def test_nothing_is_loaded():
                assert "pytest_replicant" in sys.modules
                assert not {"replicant", "django"} & sys.modules.keys()
        """,
    )
    assert "1 passed" in run.stdout, run.stdout + run.stderr
