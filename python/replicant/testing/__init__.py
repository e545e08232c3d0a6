"""Test helpers for routing: where reads went, in which order, and how the code behaves when replicas are behind.

In tests, a replica that is a ``MIRROR`` has all data of the primary at once: code that reads its own write from a
replica passes in tests, and fails in production. :func:`lag` makes such a replica lag without a real server.
"""

from __future__ import annotations

from replicant.testing.assertions import assert_reads, assert_routes, count_queries
from replicant.testing.lagging import lag, use_real_lag

__all__ = ["assert_reads", "assert_routes", "count_queries", "lag", "use_real_lag"]
