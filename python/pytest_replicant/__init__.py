"""The pytest plugin: ``replicant.testing`` as fixtures.

pytest loads this plugin in every project of an environment, also in projects that use neither Django nor this package.
Therefore it imports nothing before a fixture is used, and is a package of its own: an import of ``replicant`` would
import Django's models.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

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


class _QueriesByAlias:
    def __init__(self, sent: testing.count_queries) -> None:
        self._sent = sent

    def __getitem__(self, alias: str) -> int:
        return self._now()[alias]

    def __eq__(self, other: object) -> bool:
        return dict(self._now()) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return repr(dict(self._now()))

    def _now(self) -> Counter[str]:
        return self._sent.by_alias


@pytest.fixture
def queries_by_alias() -> Iterator[_QueriesByAlias]:
    """How many statements the test has sent so far: ``queries_by_alias["replica1"]``, 0 if none."""
    from replicant import testing

    with testing.count_queries() as sent:
        yield _QueriesByAlias(sent)


@pytest.fixture
def lag() -> Any:
    """:func:`replicant.testing.lag`."""
    from replicant import testing

    return testing.lag
