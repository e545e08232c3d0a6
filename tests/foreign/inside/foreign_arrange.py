"""What is changed in a suite's settings so that its reads may be answered by a replica."""

from __future__ import annotations

import copy
import json
import os
from typing import Any

REPLICA = "replica1"
WITH_US = os.environ.get("FOREIGN_WITH_US") == "1"


def arrange(settings: dict[str, Any]) -> None:
    """Change ``settings``, as names and values, in place."""
    if databases := os.environ.get("FOREIGN_DATABASES"):
        settings["DATABASES"] = json.loads(databases)
    if not WITH_US:
        return
    databases = settings["DATABASES"]
    if REPLICA not in databases:
        databases[REPLICA] = copy.deepcopy(databases["default"])
    # Only where the databases of tests are concerned does a mirror differ from what it mirrors.
    databases[REPLICA]["TEST"] = {"MIRROR": "default"}
    settings["DATABASE_ROUTERS"] = [*settings.get("DATABASE_ROUTERS", ()), "replicant.ReplicaRouter"]
    settings["INSTALLED_APPS"] = [*settings.get("INSTALLED_APPS", ()), "replicant"]
    # Nothing is exempt: the more a replica answers, the more the run proves.
    settings["REPLICANT"] = {"default": {"REPLICAS": [REPLICA], "PRIMARY_ONLY": []}}
