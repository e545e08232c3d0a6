"""MySQL servers that replicate as a group and elect their primary themselves."""

from __future__ import annotations

import dataclasses
import uuid
from collections.abc import Mapping

from .cluster import Cluster
from .engines import ENGINES_BY_NAME
from .install import ensure
from .machine import HOST, free_ports, wait_until
from .mysql import MySQLNode
from .node import REPLICATION, REPLICATION_PASSWORD, START_SECONDS, Node

_NAME = str(uuid.uuid4())
_OPTIONS = {
    "plugin-load-add": "group_replication.so",
    # Who is in the group is asked there.
    "performance-schema": "ON",
    "group-replication-group-name": _NAME,
    "group-replication-start-on-boot": "OFF",
    "group-replication-ip-allowlist": f"{HOST}/32",
    "group-replication-recovery-get-public-key": "ON",
    # One that is gone for five seconds is suspected; no further five until it is expelled.
    "group-replication-member-expel-timeout": "0",
    "group-replication-autorejoin-tries": "0",
}


class GroupNode(MySQLNode):
    """A member of a group in single-primary mode. Made by `start_group()`."""

    #: Whoever joins is sent away and tries again, a few times, while others join or leave.
    answer_seconds = 120.0
    _group_port = 0

    @property
    def group_address(self) -> str:
        """Where the other members reach it, which is not where clients do."""
        return f"{HOST}:{self._group_port}"

    def launch(self) -> None:
        self._group_port = self._group_port or free_ports(1)[0]
        super().launch()

    launch.__doc__ = Node.launch.__doc__

    def _options(self) -> dict[str, str]:
        return {**super()._options(), **_OPTIONS, "group-replication-local-address": self.group_address}

    def found(self) -> None:
        """Make it the first member of a new group, unless it is in one."""
        if not self.replicating():
            self.query("SET GLOBAL group_replication_bootstrap_group = ON")
            self.query("START GROUP_REPLICATION")
            self.query("SET GLOBAL group_replication_bootstrap_group = OFF")
            self.wait_until_replicating()

    def follow(self, source: Node) -> None:
        """Join the group that `source` is in, or founds."""
        assert isinstance(source, GroupNode)
        self.source = source
        with source._lock:  # of two that join at the same time one is sent away, and tries again after five seconds
            source.found()
            number = self.value("SELECT @@server_uuid")
            wait_until(lambda: number not in source.members(), START_SECONDS, f"the group forgets {self.name}")
            self.query(f"SET GLOBAL group_replication_group_seeds = '{source.group_address}'")
            self.query(
                f"CHANGE REPLICATION SOURCE TO SOURCE_USER='{REPLICATION}', SOURCE_PASSWORD='{REPLICATION_PASSWORD}' "
                "FOR CHANNEL 'group_replication_recovery'"
            )
            self.query("START GROUP_REPLICATION")
            self.wait_until_replicating()

    def replicating(self) -> bool:
        return self.members().get(self.value("SELECT @@server_uuid"), ("", ""))[0] == "ONLINE"

    replicating.__doc__ = Node.replicating.__doc__

    def members(self) -> Mapping[str, tuple[str, str]]:
        """The state and role of each member, by server UUID, as this one sees them."""
        sql = "SELECT MEMBER_ID, MEMBER_STATE, MEMBER_ROLE FROM performance_schema.replication_group_members"
        return {number: (state, role) for number, state, role in self.query(sql)}

    def leads(self) -> bool:
        """Whether it is the primary of the group, by its own account."""
        return self.members().get(self.value("SELECT @@server_uuid")) == ("ONLINE", "PRIMARY")


class Group(Cluster):
    """Servers that replicate as a group; `primary` and `replicas` are as they were when last looked at."""

    def elected(self) -> Node:
        """Wait until a running member is the primary, and return it."""

        def leaders() -> list[Node]:
            return [node for node in self.nodes if node.running and isinstance(node, GroupNode) and node.leads()]

        wait_until(lambda: len(leaders()) == 1, START_SECONDS, "the group has a primary")
        (self.primary,) = leaders()
        self.replicas = [node for node in self.nodes if node is not self.primary]
        for node in self.nodes:
            node.role = "primary" if node is self.primary else "replica"
        return self.primary

    def wait_until_whole(self) -> None:
        """Wait until every member sees all of them ONLINE."""

        def online() -> int:
            seen = [node.members() for node in self.nodes if isinstance(node, GroupNode)]
            return sum(state == "ONLINE" for members in seen for state, _ in members.values())

        wait_until(lambda: online() == len(self.nodes) ** 2, START_SECONDS, "all see all of the group")

    def _restarted(self, node: Node) -> None:
        node.follow(self.elected())


def start_group(replicas: int = 2) -> Group:
    """Bring up a MySQL group of a primary and `replicas` secondaries on loopback. Raises what `start()` does."""
    engine = dataclasses.replace(ENGINES_BY_NAME["mysql"], node=GroupNode)
    return Group(engine, ensure("mysql"), replicas)
