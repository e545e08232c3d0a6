"""A session that was opened before its alias moved is with the former server.

What that server says or shows, the present one need not have, nor the other way round. Exact schedules on MySQL,
MariaDB and PostgreSQL, with Django's engines and with ours.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.db import connections, router
from django.test import override_settings

from replicant import NoReplicaAvailable, _core, after, explain, request_scope, token
from replicant.connections import observations
from replicant.engines import Sample, engine_of
from replicant.monitor import cluster_monitor
from tests.app.models import Item
from tests.connections.failing_replicas import SECONDS
from tests.databases import ours, use_databases
from tests.monitoring import NEVER
from tests.proxy import Proxy, proxy
from tests.servers import Cluster, Node
from tests.servers.machine import wait_until

Elsewhere = Callable[[Callable[[], Any]], Any]
KEYS: dict[str, Any] = {"REPLICAS": ["replica1", "replica2"], "PROBE_SECONDS": NEVER, "WAIT_SECONDS": 1.0}


@pytest.fixture(params=["django", "replicant"])
def is_ours(request: pytest.FixtureRequest) -> bool:
    return bool(request.param == "replicant")


@pytest.fixture
def endpoint(servers: Cluster, database: str, is_ours: bool) -> Iterator[Proxy]:
    """``replica1`` leads to the first replica; ``replica2``, of no use here, always lacks something.

    Only the test probes the servers."""
    with proxy(servers.replicas[0]) as endpoint, proxy(servers.primary) as other:
        databases = servers.databases(database)
        databases["replica1"]["PORT"] = endpoint.port
        databases["replica2"]["PORT"] = other.port
        servers.wait_until_caught_up()
        with use_databases(ours(databases) if is_ours else databases, REPLICANT={"default": KEYS}):
            router.db_for_read(Item)
            wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "the monitor has looked")
            cluster_monitor.stop()
            _core.set_state("replica2", "down")
            yield endpoint
            cluster_monitor.stop()
    for replica in servers.replicas:
        replica.resume_replication()
    servers.primary.query(f"DELETE FROM {Item._meta.db_table}", database)
    servers.wait_until_caught_up()


@pytest.fixture
def elsewhere() -> Iterator[Elsewhere]:
    """Does something on another thread, which keeps its sessions."""
    with ThreadPoolExecutor(1) as thread:
        yield lambda work: thread.submit(contextvars.Context().run, work).result()
        thread.submit(connections.close_all).result()


def look() -> None:
    """Look at the primary and at ``replica1`` as the monitor does, over connections of its own."""
    samples: list[Sample] = []
    for alias in ("default", "replica1"):
        connection = connections.create_connection(alias)
        with connection.wrap_database_errors:
            connection.connection = connection.get_new_connection(connection.get_connection_params())
            connection.set_autocommit(True)
        samples.append(engine_of(connection).probe(connection))
        connection.connection.close()
    observations.observe(samples)


def move(endpoint: Proxy, servers: Cluster, node: Node) -> None:
    """Lead the alias to another server, and have that serve: it has what the primary had when it was seen."""
    endpoint.move(node)
    look()
    assert node.reached(servers.primary.position(), SECONDS)
    look()
    look()
    assert explain(Item).eligible == ("replica1",)


def make_a_row(servers: Cluster, database: str) -> None:
    servers.primary.query(f"INSERT INTO {Item._meta.db_table} (name) VALUES ('of another client')", database)


def rows(*, is_ours: bool) -> int:
    """How many rows a read finds. Django's engines may refuse the first one."""
    try:
        return len(Item.objects.all())
    except NoReplicaAvailable:
        assert not is_ours
        return len(Item.objects.all())


def visit(*, is_ours: bool, sent: str = "") -> tuple[int, str]:
    """A request: how many rows it finds, and the token of its response."""
    with request_scope(), after(sent):
        return rows(is_ours=is_ours), token()


def test_what_the_present_server_showed_the_session_with_the_former_one_does_not_miss(
    endpoint: Proxy, servers: Cluster, database: str, is_ours: bool, elsewhere: Elsewhere
):
    former, present = servers.replicas
    assert visit(is_ours=is_ours)[0] == 0
    with request_scope():
        Item.objects.create(name="own")
        sent = token()
    assert former.reached(servers.primary.position(), SECONDS)
    former.pause_replication()
    move(endpoint, servers, present)
    make_a_row(servers, database)
    assert present.reached(servers.primary.position(), SECONDS)
    shown, sent = elsewhere(lambda: visit(is_ours=is_ours, sent=sent))
    assert shown == 2
    assert visit(is_ours=is_ours, sent=sent)[0] == 2


def test_what_the_former_server_showed_the_present_one_does_not_miss(
    endpoint: Proxy, servers: Cluster, database: str, is_ours: bool, elsewhere: Elsewhere
):
    former, present = servers.replicas
    assert visit(is_ours=is_ours)[0] == 0
    move(endpoint, servers, present)
    assert elsewhere(lambda: visit(is_ours=is_ours))[0] == 0
    present.pause_replication()
    make_a_row(servers, database)
    assert former.reached(servers.primary.position(), SECONDS)
    with request_scope():
        shown = rows(is_ours=is_ours)
        # With our engines the former session was closed when another server was found behind the alias.
        assert shown == (0 if is_ours else 1)
        # Nor does this request itself miss it, over a new session.
        connections["replica1"].close()
        assert rows(is_ours=is_ours) >= shown
        sent = token()
    assert elsewhere(lambda: visit(is_ours=is_ours, sent=sent))[0] >= shown


def test_a_response_does_not_name_a_server_that_its_request_has_not_read_from(
    endpoint: Proxy, servers: Cluster, database: str, is_ours: bool, elsewhere: Elsewhere
):
    """Another server is found behind the alias between the read and the response, and no probe follows."""
    former, present = servers.replicas
    present.pause_replication()
    make_a_row(servers, database)
    assert former.reached(servers.primary.position(), SECONDS)
    with override_settings(REPLICANT={"default": {**KEYS, "PROBE_SECONDS": None}}):
        with request_scope():
            assert rows(is_ours=is_ours) == 1
            endpoint.move(present)
            elsewhere(lambda: connections["replica1"].ensure_connection())
            sent = token()
        assert elsewhere(lambda: visit(is_ours=is_ours, sent=sent))[0] == 1


def test_a_thread_without_a_scope_does_not_miss_what_the_former_server_showed(
    endpoint: Proxy, servers: Cluster, database: str, is_ours: bool
):
    former, present = servers.replicas
    assert rows(is_ours=is_ours) == 0
    move(endpoint, servers, present)
    present.pause_replication()
    make_a_row(servers, database)
    assert former.reached(servers.primary.position(), SECONDS)
    shown = rows(is_ours=is_ours)
    assert shown == (0 if is_ours else 1)
    connections["replica1"].close()
    assert rows(is_ours=is_ours) >= shown


def test_a_wait_on_the_session_with_the_former_server_says_nothing_of_the_present_one(
    endpoint: Proxy, servers: Cluster, is_ours: bool, elsewhere: Elsewhere
):
    _, present = servers.replicas
    assert visit(is_ours=is_ours)[0] == 0
    move(endpoint, servers, present)
    # Its session is with the present server, and was found to be in order.
    assert elsewhere(lambda: visit(is_ours=is_ours))[0] == 0
    present.pause_replication()
    with request_scope():
        Item.objects.create(name="own")
        assert len(Item.objects.all()) == 1
        sent = token()
    assert elsewhere(lambda: visit(is_ours=is_ours, sent=sent))[0] == 1
