"""What is passed to ``after`` need not be a text: it is ignored and counted."""

from __future__ import annotations

from typing import Any

import pytest

from replicant import after, tokens
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")


@pytest.mark.parametrize("value", [b"", b"x:y", bytearray(b"x"), 0, 5, 1.5, True, [], ["x"], {}, object(), "\ud800:x"])
def test_it_requires_nothing_and_is_counted_as_forged(value: Any):
    before = dict(tokens.rejected)
    with after(value):
        assert Item.objects.count() == 0
    assert tokens.rejected == {**before, "forged": before["forged"] + 1}
    assert tokens.decode(value) is None


@pytest.mark.parametrize("value", [None, ""])
def test_none_at_all_is_not_counted(value: Any):
    before = dict(tokens.rejected)
    with after(value):
        assert Item.objects.count() == 0
    assert tokens.rejected == before


async def _async(value: Any) -> None:
    async with after(value):
        pass


def test_also_in_async_code():
    import asyncio

    before = tokens.rejected["forged"]
    asyncio.run(_async(b"x"))
    assert tokens.rejected["forged"] == before + 1
