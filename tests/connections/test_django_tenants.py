"""django-tenants itself, on a PostgreSQL primary with replicas: each tenant reads its own rows, and from replicas."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers import Cluster

ROOT = Path(__file__).parents[2]
HOSTS = ["acme.example", "globex.example", "acme.example", "globex.example", "globex.example"]
pytestmark = pytest.mark.parametrize("cluster", ["postgresql"], indirect=True)


def run(cluster: Cluster, *arguments: str, ours: bool, carried: bool, limited: bool = False) -> Any:
    databases = cluster.databases("tenants")
    for alias, database in databases.items():
        if alias == "default":
            database["ENGINE"] = "django_tenants.postgresql_backend"
        else:
            database["ENGINE"] = f"{'replicant.backends' if ours else 'django.db.backends'}.postgresql"
    replicant: dict[str, Any] = {"REPLICAS": ["replica1", "replica2"], "PROBE_SECONDS": None, "CONSISTENCY": "eventual"}
    if carried:
        replicant["SESSION_STATE"] = ["search_path"]
    environment = {
        **os.environ,
        "TENANT_DATABASES": json.dumps(databases),
        "TENANT_REPLICANT": json.dumps({"default": replicant}),
        "TENANT_ORIGINAL_BACKEND": "replicant.backends.postgresql" if ours else "django.db.backends.postgresql",
        "TENANT_LIMIT_SET_CALLS": str(int(limited)),
    }
    command = [sys.executable, "-m", "tests.tenants", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return None if arguments == ("make",) else json.loads(done.stdout)


@pytest.fixture
def tenants(cluster: Cluster) -> Cluster:
    cluster.create_database("tenants")
    run(cluster, "make", ours=True, carried=True)
    cluster.wait_until_caught_up()
    return cluster


def test_each_tenant_reads_its_own_rows(tenants: Cluster):
    for ours, carried, limited in [
        (True, True, False),
        (True, True, True),
        (True, False, False),
        (False, False, False),
        (False, True, False),
    ]:
        answers = run(tenants, "visit", *HOSTS, ours=ours, carried=carried, limited=limited)
        expected = [[f"of {host.partition('.')[0]}"] for host in HOSTS]
        assert [answer["wares"] for answer in answers] == expected
        if ours and carried:
            assert {answer["alias"] for answer in answers} <= {"replica1", "replica2"}
        else:
            assert {(answer["alias"], answer["reason"]) for answer in answers} == {("default", "session_state")}
        found = run(tenants, "check", ours=ours, carried=carried)
        assert ("replicant.W019" in found) is not (ours and carried)
        assert ("replicant.W020" in found) is (carried and not ours)
