"""What tests say about routing: where reads went, in which order, and how the code bears replicas that are behind.

In tests a replica that is a ``MIRROR`` has all that the primary has, at once: code that reads its own write from a
replica passes, and fails in production. :func:`lag` makes such a replica late without a server to be late.
"""

from __future__ import annotations

from replicant.testing.assertions import assert_reads, assert_routes, count_queries
from replicant.testing.lagging import lag, use_real_lag

__all__ = ["assert_reads", "assert_routes", "count_queries", "lag", "use_real_lag"]
