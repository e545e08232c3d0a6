"""When the monitor runs, and for whom."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from django.core.management import call_command
from django.db import router
from django.test import override_settings

from replicant.engines import Sample
from replicant.monitor import cluster_monitor, watch
from replicant.private_folder import FOLDER_VARIABLE
from tests.app.models import Item
from tests.databases import sqlite, use_databases
from tests.monitor.heard import SECONDS, Heard, threads
from tests.monitor.heard import heard as heard
from tests.monitor.heard import stopped as stopped
from tests.monitoring import (
    ALIASES,
    watching,
)
from tests.servers.machine import wait_until

# When it runs.


def test_the_first_routed_read_starts_it_and_nothing_else_does(site: Path):
    with override_settings(REPLICANT=watching(0.1)):
        router.db_for_write(Item)
        router.allow_migrate("default", "app")
        call_command("check", verbosity=0)
        Item.objects.using("replica1").count()
        assert not threads()
        router.db_for_read(Item)
        assert "replicant-monitor-default" in threads()


def test_a_cluster_without_interval_or_without_replicas_has_none(site: Path):
    for clusters in (watching(None), {"default": {"REPLICAS": []}}, {}):
        with override_settings(REPLICANT=clusters):
            router.db_for_read(Item)
            assert not threads()


def test_it_ends_when_settings_change_and_begins_anew_with_the_next_read(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": 0.05}}):
            assert not threads()
            router.db_for_read(Item)
            wait_until(lambda: len(cluster_monitor.latest()) == 2, SECONDS, "the two members are known")
        assert not threads()
        router.db_for_read(Item)
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "the three members are known")


def test_each_cluster_has_its_own_interval(site: Path, heard: Heard):
    clusters = {
        "default": {"REPLICAS": ["replica1"], "PROBE_SECONDS": 0.02},
        "other": {"REPLICAS": ["replica2"], "PROBE_SECONDS": 100.0, "MODELS": ["app.Tag"]},
    }
    with override_settings(REPLICANT=clusters):
        router.db_for_read(Item)
        wait_until(lambda: len(heard.of("replica1")) >= 10, SECONDS, "ten samples come")
        assert len(heard.of("replica2")) == 1


def test_whoever_cannot_wait_wakes_it(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(2.0)):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        begun = time.monotonic()
        cluster_monitor.wake()
        wait_until(lambda: len(heard.of("default")) == 2, SECONDS, "another sample comes")
        assert time.monotonic() - begun < 1.5


def test_a_consumer_that_fails_does_not_end_it(site: Path, monkeypatch: pytest.MonkeyPatch, caplog):
    calls: list[object] = []

    def fail(samples: Sequence[Sample]) -> None:
        calls.append(samples)
        raise ZeroDivisionError

    monkeypatch.setattr(watch, "consumer", fail)
    with override_settings(REPLICANT=watching(0.02)):
        router.db_for_read(Item)
        wait_until(lambda: len(calls) > 2, SECONDS, "it is called again")
        cluster_monitor.stop()
    assert "goes on" in caplog.text


# Processes that cannot share samples.


def test_without_a_file_each_process_asks_for_itself(site: Path, heard: Heard, monkeypatch, caplog):
    monkeypatch.setenv(FOLDER_VARIABLE, str(site / "missing"))
    with override_settings(REPLICANT=watching(0.05)):
        router.db_for_read(Item)
        wait_until(lambda: len(heard.of("replica1")) > 3, SECONDS, "samples come")
        assert cluster_monitor.probing() == ["default"]
    told = [record for record in caplog.records if "probe the servers itself" in record.getMessage()]
    assert len(told) == 1


def test_without_a_secret_key_nothing_is_shared(site: Path, heard: Heard):
    with override_settings(REPLICANT=watching(0.05), SECRET_KEY=""):
        router.db_for_read(Item)
        heard.wait(lambda sample: True, *ALIASES)
        assert cluster_monitor.probing() == ["default"]
        assert cluster_monitor._watches[0]._samples is None


def test_two_sites_on_one_host_do_not_share(site: Path):
    names = set()
    for settings in (
        {},
        {"SECRET_KEY": "another"},
        {"REPLICANT": watching(3.0)},
        {"REPLICANT": {"default": {"REPLICAS": ["replica1"]}}},
    ):
        with override_settings(**{"REPLICANT": watching(1.0), **settings}):
            router.db_for_read(Item)
            names.add(cluster_monitor._watches[0]._file_name)
    with use_databases(sqlite(site / "elsewhere", *ALIASES), REPLICANT=watching(1.0)):
        router.db_for_read(Item)
        names.add(cluster_monitor._watches[0]._file_name)
    assert len(names) == 5
