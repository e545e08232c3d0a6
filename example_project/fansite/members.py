"""What the bar says of the databases and of this visitor: how far each is, and which of them may serve whom."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.http import HttpRequest

import replicant
from fansite import delays
from fansite.delays import in_words
from replicant import use_replica
from replicant.connections import causality

#: How the cookies' names begin, unless ``settings.REPLICANT_TOKEN`` says otherwise.
TOKEN = "replicant_token"


@dataclass(frozen=True)
class Slider:
    """Sets how far behind a replica is: a place among ``stops``."""

    at: int
    stops: list[str]

    @property
    def last(self) -> int:
        return len(self.stops) - 1


@dataclass(frozen=True)
class Member:
    """A database as the bar shows it."""

    alias: str
    colour: int
    role: str
    state: str
    position: str
    lag: str
    latency: str
    serves: bool
    """Whether this visitor's next read may go there."""
    slider: Slider | None

    @property
    def is_replica(self) -> bool:
        return self.role == "replica"

    @property
    def short_position(self) -> str:
        return shortened(self.position)


def colour(alias: str) -> int:
    return list(settings.DATABASES).index(alias)


def members() -> list[Member]:
    """The primary and its replicas."""
    known = replicant.status()["clusters"]["default"]["members"]
    return [_member(one) for one in known]


def _member(known: dict[str, Any]) -> Member:
    alias, told = known["alias"], delays.of_the_demo
    lag, slider = known.get("lag"), None
    if told is not None and alias in told.told:
        lag = told.age(alias) if lag is None else lag
        slider = Slider(told.stops.index(told.told[alias]), [in_words(stop) for stop in told.stops])
    is_replica = known["role"] == "replica"
    return Member(
        alias=alias,
        colour=colour(alias),
        role=known["role"],
        state=known["state"],
        position=str(known.get("position") or ""),
        lag=in_words(lag),
        latency=in_words(known.get("latency")),
        serves=not is_replica or _may_serve(alias),
        slider=slider,
    )


def _may_serve(replica: str) -> bool:
    with use_replica(replica):
        return replicant.explain(get_user_model()).alias == replica


def required(request: HttpRequest) -> list[str] | None:
    """What the token stands for that this request's visitor has; None if another router is in place, which asks nobody.

    Asks the primary for its position where that is still open, as the middleware is about to do for the token.
    """
    if settings.DATABASE_ROUTERS[0] != "replicant.ReplicaRouter":
        return None
    known = causality.current()
    has_token = any(name.startswith(TOKEN) for name in request.COOKIES)
    if not has_token and not causality.owes_token():
        # Merely read: no token is given for that.
        return []
    return [text for item in known for text in _in_words(item)]


def _in_words(item: causality.Causality) -> list[str]:
    said = []
    if item.position is not None:
        said.append(f"the position {shortened(str(item.position))}")
    if item.unpublished:
        said.append("a write that is not yet committed")
    elif item.written is not None:
        said.append(f"a write {_ago(item.written)}")
    if item.read is not None:
        said.append(f"what {item.member or 'another server'} showed {_ago(item.read)}")
    return said


def _ago(seconds: float) -> str:
    return "just now" if seconds < 0.1 else f"{in_words(seconds)} ago"


_SERVER = re.compile(r"([0-9a-f]{8})-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
#: What of a position there is room for, in characters.
_ROOM = 32


def shortened(position: str) -> str:
    """A position that fits into the bar: servers by the first part of their UUID, the rest from its end."""
    text = _SERVER.sub(r"\1", position).replace("\n", "")
    return text if len(text) <= _ROOM else "…" + text[1 - _ROOM :]
