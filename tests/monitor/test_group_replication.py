"""A MySQL group of three: who the group says is in it, and whom it elects."""

from __future__ import annotations

import contextlib
import contextvars
from collections.abc import Iterator, Mapping

import pytest
from django.core.management import call_command
from django.db import connections, router
from django.db.backends.base.base import BaseDatabaseWrapper

from replicant import status, use_replica
from replicant.connections import server_map
from replicant.engines import engine_of
from replicant.monitor import cluster_monitor
from replicant.monitor.discovery import Member, Unusable, group_replication, members
from tests import conftest
from tests.app.models import Item
from tests.databases import ours, use_databases
from tests.monitoring import watching
from tests.servers import Node
from tests.servers.group import Group, GroupNode, start_group
from tests.servers.machine import HOST, wait_until
from tests.servers.node import APPLICATION

SECONDS = 30.0
DATABASE = "grouped"


@pytest.fixture(scope="module")
def group() -> Iterator[Group]:
    with start_group(replicas=2) as group:
        conftest.clusters["mysql group"] = group
        group.create_database(DATABASE)
        group.primary.query(f"GRANT SELECT ON {group_replication._TABLE} TO '{APPLICATION}'@'{HOST}'")
        with use_databases(group.databases(DATABASE)):
            contextvars.copy_context().run(call_command, "migrate", verbosity=0)
        yield group


@pytest.fixture
def primary(group: Group) -> Iterator[BaseDatabaseWrapper]:
    """A session with the primary of a group that is whole."""
    group.elected()
    group.wait_until_whole()
    group.wait_until_caught_up()
    with use_databases(group.databases(DATABASE)):
        connections["default"].connect()
        yield connections["default"]


def seen(connection: BaseDatabaseWrapper, hosts: Mapping[str, str] | None = None) -> list[Member]:
    topology = {"METHOD": "group_replication", "HOSTS": hosts or {}}
    return members(connection, topology, engine_of(connection).probe(connection))


def ports(connection: BaseDatabaseWrapper) -> set[int | None]:
    with contextlib.suppress(Unusable):
        return {member.port for member in seen(connection)}
    return set()


def sees(connection: BaseDatabaseWrapper, *nodes: Node) -> None:
    expected = {node.port for node in nodes}
    wait_until(lambda: ports(connection) == expected, SECONDS, f"the replicas are {nodes}")


def why_not(connection: BaseDatabaseWrapper) -> str:
    try:
        seen(connection)
    except Unusable as error:
        return str(error)
    return ""


def test_the_secondaries_are_the_replicas(group: Group, primary: BaseDatabaseWrapper):
    first, second = group.replicas
    expected = [Member(HOST, each.port, each.value("SELECT @@server_uuid")) for each in (first, second)]
    assert seen(primary) == sorted(expected)
    mapped = seen(primary, {f"{HOST}:{first.port}": "db2.internal", expected[1].server: "db3.internal:3307"})
    assert [member[:2] for member in mapped] == [("db2.internal", first.port), ("db3.internal", 3307)]


def test_a_secondary_that_dies_leaves_the_view_and_comes_back_when_it_is_online(
    group: Group, primary: BaseDatabaseWrapper, monkeypatch: pytest.MonkeyPatch
):
    first, second = group.replicas
    first.kill()
    sees(primary, second)
    monkeypatch.setattr(first, "on_restart", None)
    first.restart()
    # It is there again, and in no group.
    connections["replica1"].connect()
    with pytest.raises(Unusable, match="is not ONLINE in a group"):
        group_replication.replicas(connections["replica1"], {})
    assert ports(primary) == {second.port}
    first.follow(group.primary)
    sees(primary, first, second)


def test_a_secondary_has_no_view(group: Group, primary: BaseDatabaseWrapper):
    connections["replica1"].connect()
    assert "takes no writes" in why_not(connections["replica1"])
    with pytest.raises(Unusable, match="is a SECONDARY of its group"):
        group_replication.replicas(connections["replica1"], {})


def test_members_that_take_writes_are_no_replicas(group: Group, primary: BaseDatabaseWrapper):
    number = group.primary.value("SELECT @@server_uuid")
    group.primary.query("SELECT group_replication_switch_to_multi_primary_mode()")
    try:
        assert why_not(primary) == "it names no replica at all"
    finally:
        group.primary.query(f"SELECT group_replication_switch_to_single_primary_mode('{number}')")
    sees(primary, *group.replicas)


def test_a_user_is_told_which_right_it_lacks(group: Group, primary: BaseDatabaseWrapper):
    account = f"'{APPLICATION}'@'{HOST}'"
    group.primary.query(f"REVOKE SELECT ON {group_replication._TABLE} FROM {account}")
    try:
        assert f"needs SELECT ON {group_replication._TABLE}" in why_not(primary)
        group.wait_until_caught_up()
        assert follows("replica1") is None
    finally:
        group.primary.query(f"GRANT SELECT ON {group_replication._TABLE} TO {account}")
    group.wait_until_caught_up()
    assert follows("replica1") is True
    assert follows("default") is False


def follows(alias: str) -> bool | None:
    connection = connections[alias]
    connection.close()
    connection.connect()
    return engine_of(connection).replicates(connection)


def test_the_groups_own_failover_is_followed(group: Group, primary: BaseDatabaseWrapper):
    databases = group.databases(DATABASE)
    topology = {"METHOD": "group_replication", "TEMPLATE": "replica1"}
    with use_databases(ours(databases), REPLICANT=watching(0.1, TOPOLOGY=topology)):
        Item.objects.create(name="before")
        wait_until(lambda: len(cluster_monitor.latest()) == 3, SECONDS, "all are known")
        old = group.primary
        old.kill()
        new = group.elected()
        (alias,) = [alias for alias, each in databases.items() if each["PORT"] == new.port]
        wait_until(lambda: server_map.server_of("default") == alias, SECONDS, f"{alias} is behind 'default'")
        Item.objects.create(name="after")
        assert [name for (name,) in new.query("SELECT name FROM app_item ORDER BY id", DATABASE)] == ["before", "after"]
        connections["default"].ensure_connection()
        assert old.port not in ports(connections["default"])
        old.restart()
        assert isinstance(old, GroupNode)
        sees(connections["default"], *group.replicas)
        wait_until(lambda: states()[alias] == "up", SECONDS, "the former primary is well")
        with use_replica(alias):
            wait_until(lambda: router.db_for_read(Item) == alias, SECONDS, "the former primary serves")
        cluster_monitor.stop()


def states() -> dict[str, str]:
    return {member["alias"]: member["state"] for member in status()["clusters"]["default"]["members"]}


def test_one_out_of_reach_is_no_replica_and_without_a_majority_there_is_no_view(
    group: Group, primary: BaseDatabaseWrapper
):
    for node in group.nodes:
        # Who wakes up first would expel the other. The last test, since some suspicion lives on.
        node.query("SET GLOBAL group_replication_member_expel_timeout = 60")
    first, second = group.replicas
    first.suspend()
    try:
        sees(primary, second)
        assert "UNREACHABLE" in [state for state, _ in group.primary.members().values()]
        second.suspend()
        wait_until(lambda: "reaches 1 of 3 members" in why_not(primary), SECONDS, "the others are unreachable")
    finally:
        for node in group.replicas:
            node.resume()
    sees(primary, *group.replicas)
