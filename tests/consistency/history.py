"""What happened, in order.

The order is that of the list: an event's number says when it was recorded. What is recorded *before* something is sent
and *after* it was answered encloses it, whatever the threads did meanwhile. No clock is read.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

PRIMARY = "default"


@dataclass(frozen=True)
class Initial:
    """What every server held when the history began: register -> write."""

    values: dict[str, int]


@dataclass(frozen=True)
class Opened:
    """A client begins a request that presents these tokens: its own last one, and perhaps one it was handed."""

    client: str
    after: tuple[int, ...] = ()


@dataclass(frozen=True)
class Wrote:
    """A client is about to put its write number ``write`` into a register; nobody else may see it yet."""

    client: str
    write: int
    register: str


@dataclass(frozen=True)
class Committing:
    """A client is about to publish writes, by a COMMIT or by a statement in autocommit."""

    client: str
    writes: tuple[int, ...]


@dataclass(frozen=True)
class Ended:
    """What became of writes: ``"committed"``, ``"rolled back"``, or ``"unknown"`` (an error instead of an answer)."""

    client: str
    writes: tuple[int, ...]
    outcome: str


@dataclass(frozen=True)
class Read:
    """One statement read some registers (register -> write found there) on the server behind ``alias``.

    ``reason`` is the product's, None where it gave none.
    """

    client: str
    values: dict[str, int]
    alias: str
    reason: str | None = None


@dataclass(frozen=True)
class Failed:
    """A request ended early, with this error of the database."""

    client: str
    error: str


@dataclass(frozen=True)
class Token:
    """A request took token number ``token``: it stands for all that the client wrote and read until now."""

    client: str
    token: int


@dataclass(frozen=True)
class Fault:
    """What was done to a replica."""

    what: str


@dataclass(frozen=True)
class Quiet:
    """Every replica runs and has everything; no write follows."""


Event = Initial | Opened | Wrote | Committing | Ended | Read | Failed | Token | Fault | Quiet


@dataclass
class History:
    """A run's events. Threads may add to it at once: appending to a list is one step."""

    events: list[Event] = field(default_factory=list)
    about: dict[str, Any] = field(default_factory=dict)
    """Seed, engine, settings: what it takes to run it again."""

    def __post_init__(self) -> None:
        values = [write for event in self.events if isinstance(event, Initial) for write in event.values.values()]
        self._writes = itertools.count(max(values, default=0) + 1)
        self._tokens = itertools.count(1)

    def __iter__(self) -> Iterator[Event]:
        # Of a copy: others may be adding.
        return iter(self.events[:])

    def add(self, event: Event) -> None:
        self.events.append(event)

    def new_write(self) -> int:
        return next(self._writes)

    def new_token(self) -> int:
        return next(self._tokens)

    def save(self, path: Path) -> None:
        """A line of JSON for each event, after one that says how the run was made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        lines: Iterable[Any] = ({type(event).__name__: dataclasses.asdict(event)} for event in self)
        path.write_text("".join(json.dumps(line) + "\n" for line in [self.about, *lines]), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> History:
        about, *lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        return cls([_event(*next(iter(line.items()))) for line in lines], about)


def _event(kind: str, fields: dict[str, Any]) -> Event:
    kinds = {kind.__name__: kind for kind in get_args(Event)}
    return kinds[kind](**{name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()})
