"""What a client's request carried, and what its response must carry.

Requests of one client run at the same time, and their responses arrive in any order. Therefore no token replaces
another one by its place: each has a name of its own, a request carries all that the client holds, and a response
takes away only tokens that its own request carried and that its token contains. What a client holds then always
contains everything that it was told, whatever the order.

A token contains the positions and the pins of others. What another token says of *reads* is harder to contain. A token
says "read from this member, on this server", and a response that changes nothing of that carries no token: requests
rely on the token for what they read there later. So

- a token that names the same member and server contains it,
- a response that had to move to another member says instead: what any member may have shown until :data:`OVERLAP` from
  now must be seen. Requests that were under way with the old token have ended by then.
- two tokens that name different members bind in the same way, until :data:`OVERLAP` after the later one was issued.

During that time reads go to the primary. To keep it rare, a token names a member from the beginning (the first to read
from, which binds nothing), so that requests that run at the same time choose the same replica.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from replicant import _core, tokens
from replicant.connections import causality
from replicant.connections.causality import Causality
from replicant.tokens import Opened

#: Seconds after which no request is under way that carries tokens from before: those that last longer than
#: :data:`QUICK` carry a token of their own, and the rest is for the way to the client and back.
OVERLAP = 3.0
#: Seconds within which a request ends that relies on the tokens it carried for what it read.
QUICK = 1.0
#: The most tokens of one request that are looked at. More than a browser sends: servers take 8 KiB of headers.
MOST = 64
#: Tokens are merged into one where a request carries so many of them, or so many bytes.
MANY, LARGE = 8, 2048
#: Seconds by which two statements of the same time may differ, since ages are whole milliseconds.
_TOLERANCE = 0.05


class Answer(NamedTuple):
    """What a response must carry."""

    text: str
    """The token."""
    contained: list[str]
    """The keys of the tokens that it contains, and that the client can drop."""
    kept: list[str]
    """The texts of those that it does not contain, since this process cannot compare them."""
    name: bytes | None
    """Equal for responses that say the same of the same tokens, so that one can take the place of the other; None if
    this one says more."""


#: What a client was shown: nothing that binds, what one member shows, or what any member may have shown until a time.
_Kind = Literal["", "here", "left"]


@dataclass
class _Before:
    """What the tokens of a request say of one cluster, together. Ages are in seconds."""

    positions: list[_core.Position] = field(default_factory=list)
    written: float | None = None
    unpublished: bool = False
    missed: bool = False
    kind: _Kind = ""
    member: str | None = None
    server: int | None = None
    #: As :attr:`Causality.doubt`.
    doubt: Literal["", "other", "unknown"] = ""
    since: float = 0.0
    """With ``here``: the age of the oldest read that a token says."""
    until: float = 0.0
    """With ``left``: the age of the end; negative while it is still to come."""

    def add_write(self, age: float) -> None:
        """A write that only time can judge."""
        self.written = age if self.written is None else min(age, self.written)

    def add_reads(self, reads: Sequence[_Read]) -> None:
        """What the tokens say of reads, see the module."""
        left = [read.age for read in reads if read.item.left or read.item.member is None]
        here = [read for read in reads if not read.item.left and read.item.member is not None]
        if not here:
            if left:
                self.kind, self.until = "left", min(left)
            return
        first = here[0].item
        self.member, self.server, self.doubt = first.member, first.server, first.doubt
        if not left and all((read.item.member, read.item.server) == (self.member, self.server) for read in here):
            self.kind, self.since = "here", max(read.age for read in here)
        else:
            self.kind, self.server, self.doubt = "left", None, ""
            self.until = min(*left, *(read.token_age - OVERLAP for read in reads))

    def covers(self, position: _core.Position) -> bool:
        """Whether the client's tokens already require ``position``."""
        united: _core.Position | None = None
        for each in self.positions:
            if each.contains(position):
                return True
            try:
                united = each if united is None else united.union(each)
            except ValueError:
                return False
        return united is not None and united.contains(position)


