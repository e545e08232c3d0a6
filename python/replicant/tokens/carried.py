"""The tokens that a client's request carried, and the token that its response must carry.

Requests of one client run at the same time, and their responses arrive in any order. Therefore no token overwrites
another one: each token has its own name, a request carries all tokens that the client holds, and a response deletes
only tokens that its own request carried and that its token contains. The tokens of a client then always contain
everything that it was told, whatever the order.

A token can contain the positions and the pins of other tokens. The *reads* of another token are harder to contain. A
token states "read from this member, on this server", and a response that changes nothing about this carries no token:
later requests rely on the token for their reads on that member. Therefore

- a token that names the same member and server contains the other one,
- a response that had to move to another member states instead that the client must see everything that any member may
  have shown until :data:`OVERLAP` from now. Requests that were running with the old token have ended by then.
- two tokens that name different members have the same effect, until :data:`OVERLAP` after the later one was issued.

During that time reads go to the primary. To keep it rare, a token names a member from the beginning (the preferred
member for the first read, which requires nothing), so that requests that run at the same time choose the same replica.
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

#: The seconds after which no request with the earlier tokens is still running: the response of a request that lasts
#: longer than :data:`QUICK` carries its own token, and the rest is for the way to the client and back.
OVERLAP = 3.0
#: The longest request, in seconds, that may rely on the tokens that it carried for its reads.
QUICK = 1.0
#: The largest number of tokens of one request that are opened. A browser sends fewer: servers accept 8 KiB of headers.
MOST = 64
#: Tokens are merged into one if a request carries this many of them, or this many bytes.
MANY, LARGE = 8, 2048
#: The seconds by which two ages of the same event may differ, because tokens hold whole milliseconds.
_TOLERANCE = 0.05


class Answer(NamedTuple):
    """The token that a response must carry."""

    text: str
    """The token."""
    contained: list[str]
    """The keys of the tokens that it contains, and that the client can drop."""
    kept: list[str]
    """The texts of the tokens that it does not contain, because this process cannot compare them."""
    name: bytes | None
    """Equal for responses that state the same for the same request tokens, so that one token can replace the other;
    None if this response states more."""


#: The reads that bind a client: none, the reads of one member, or the reads of any member until a time.
_Kind = Literal["", "here", "left"]


@dataclass
class _Before:
    """The requirements of all tokens of a request for one cluster. Ages are in seconds."""

    positions: list[_core.Position] = field(default_factory=list)
    written: float | None = None
    unpublished: bool = False
    missed: bool = False
    kind: _Kind = ""
    member: str | None = None
    server: int | None = None
    #: The same as :attr:`Causality.doubt`.
    doubt: Literal["", "other", "unknown"] = ""
    since: float = 0.0
    """With ``here``: the age of the oldest read in a token."""
    until: float = 0.0
    """With ``left``: the age of the end; negative while the end is in the future."""

    def add_write(self, age: float) -> None:
        """Add a write that only time can judge."""
        self.written = age if self.written is None else min(age, self.written)

    def add_reads(self, reads: Sequence[_Read]) -> None:
        """Combine the reads of the tokens, as the module's docstring explains."""
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
    """The tokens that a request carried, by their names at the client."""

    def __init__(self, max_age: float) -> None:
        self._max_age = max_age
        self._begun = time.monotonic()
        #: The text of each token, its content, and the time at which it was opened.
        self._opened: dict[str, tuple[str, Opened, float]] = {}
        self._left_out: list[str] = []
        #: Pins that come from no token and go into no token, with the time at which each began.
        self._assumed: list[tuple[str, float]] = []

    def __bool__(self) -> bool:
        return bool(self._opened)

    def take(self, sent: Mapping[str, str]) -> None:
        """Open tokens, by their names at the client, and add their requirements to the current scope."""
        for key, text in sent.items():
            if key in self._opened or not text:
                continue
            if len(self._opened) >= MOST:
                self._left_out.append(key)
            elif (opened := tokens.opened(text, self._max_age)) is not None:
                self._opened[key] = text, opened, time.monotonic()
        self._require()

    def assume(self) -> None:
        """Read from the primary from now on, because the client's tokens are not known."""
        now = time.monotonic()
        for primary in _core.snapshot():
            self._assumed.append((primary, now))
            causality.require([Causality(primary, None, 0.0, False, None, None)])

    def _require(self) -> None:
        if not self._opened:
            return
        for _, opened, _ in self._opened.values():
            # The reads of all tokens are combined and required below.
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
            # A requirement may grow, but never shrink: a token that is not opened counts as a write now.
            causality.require([Causality(primary, None, 0.0, False, None, None) for primary in _core.snapshot()])

    def _before(self) -> dict[str, _Before]:
        found: dict[str, _Before] = {}
        reads: dict[str, list[_Read]] = {}
        now, oldest = time.monotonic(), _core.oldest_age()
        # Sorted, so that the order is the same for all requests that carry the same tokens.
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
        """The token for the requirements of the current scope; None if the client's own tokens suffice.

        ``forced``: the client's next request will not have the tokens that this request carried.
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
        # A long request may have read after the end of OVERLAP, and no other response can know that read.
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
        # The name contains the request's tokens, which determine the positions and the pins. Only whether these still
        # count must be added.
        counts = [(item.content.position is None, item.content.written is None) for item in items]
        says = [each.content._replace(position=None, written=None, read=None, known=0.0) for each in items]
        return repr((sorted(self._opened), counts, says)).encode()


class _Read(NamedTuple):
    """A token's statement about reads, and the age of the token."""

    item: Causality
    age: float
    token_age: float


class _Item:
    """The requirement of the scope for one cluster, compared with the requirements of the client's tokens
    (``before``)."""

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
        #: Whether it requires more than the client's tokens, apart from reads.
        self.says_more = (
            (position is not None and not before.covers(position))
            or (written is not None and (before.written is None or written < before.written - _TOLERANCE))
            or (item.unpublished and not before.unpublished)
            or (self.kind == "left" and before.kind == "")
        )
        #: Whether it differs from the client's tokens in its reads, or in a missed wait.
        self.moves = (
            (self.kind == "here" and before.kind != "here")
            or (self.kind == "left" and before.kind == "here" and before.doubt != "unknown")
            or (self.kind == "left" and before.kind == "left" and until < before.until - _TOLERANCE)
            or (item.missed and position is not None and not before.missed)
        )
        #: Whether it requires something that may outlive the client's tokens.
        self.is_pending = position is not None or written is not None or (self.kind == "left" and until < 0)


def _shown(before: _Before, item: Causality) -> tuple[_Kind, float]:
    """The kind of the reads that bind the client, and with ``left`` the age of the end."""
    if item.read is None:
        return "", 0.0
    is_here = item.member is not None
    if before.kind == "here":
        # If reads are judged only by time, the server need not be known.
        is_same = before.server is None or before.server == item.server
        stays = is_here and not before.doubt and item.member == before.member and is_same
        return ("here", 0.0) if stays else ("left", -OVERLAP)
    if before.kind == "left" and (before.until < 0 or not is_here):
        return "left", min(before.until, item.read)
    return ("here", 0.0) if is_here else ("left", item.read)
