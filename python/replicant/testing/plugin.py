"""The pytest plugin: ``replicant.testing`` as fixtures. Loaded in every project, so it imports nothing until asked."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections import Counter

    from replicant import testing


@pytest.fixture
def assert_reads() -> type[testing.assert_reads]:
    """:class:`replicant.testing.assert_reads`."""
    from replicant import testing

    return testing.assert_reads


@pytest.fixture
def assert_routes() -> type[testing.assert_routes]:
    """:class:`replicant.testing.assert_routes`."""
    from replicant import testing

    return testing.assert_routes


@pytest.fixture
def count_queries() -> type[testing.count_queries]:
    """:class:`replicant.testing.count_queries`."""
    from replicant import testing

    return testing.count_queries


@pytest.fixture
def queries_by_alias() -> Iterator[Counter[str]]:
    """How many statements the test has sent so far, alias by alias; ``queries_by_alias["replica1"]``."""
    from replicant import testing

    with testing.count_queries() as counted:
        yield counted.by_alias


@pytest.fixture(name="lag")
def _lag() -> object:
    """:func:`replicant.testing.lag`."""
    from replicant import testing

    return testing.lag