class Carried:
    """The tokens that a request carried, by what its client calls them."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._begun = time.monotonic()
        #: With the time at which each was opened.
        self._opened: dict[str, tuple[str, Opened, float]] = {}
        self._left_out: list[str] = []
        #: Pins that no token says, and that no token is to say, with the time at which each began.
        self._assumed: list[tuple[str, float]] = []

    def __bool__(self) -> bool:
        return bool(self._opened)

    def take(self, sent: Mapping[str, str]) -> None:
        """Open tokens, by what the client calls them, and require of the scope in force what they say."""
        for key, text in sent.items():
            if key in self._opened or not text:
                continue
            if len(self._opened) >= MOST:
                self._left_out.append(key)
            elif (opened := tokens.opened(text, self._max_age)) is not None:
                self._opened[key] = text, opened, time.monotonic()
        self._require()

    def assume(self) -> None:
        """Read from the primary from now on: it is not known what the client holds."""
        now = time.monotonic()
        for primary in _core.snapshot():
            self._assumed.append((primary, now))
            causality.require([Causality(primary, None, 0.0, False, None, None)])

    def _require(self) -> None:
        if not self._opened:
            return
        for _, opened, _ in self._opened.values():
            # The reads are required together, below.
            causality.require([item._replace(member=None, read=None, missed=False) for item in opened.items])
        for cluster, before in self._before().items():
            read = {"": None, "here": before.since, "left": before.until}[before.kind]
            causality.require(
                [
                    Causality(
                        cluster,
                        None,
                        None,
                        False,
                        before.member,
                        read,
                        server=before.server,
                        left=before.kind == "left",
                        doubt=before.doubt,
                        missed=before.missed,
                    )
                ]
            )
        if self._left_out:
            # A requirement may grow, and never shrink: what is not looked at counts as a write now.
            causality.require([Causality(primary, None, 0.0, False, None, None) for primary in _core.snapshot()])

    def _before(self) -> dict[str, _Before]:
        found: dict[str, _Before] = {}
        reads: dict[str, list[_Read]] = {}
        now, oldest = time.monotonic(), _core.oldest_age()
        # In an order that is the same for all requests that carry the same tokens.
        for _, opened, at in sorted(self._opened.values(), key=lambda each: each[0]):
            gone = now - at
            for item in opened.items:
                before = found.setdefault(item.cluster, _Before(missed=True))
                if item.position is not None:
                    before.positions.append(item.position)
                    before.missed &= item.missed
                if item.unpublished or item.written is not None:
                    age = gone + (0.0 if item.unpublished else item.written or 0.0)
                    before.add_write(min(age, oldest))
                    before.unpublished |= item.unpublished
                before.member = item.member or before.member
                if item.read is not None:
                    reads.setdefault(item.cluster, []).append(
                        _Read(item, min(item.read + gone, oldest), opened.age + gone)
                    )
        for primary, begun in self._assumed:
            found.setdefault(primary, _Before()).add_write(now - begun)
        for cluster, before in found.items():
            before.missed &= bool(before.positions)
            before.add_reads(reads.get(cluster, []))
        return found

    def answer(self, *, forced: bool = False) -> Answer | None:
        """What the response must carry for what the scope in force must see; None if what the client holds will do.

        ``forced``: the client will not find again what this request carried.
        """
        owes = forced or causality.owes_token()
        if not owes and not self._opened:
            return None
        before, age = self._before(), time.monotonic() - self._begun
        items = [_Item(before.get(item.cluster, _Before()), item) for item in causality.current()]
        content = [item.content for item in items if not item.is_empty]
        if not content:
            return None
        says_more = any(item.says_more for item in items)
        # A request that lasts may have read after OVERLAP is over: no other response can know of that.
        is_late = age >= QUICK and any(item.kind == "here" for item in items)
        moves = is_late or self._is_to_be_merged() or any(item.moves for item in items)
        if not (owes or says_more or moves):
            oldest = max(opened.age + time.monotonic() - at for _, opened, at in self._opened.values())
            if oldest < self._max_age / 2 or not any(item.is_pending for item in items):
                return None
        is_plain = not (owes or says_more or self._left_out) and age < QUICK
        contained = [key for key, (_, opened, _) in self._opened.items() if opened.is_understood]
        return Answer(
            text=tokens.encode(content),
            contained=contained + self._left_out,
            kept=[text for text, opened, _ in self._opened.values() if not opened.is_understood],
            name=self._name(items) if is_plain else None,
        )

    def _is_to_be_merged(self) -> bool:
        texts = [text for text, opened, _ in self._opened.values() if opened.is_understood]
        return len(texts) >= MANY or (len(texts) > 1 and sum(map(len, texts)) > LARGE)

    def _name(self, items: Iterable[_Item]) -> bytes:
        # The positions and the pins are those of the tokens, as far as they still count.
        counts = [(item.content.position is None, item.content.written is None) for item in items]
        says = [each.content._replace(position=None, written=None, read=None, known=0.0) for each in items]
        return repr((sorted(self._opened), counts, says)).encode()


class _Read(NamedTuple):
    """What a token says of reads, and the age of the token."""

    item: Causality
    age: float
    token_age: float


class _Item:
    """What the scope must see of one cluster, beside what the client's tokens said ``before``."""

    def __init__(self, before: _Before, item: Causality) -> None:
        self.kind, until = _shown(before, item)
        member = item.member or before.member
        written, position = item.written, item.position
        if member is None and (written is not None or position is not None):
            member = _core.draw_member(item.cluster)
        server = item.server if self.kind == "here" and item.member else None
        read = {"": None, "here": item.read or 0.0, "left": until}[self.kind]
        self.content = item._replace(member=member, read=read, server=server, left=self.kind == "left")
        self.is_empty = written is None and position is None and read is None
        #: Whether it says more than the client's tokens, reads aside.
        self.says_more = (
            (position is not None and not before.covers(position))
            or (written is not None and (before.written is None or written < before.written - _TOLERANCE))
            or (item.unpublished and not before.unpublished)
            or (self.kind == "left" and before.kind == "")
        )
        #: Whether it says something else of reads, or of waiting.
        self.moves = (
            (self.kind == "here" and before.kind != "here")
            or (self.kind == "left" and before.kind == "here" and before.doubt != "unknown")
            or (self.kind == "left" and before.kind == "left" and until < before.until - _TOLERANCE)
            or (item.missed and position is not None and not before.missed)
        )
        #: Whether it must be seen for longer than the client's tokens may live.
        self.is_pending = position is not None or written is not None or (self.kind == "left" and until < 0)


def _shown(before: _Before, item: Causality) -> tuple[_Kind, float]:
    """How a token says what the client was shown, and with ``left`` the age of the end."""
    if item.read is None:
        return "", 0.0
    is_here = item.member is not None
    if before.kind == "here":
        # Where only time judges, the server need not be known.
        is_same = before.server is None or before.server == item.server
        stays = is_here and not before.doubt and item.member == before.member and is_same
        return ("here", 0.0) if stays else ("left", -OVERLAP)
    if before.kind == "left" and (before.until < 0 or not is_here):
        return "left", min(before.until, item.read)
    return ("here", 0.0) if is_here else ("left", item.read)
