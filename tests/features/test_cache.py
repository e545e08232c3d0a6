"""Django's cache in the database, which everybody shares."""

from __future__ import annotations

import pytest
from django.core.cache import cache
from django.test import override_settings

from tests.features.conftest import CLUSTER, Sent, elsewhere, new


def test_what_one_stored_all_find(scope, sent: Sent):
    key, counter = new(), new()
    elsewhere(lambda: cache.set_many({key: "value", counter: 1}, 60))
    with scope():
        assert cache.get(key) == "value"
        assert cache.get_many([key, counter]) == {key: "value", counter: 1}
        assert key in cache
        assert not cache.add(key, "other")
        assert cache.incr(counter) == 2
        assert elsewhere(lambda: cache.incr(counter)) == 3
        assert cache.get(counter) == 3
        assert cache.touch(key, 120)
        assert cache.get_or_set(key, "other") == "value"
        assert cache.delete(key)
        assert cache.get(key) is None
    assert sent.to_replicas() == []


@pytest.mark.parametrize("cluster", ["mysql"], indirect=True)
def test_a_cache_that_is_not_exempt_counts_wrong():
    """What the check warns of."""
    with override_settings(REPLICANT={"default": {**CLUSTER, "PRIMARY_ONLY": ["sessions"]}}):
        counter = new()
        elsewhere(lambda: cache.set(counter, 1, 60))
        with pytest.raises(ValueError, match="not found"):
            elsewhere(lambda: cache.incr(counter))
