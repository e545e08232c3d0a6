"""Real database servers for tests, example project and benchmarks: a primary and replicas on loopback.

    with start("mariadb", replicas=2) as cluster:
        cluster.create_database("demo")
        DATABASES = cluster.databases("demo")

Standard library only. `python -m tests.servers` starts one by hand, lists what is there, installs the rest.
"""

from .cluster import Cluster, start
from .engines import ENGINES_BY_NAME
from .install import ServersUnavailable
from .node import Node, ServerError
from .wire import QueryError

ENGINES = tuple(ENGINES_BY_NAME)
"""What `start()` takes: "mysql", "mariadb", "postgresql"."""

__all__ = ["ENGINES", "Cluster", "Node", "QueryError", "ServerError", "ServersUnavailable", "start"]
