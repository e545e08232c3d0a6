"""What replicas report of their own lag, beside the lag that is measured. On MySQL, MariaDB and PostgreSQL."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connections

from replicant import _core, status
from replicant.monitor import cluster_monitor, reports
from replicant.monitor.reports import Reporter
from tests.app.models import Item
from tests.databases import use_databases
from tests.monitoring import PROBER, PROBER_PASSWORD, use_prober, watching
from tests.servers import Cluster
from tests.servers.machine import wait_until

SECONDS = 15.0
DELAY = 3.0


def member(alias: str) -> dict[str, Any]:
    members = status()["clusters"]["default"]["members"]
    return next(member for member in members if member["alias"] == alias)


@pytest.fixture
def delayed(servers: Cluster, database: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """replica1 has a configured delay, and all that the primary has."""
    monkeypatch.setattr(reports, "SECONDS", 0.1)
    servers.wait_until_caught_up()
    servers.replicas[0].delay(DELAY)
    yield servers
    cluster_monitor.stop()
    servers.replicas[0].delay(0)


def test_the_delay_and_what_the_server_says_stand_beside_the_lag(delayed: Cluster, database: str) -> None:
    with use_databases(delayed.databases(database), REPLICANT=watching(0.05)):
        _core.watch()
        wait_until(lambda: member("replica1")["configured_delay"] == DELAY, SECONDS, "the delay is reported")
        wait_until(lambda: member("replica2")["configured_delay"] == 0, SECONDS, "the other's delay is reported")
        wait_until(lambda: member("replica1")["lag"] == member("replica2")["lag"] == 0.0, SECONDS, "lag is measured")
        for alias in ("replica1", "replica2"):
            # A standby that was just started has replayed nothing yet, and then says nothing.
            wait_until(lambda alias=alias: member(alias)["reported_lag"] == 0.0, SECONDS, f"{alias} reports its lag")
            assert member(alias)["lag"] == 0.0
        primary = member("default")
        assert (primary["reported_lag"], primary["configured_delay"]) == (None, None)


def test_what_is_behind_says_so(delayed: Cluster, database: str) -> None:
    delayed.replicas[0].delay(1000)
    with use_databases(delayed.databases(database), REPLICANT=watching(0.05, WAIT_SECONDS=0)):
        Item.objects.create(name="late")
        _core.watch()
        wait_until(lambda: (member("replica1")["reported_lag"] or 0) > 0, 2 * SECONDS, "the lag is reported")


def test_an_account_without_the_right_to_ask_costs_nothing(
    delayed: Cluster, database: str, caplog: pytest.LogCaptureFixture
) -> None:
    use_prober(delayed, database)
    # What the account is, replica1 would know in three seconds.
    delayed.replicas[0].delay(0)
    delayed.wait_until_caught_up()
    delayed.replicas[0].delay(DELAY)
    account = {"USER": PROBER, "PASSWORD": PROBER_PASSWORD}
    databases = delayed.databases(database)
    expected = DELAY if delayed.engine == "postgresql" else None
    databases = {alias: {**settings, "PROBE": account} for alias, settings in databases.items()}
    with caplog.at_level(logging.WARNING, "replicant"), use_databases(databases, REPLICANT=watching(0.05)):
        reporter = Reporter("replica1", {**connections.settings["replica1"], **account}, 5.0, lambda run, name: run())
        wait_until(lambda: reporter.ask() or reporter.has_asked, SECONDS, "replica1 is asked")
        assert reporter.found.delay == expected
        _core.watch()
        wait_until(lambda: member("replica1")["lag"] == 0.0, SECONDS, "replica1 is probed")
        wait_until(lambda: member("replica1")["state"] == "up", SECONDS, "replica1 serves")
        assert not caplog.records
