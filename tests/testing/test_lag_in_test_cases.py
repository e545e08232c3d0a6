"""``lag()`` in Django's own test classes, run by Django's own runner, where a replica is a ``MIRROR``."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.servers import Cluster

REPOSITORY = Path(__file__).parents[2]

TESTS = """
    from urllib.request import urlopen

    from django.contrib.auth.models import Group
    from django.contrib.contenttypes.models import ContentType
    from django.db import transaction
    from django.http import HttpResponse
    from django.test import LiveServerTestCase, TestCase, TransactionTestCase
    from django.urls import path

    import replicant
    from replicant import request_scope, use_replica
    from replicant.testing import assert_reads, count_queries, lag

    def name():
        return Group.objects.get().name

    def rename(to):
        Group.objects.using("default").update(name=to)

    urlpatterns = [path("", lambda request: HttpResponse(name() if request.method == "GET" else rename("new")))]

    class Checks:
        databases = ["default", "replica1"]

        def setUp(self):
            Group.objects.create(name="old")

        def test_without_lag_a_mirror_has_everything(self):
            rename("new")
            with assert_reads("replica"):
                self.assertEqual(name(), "new")

        def test_a_statement_alone_is_a_commit(self):
            with lag(commits=1), request_scope():
                rename("new")
                with use_replica(stale_ok=True), assert_reads("replica1"):
                    self.assertEqual(name(), "old")
                with assert_reads("default"):
                    self.assertEqual(name(), "new")

        def test_an_atomic_block_is_one_commit(self):
            for savepoint in (True, False):
                with self.subTest(savepoint=savepoint), lag(commits=1):
                    before = name()
                    with transaction.atomic(savepoint=savepoint):
                        rename("one")
                        rename("two")
                        self.assertEqual(Group.objects.using("replica1").get().name, before)
                    self.assertEqual(Group.objects.using("replica1").get().name, before)
                    rename("three")
                    self.assertEqual(Group.objects.using("replica1").get().name, "two")

        def test_who_wrote_in_an_atomic_block_is_pinned_after_it(self):
            with lag(commits=1), request_scope():
                with transaction.atomic():
                    rename("new")
                with assert_reads("default"):
                    self.assertEqual(name(), "new")

        def test_a_delete_is_a_commit(self):
            with lag(commits=1), request_scope():
                Group.objects.using("default").get().delete()
                with assert_reads("default"):
                    self.assertFalse(Group.objects.exists())
                self.assertTrue(Group.objects.using("replica1").exists())

        def test_what_is_rolled_back_is_none(self):
            with lag(commits=1), request_scope():
                try:
                    with transaction.atomic():
                        rename("wrong")
                        raise KeyError
                except KeyError:
                    pass
                with assert_reads("replica"):
                    self.assertEqual(name(), "old")
                rename("new")
                self.assertEqual(Group.objects.using("replica1").get().name, "old")

        def test_who_is_free_again_reads_from_the_replica(self):
            with lag(commits=1), request_scope():
                rename("new")
                with assert_reads("default"):
                    name()
                ContentType.objects.create(app_label="a", model="b")
                ContentType.objects.create(app_label="a", model="c")
            with request_scope(), assert_reads("replica"):
                self.assertEqual(name(), "new")

        def test_the_replica_takes_no_writes(self):
            with lag(commits=1), self.assertRaises(replicant.ReplicaWriteError):
                Group.objects.using("replica1").create(name="wrong")

    class Afterwards:
        databases = ["default", "replica1"]

        def test_nothing_is_left_of_it(self):
            Group.objects.create(name="old")
            with lag(commits=1):
                rename("new")
            with assert_reads("replica"):
                self.assertEqual(name(), "new")
"""

HELD = """
    class InTestCase(Checks, TestCase):
        pass

    class AfterTestCase(Afterwards, TestCase):
        pass
"""

COMMITTED = """
    class InTransactionTestCase(Checks, TransactionTestCase):
        pass

    class OverHTTP(LiveServerTestCase):
        databases = ["default", "replica1"]

        def show(self):
            with urlopen(self.live_server_url) as response:
                return response.read().decode()

        def test_the_servers_threads_see_the_late_replica(self):
            Group.objects.create(name="old")
            with lag(commits=1):
                with urlopen(self.live_server_url, data=b""):
                    self.assertEqual(name(), "old")
                self.assertEqual(self.show(), "old")
            self.assertEqual(self.show(), "new")

    class AfterTransactionTestCase(Afterwards, TransactionTestCase):
        pass
"""

REFUSED = """
    class InTestCaseOnAServer(TestCase):
        databases = ["default", "replica1"]

        def test_lag_says_what_to_do(self):
            with self.assertRaisesRegex(RuntimeError, "TransactionTestCase"), lag(commits=1):
                pass
            rename("no")
            with count_queries() as sent:
                Group.objects.exists()
            self.assertEqual(sent.by_alias["replica1"], 1)
"""


def run_tests(folder: Path, databases: dict[str, Any], *tests: str) -> None:
    (folder / "test_it.py").write_text("".join(dedent(text) for text in tests))
    settings = f"""
        INSTALLED_APPS = ["django.contrib.contenttypes", "django.contrib.auth", "replicant"]
        DATABASES = {json.dumps(databases)}
        DATABASE_ROUTERS = ["replicant.ReplicaRouter"]
        REPLICANT = {{"default": {{"REPLICAS": ["replica1"]}}}}
        ROOT_URLCONF = "test_it"
        STATIC_URL = "static/"
        SECRET_KEY = "for tests alone"
        USE_TZ = True
    """
    (folder / "late_settings.py").write_text(dedent(settings))
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error", "-m", "django", "test", "--noinput", "--settings=late_settings"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}{os.pathsep}{REPOSITORY}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert "NO TESTS RAN" not in run.stderr, run.stderr


@pytest.mark.slow
@pytest.mark.parametrize("file", [":memory:", "a file"])
def test_on_sqlite(tmp_path: Path, file: str) -> None:
    name = file if file == ":memory:" else str(tmp_path / "database.sqlite3")
    database = {"ENGINE": "django.db.backends.sqlite3", "NAME": name, "TEST": {"NAME": name and f"{name}.test"}}
    if file == ":memory:":
        del database["TEST"]
    replica = {**database, "TEST": {"MIRROR": "default"}}
    run_tests(tmp_path, {"default": database, "replica1": replica}, TESTS, HELD, COMMITTED)


def test_on_servers(tmp_path: Path, cluster: Cluster, database: str) -> None:
    databases = cluster.databases(database)
    del databases["replica2"]
    run_tests(tmp_path, databases, TESTS, COMMITTED, REFUSED)
