"""Tokens that are handed over, and tokens whose position no server has; on real servers.

Every test runs on MySQL, MariaDB and PostgreSQL, with Django's own engines and with ours.
"""

from __future__ import annotations

from typing import Any

import pytest
from django.db import router, transaction

import replicant
from replicant import request_scope, tokens
from replicant._core import Position
from replicant.connections.causality import Causality
from tests.app.models import Item
from tests.connections.paused_replicas import (
    AMPLE,
    BOTH,
    catch_up,
    elsewhere,
    looked,
    read,
    reason,
    timed,
    until,
    using,
    write,
)
from tests.connections.paused_replicas import paused as paused
from tests.connections.paused_replicas import shop as shop
from tests.servers import Cluster, Node
from tests.tokens.visitors import Visitor, web


def test_a_token_handed_over_is_enough(paused: Cluster):
    def sender() -> tuple[Any, str]:
        with request_scope():
            return write(), replicant.token()

    pk, token = elsewhere(sender)
    looked()
    with replicant.after(token):
        assert read(pk) == ("default", True)
        catch_up(paused, paused.replicas[0])
        until(lambda: reason() != "pinned", "replica1 is known to have it")
        assert read(pk) == ("replica1", True)
    with using(WAIT_SECONDS=AMPLE), replicant.after(token):
        assert read(pk) == ("replica1", True)


@using(PIN_SECONDS=0.5)
def test_a_token_of_a_write_not_yet_published_reads_from_the_primary(paused: Cluster):
    with request_scope():
        looked()
        with transaction.atomic():
            write()
            token = replicant.token()
    with replicant.after(token):
        assert reason() == "pinned"


def never_written(primary: Node) -> dict[str, Position]:
    """Positions that this primary will not have: of a history that went on after the backup it was restored from, and
    of a server that is none of its sources."""
    text = primary.position()
    if primary.__class__.__name__.startswith("MySQL"):
        uuid = text.partition(":")[0]
        texts = [f"{uuid}:1-1000000", "11111111-2222-3333-4444-555555555555:1-5"]
        kind = "mysql"
    elif primary.__class__.__name__.startswith("Maria"):
        texts, kind = ["0-1-100000000", "77-88-5"], "mariadb"
    else:
        texts, kind = ["1:FFFF/0", "9:0/1"], "postgresql"
    return {"ahead": Position(kind, texts[0]), "unknown": Position(kind, texts[1])}


def forged(position: Position) -> str:
    return tokens.encode([Causality("default", position, None, False, None, None)])


@using(PIN_SECONDS=0.5)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_a_token_that_nobody_can_ever_have_pins_by_time(shop: Cluster, which: str):
    looked()
    with replicant.after(forged(never_written(shop.primary)[which])):
        assert reason() == "pinned"
        with timed() as seconds:
            until(lambda: reason() != "pinned", "it has come to its end")
        assert 0.2 < seconds() < 3
        # And is gone from what is handed on.
        until(lambda: replicant.token() == "" or read()[0] in BOTH, "nothing is left")


@using(PIN_SECONDS=0.5, PROBE_SECONDS=0.3)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_such_a_token_ends_too_where_requests_are_short(shop: Cluster, which: str):
    with web():
        visitor = Visitor()
        elsewhere(lambda: router.db_for_read(Item))
        looked()
        visitor.client.cookies["replicant_token"] = forged(never_written(shop.primary)[which])
        assert visitor.shelf(0)[0] == "default"
        with timed() as seconds:
            until(lambda: visitor.shelf(0)[0] != "default", "it has come to its end")
        assert seconds() < 5


@using(PROBE_SECONDS=None, WAIT_SECONDS=0.05, PIN_SECONDS=0.5)
@pytest.mark.parametrize("which", ["ahead", "unknown"])
def test_without_a_probe_a_token_that_nobody_can_have_ends_too(shop: Cluster, which: str):
    token = forged(never_written(shop.primary)[which])
    with replicant.after(token):
        assert read()[0] == "default"
        until(lambda: read()[0] != "default", "it has come to its end")
