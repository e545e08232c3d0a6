"""The account with which the monitor asks for a server's replicas."""

from __future__ import annotations

VIEWER, PASSWORD = "viewer", "viewer-password"
#: The right that the account needs to see the replicas, beyond connecting.
RIGHTS = {
    "mysql": f"GRANT REPLICATION SLAVE ON *.* TO {VIEWER}",
    "mariadb": f"GRANT REPLICATION MASTER ADMIN ON *.* TO {VIEWER}",
    "postgresql": f"GRANT pg_monitor TO {VIEWER}",
}
METHODS = {"mysql": "mysql", "mariadb": "mysql", "postgresql": "postgresql"}
