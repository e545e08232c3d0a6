"""A client's next page shows what its last one wrote, on real servers whose replicas lag.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

import time

import pytest
from django.contrib.auth.models import User
from django.db import connections

from tests.connections.paused_replicas import BOTH, catch_up, elsewhere, looked, pause, until, using
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster
from tests.tokens.visitors import SESSIONS, Visitor, web


@pytest.mark.parametrize("store", ["cookie", "header", "cache"])
def test_the_next_page_shows_what_the_last_one_wrote(shop: Cluster, store: str):
    with web(REPLICANT_TOKEN={"STORE": store}, MIDDLEWARE=SESSIONS):
        somebody, other = Visitor(), Visitor()
        if store == "cache":
            for name, visitor in (("one", somebody), ("other", other)):
                user, _ = elsewhere(lambda name=name: User.objects.get_or_create(username=f"{name}{time.time_ns()}"))
                elsewhere(lambda user=user, visitor=visitor: visitor.client.force_login(user))
        shop.wait_until_caught_up()
        pause(shop)
        looked()
        pk = somebody.add()
        for _ in range(3):
            assert somebody.shelf(pk) == ("default", True)
            alias, found = other.shelf(pk)
            assert (alias in BOTH, found) == (True, False)
        catch_up(shop, shop.replicas[1])
        seen = []
        until(lambda: seen.append(somebody.shelf(pk)) or seen[-1][0] != "default", "replica2 serves it")
        assert all(found for _, found in seen)
        assert {somebody.shelf(pk) for _ in range(10)} == {("replica2", True)}


def test_with_two_devices_the_other_one_shows_it_too(shop: Cluster):
    with web(REPLICANT_TOKEN={"STORE": "cache"}, MIDDLEWARE=SESSIONS):
        user, _ = elsewhere(lambda: User.objects.get_or_create(username=f"two{time.time_ns()}"))
        one, other = Visitor(), Visitor()
        elsewhere(lambda: [visitor.client.force_login(user) for visitor in (one, other)])
        shop.wait_until_caught_up()
        pause(shop)
        pk = one.add()
        assert other.shelf(pk) == ("default", True)


def test_a_request_in_one_transaction_reads_from_the_primary_and_the_next_sees_it(paused: Cluster):
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    connections["default"].settings_dict["ATOMIC_REQUESTS"] = True
    with web():
        visitor = Visitor()
        pk = visitor.add()
        assert visitor.shelf(pk) == ("default", True)
        connections["default"].settings_dict["ATOMIC_REQUESTS"] = False
        looked()
        assert visitor.shelf(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: visitor.shelf(pk)[0] == "replica1", "replica1 serves it")


@pytest.mark.parametrize("wait", [0, 0.05])
def test_pages_are_true_while_replicas_lag(shop: Cluster, wait: float):
    """Users on one row each, replicas that stop and go: nobody misses what they wrote on the page before."""
    with using(WAIT_SECONDS=wait), web():
        looked()
        visitors = [Visitor() for _ in range(4)]
        served: dict[str, int] = {}
        for turn in range(12):
            replica = shop.replicas[turn % 2]
            replica.pause_replication() if turn % 4 < 2 else replica.resume_replication()
            for visitor in visitors:
                pk = visitor.add()
                for _ in range(4):
                    alias, found = visitor.shelf(pk)
                    served[alias] = served.get(alias, 0) + 1
                    assert found, (alias, turn)
        assert set(served) <= {"default", *BOTH}
