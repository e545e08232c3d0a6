"""What the tests of the monitor share: an account that may only read, and the settings of other processes."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from django.db import connections

from replicant import private_folder
from replicant.monitor import shared_file
from tests.servers import Cluster, Node

REPOSITORY = Path(__file__).parent.parent
ALIASES = ("default", "replica1", "replica2")
#: Its only right is to read the application's tables.
PROBER, PROBER_PASSWORD = "prober", "prober-password"
#: Seconds between probes. A probe takes 0.8 s at least before a member counts as silent, however short the interval is.
FAST = 0.05
#: Seconds between probes: the monitor probes once, and afterwards only the test does.
NEVER = 1000.0


def watching(interval: float | None, **keys: Any) -> dict[str, Any]:
    return {"default": {"REPLICAS": ["replica1", "replica2"], "PROBE_SECONDS": interval, **keys}}


def use_prober(servers: Cluster, database: str) -> None:
    """Give the monitor an account that may do nothing but read."""
    if servers.engine == "postgresql":
        known = f"SELECT count(*) FROM pg_roles WHERE rolname = '{PROBER}'"
        make = f"CREATE ROLE {PROBER} LOGIN PASSWORD '{PROBER_PASSWORD}'"
        grant = f"GRANT SELECT ON ALL TABLES IN SCHEMA public TO {PROBER}"
    else:
        known = f"SELECT count(*) FROM mysql.user WHERE user = '{PROBER}'"
        make = f"CREATE USER {PROBER} IDENTIFIED BY '{PROBER_PASSWORD}'"
        grant = f"GRANT SELECT ON {database}.* TO {PROBER}"
    if servers.primary.value(known) == "0":
        servers.primary.query(make)
    servers.primary.query(grant, database)
    servers.wait_until_caught_up()
    for alias in ALIASES:
        connections.settings[alias]["PROBE"] = {"USER": PROBER, "PASSWORD": PROBER_PASSWORD}


def sessions(node: Node) -> int:
    """How many connections the monitor has to a server, by the server's own account."""
    if "PostgreSQL" in type(node).__name__:
        return int(node.value(f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{PROBER}'"))
    return int(node.value(f"SELECT count(*) FROM information_schema.processlist WHERE user = '{PROBER}'"))


def environment(databases: dict[str, Any], interval: float | None, **settings: Any) -> dict[str, str]:
    settings = {"DATABASES": databases, "REPLICANT": watching(interval), **settings}
    return {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.workers.settings",
        "REPLICANT_TEST_SETTINGS": json.dumps(settings),
        "PYTHONPATH": str(REPOSITORY),
    }


def samples_path(name: str) -> Path:
    return private_folder.path() / f"{name}-{shared_file.FORMAT}"


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where a connection is never accepted and never refused: the queue of a listener that is full."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(8):
            client = stack.enter_context(socket.socket())
            client.setblocking(False)
            client.connect_ex(listener.getsockname())
        yield listener.getsockname()[1]
