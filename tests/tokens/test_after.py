"""``token()`` and ``after()``: what one scope wrote, another one sees."""

from __future__ import annotations

import asyncio
import contextvars

import pytest
from django.db import transaction

import replicant
from replicant import after, explain, request_scope, token, tokens
from tests.app.models import Item
from tests.tokens.items import _clusters as _clusters


def apart(function, *arguments):
    """Call it where nothing of what was written here is known, as in another process."""
    return contextvars.Context().run(function, *arguments)


def written() -> str:
    with request_scope():
        Item.objects.create(name="written")
        return token()


def reason() -> str:
    return explain(Item).reason


def test_who_has_neither_written_nor_read_has_no_token():
    with request_scope():
        assert token() == ""


def test_after_a_token_reads_see_what_its_scope_wrote():
    sent = apart(written)

    def elsewhere():
        assert reason() == "balanced"
        with after(sent):
            assert reason() == "pinned"
        return reason()

    assert apart(elsewhere) == "balanced"


def test_after_takes_several_tokens_as_a_header_brings_them():
    sent = apart(written)

    def elsewhere():
        with after(f"nonsense, {sent}"):
            return reason()

    assert apart(elsewhere) == "pinned"


def test_async_code_waits_for_no_less():
    sent = apart(written)

    async def main():
        async with after(sent):
            assert reason() == "pinned"
        return reason()

    assert asyncio.run(main()) == "balanced"


def test_inside_a_request_what_was_required_stays_required():
    sent = apart(written)

    def elsewhere():
        with request_scope():
            with after(sent):
                assert reason() == "pinned"
                inside = token()
            # A page that has shown the write must not lose it again; and the next hop is told.
            assert reason() == "pinned"
            assert token()
        return inside

    assert apart(elsewhere)


def test_a_write_after_a_token_belongs_to_the_request_around():
    sent = apart(written)

    def elsewhere():
        with request_scope():
            with after(sent):
                Item.objects.create(name="again")
            assert replicant.connections.causality.has_written()

    apart(elsewhere)


def test_a_token_passes_through_a_third_place():
    def pass_on(sent):
        with after(sent):
            return token()

    sent = apart(pass_on, apart(written))

    def elsewhere():
        with after(sent):
            return reason()

    assert apart(elsewhere) == "pinned"


@pytest.mark.parametrize("sent", ["", "nonsense", "x" * 5000])
def test_after_a_token_that_says_nothing_reads_are_as_ever(sent: str):
    def elsewhere():
        with after(sent):
            return reason()

    assert apart(elsewhere) == "balanced"


def test_after_leaves_nothing_behind_after_an_exception():
    sent = apart(written)

    def elsewhere():
        with pytest.raises(ZeroDivisionError), after(sent):
            raise ZeroDivisionError
        return reason()

    assert apart(elsewhere) == "balanced"


def test_inside_a_transaction_a_token_stands_for_a_write_not_yet_published():
    def inside():
        with request_scope(), transaction.atomic():
            Item.objects.create(name="written")
            return token()

    (required,) = tokens.decode(apart(inside))
    assert required.unpublished
    assert required.written is not None


def test_what_was_rolled_back_is_in_no_token():
    def inside():
        with request_scope():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Item.objects.create(name="written")
                raise ZeroDivisionError
            return token()

    assert apart(inside) == ""
