"""Django on a cluster, with the settings of a run."""

from __future__ import annotations

import contextvars
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command

from tests.consistency import faults
from tests.consistency.clients import REGISTERS
from tests.consistency.history import History, Initial
from tests.consistency.models import Register
from tests.databases import use_databases
from tests.servers import Cluster

DATABASE = "consistency"
#: Seconds. Short, so that a run has room for many of them.
PROBE_SECONDS = 0.1


def databases(cluster: Cluster, name: str = DATABASE) -> dict[str, Any]:
    """Django's DATABASES. A transaction on a replica keeps its first snapshot: only so can it be read too late."""
    settings = cluster.databases(name)
    level: Any = "repeatable read"
    if cluster.engine == "postgresql":
        from django.db.backends.postgresql.psycopg_any import IsolationLevel

        level = IsolationLevel.REPEATABLE_READ
    for alias, database in settings.items():
        # Some requests find their connections open, and some make new ones.
        database["CONN_MAX_AGE"] = 1
        if alias != "default":
            database["OPTIONS"] = {"isolation_level": level}
    return settings


def settings(consistency: str, **more: Any) -> dict[str, Any]:
    """``REPLICANT`` for a run in this consistency; ``more`` are further keys of the cluster."""
    cluster = {"REPLICAS": ["replica1", "replica2"], "CONSISTENCY": consistency, "PROBE_SECONDS": PROBE_SECONDS}
    return {"default": {**cluster, **more}}


def create(cluster: Cluster, name: str = DATABASE, registers: Sequence[str] = REGISTERS) -> None:
    """A database with the registers in it, on every server."""
    cluster.create_database(name)
    with use_databases(databases(cluster, name)):
        # In a context of its own: what migrations write, a client must not remember.
        contextvars.copy_context().run(_fill, registers)
    cluster.wait_until_caught_up()


def _fill(registers: Sequence[str]) -> None:
    call_command("migrate", "consistency", verbosity=0)
    Register.objects.bulk_create(Register(name=name, value=number) for number, name in enumerate(registers))


@contextmanager
def site(
    cluster: Cluster, replicant: dict[str, Any], name: str = DATABASE, **overridden: Any
) -> Iterator[dict[str, Any]]:
    """Django on the cluster's database. Afterwards every replica runs and has everything."""
    with use_databases(databases(cluster, name), REPLICANT=replicant, **overridden):
        try:
            yield replicant
        finally:
            faults.end_all(cluster)


def begin(cluster: Cluster, **about: Any) -> History:
    """A history that begins here, once the replicas have everything; ``about`` says how the run was made."""
    cluster.wait_until_caught_up()
    values = contextvars.Context().run(lambda: dict(Register.objects.using("default").values_list("name", "value")))
    return History([Initial(values)], {"engine": f"{cluster.engine} {cluster.version}", **about})
