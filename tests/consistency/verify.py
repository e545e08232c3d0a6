"""Judges a history. Pure functions: no server, no clock, no thread.

What is compared
    Every value of a register is the number of the write that put it there. Write *a* is **surely before** write *b* if
    *a* was known to be committed (it was acknowledged, or somebody had read it) before *b*'s COMMIT was sent. That is a
    fact about the primary's log, whatever the threads did; of two writes that overlapped nothing is said.
    A server's state is a beginning of the primary's log. So a read that finds in register *r* a write surely before
    another write *w* of *r* **lacks** *w*, and it lacks all that *w* is surely before.

Session
    What a token stands for: the request that took it, and the requests before whose tokens that one presented.

The four guarantees (Terry et al., "Session Guarantees for Weakly Consistent Replicated Data", 1994), each as a rule
about one read R of a session:

read your writes
    R lacks no write that its session had committed before. Inside a transaction R finds what that transaction wrote.
monotonic reads
    R lacks no write that an earlier read of its session had found.
monotonic writes
    Whoever has found a write finds the writes before it of the session that wrote it: if an earlier read of R's session
    found W2, and the session of W2 had written W1 before (or in the same transaction), R does not lack W1.
writes follow reads
    Whoever has found a write finds what its writer had seen: if an earlier read of R's session found W2, and the
    session of W2 had found W1 before (by itself or, in turn, by this rule), R does not lack W1.

Which reads bind later ones: those from a replica, and those that the product balanced or kept on the primary as one
of the pool (``PRIMARY_WEIGHT``). A read that went to the primary for another reason (a transaction, ``use_primary``, a
pin) sets no position: that is the product's contract. ``primary_binds=True`` judges as if it did.

A read on the primary lacks nothing whose commit was not yet acknowledged when it was sent: MySQL sends a transaction to
its replicas before it shows it itself, and a reader may come from there.

Beside them
    *one state*: the registers that one statement reads are of one state. *committed*: a read finds only what was
    committed, or what its own transaction wrote. *nothing lost*: once all is quiet, a read lacks no committed write.
    If one of these fails, a server or the recording is at fault rather than a router.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from tests.consistency.history import (
    PRIMARY,
    Committing,
    Ended,
    Event,
    Failed,
    Initial,
    Opened,
    Quiet,
    Read,
    Token,
    Wrote,
)

READ_YOUR_WRITES = "read your writes"
MONOTONIC_READS = "monotonic reads"
MONOTONIC_WRITES = "monotonic writes"
WRITES_FOLLOW_READS = "writes follow reads"
GUARANTEES = (READ_YOUR_WRITES, MONOTONIC_READS, MONOTONIC_WRITES, WRITES_FOLLOW_READS)
ONE_STATE = "one state"
COMMITTED = "committed"
NOTHING_LOST = "nothing lost"

NEVER = float("inf")
#: A register -> the write of it that must not be lacking.
Vector = dict[str, int]


@dataclass(frozen=True)
class Violation:
    """Event number ``event``, a read, found write ``found`` in ``register`` although ``missing`` was surely after it.

    ``because`` is the write that the session was owed; ``missing`` is that one, or one surely before it.
    """

    guarantee: str
    event: int
    read: Read
    register: str
    found: int
    missing: int
    because: int

    def __str__(self) -> str:
        owed = "" if self.because == self.missing else f", which is before write {self.because}"
        return (
            f"{self.guarantee}: event {self.event}, {self.read.client} read {self.register} on {self.read.alias} "
            f"({self.read.reason}) and found write {self.found}, not {self.missing}{owed}"
        )


class Log:
    """What is sure about the order in which the primary committed."""

    def __init__(self, events: Iterable[Event]) -> None:
        #: The number of the event before which a write cannot have been committed ...
        self.sent: dict[int, float] = {}
        #: ... and of the one after which it surely was.
        self.known: dict[int, float] = {}
        self.acknowledged: dict[int, float] = {}
        self.register: dict[int, str] = {}
        begun: Mapping[str, int] = {}
        for number, event in enumerate(events):
            match event:
                case Initial(values):
                    begun = values
                    for register, write in values.items():
                        self.register[write], self.sent[write], self.known[write] = register, -1, -1
                case Wrote(_, write, register):
                    self.register[write], self.sent[write], self.known[write] = register, NEVER, NEVER
                case Committing(_, writes):
                    self.sent.update(dict.fromkeys(writes, number))
                case Ended(_, writes, "committed"):
                    for write in writes:
                        self.acknowledged[write] = number
                        self.known[write] = min(self.known[write], number)
                case Read(_, values):
                    for register, write in values.items():
                        if write not in self.sent and write < begun.get(register, 0):
                            # A replica that was killed may come back older than where this history begins.
                            self.register[write], self.sent[write], self.known[write] = register, -2, -2
                        # Before its COMMIT it is shown to nobody but its own transaction.
                        if self.sent[write] < number:
                            self.known[write] = min(self.known[write], number)
        self._by_register: dict[str, tuple[list[float], list[int]]] = {}
        grouped = defaultdict(list)
        for write, register in self.register.items():
            if self.known[write] < NEVER:
                grouped[register].append(write)
        for register, writes in grouped.items():
            writes.sort(key=self.known.__getitem__)
            latest = writes[0]
            self._by_register[register] = (
                [self.known[write] for write in writes],
                [latest := max(latest, write, key=self.sent.__getitem__) for write in writes],
            )

    def before(self, one: int, other: int) -> bool:
        """Whether ``one`` was surely committed before ``other``."""
        return self.known[one] < self.sent[other]

    def latest(self, register: str, event: float) -> int | None:
        """Of the writes of ``register`` known to be committed before ``event``: the one sent last."""
        known, latest = self._by_register.get(register, ([], []))
        place = bisect_left(known, event)
        return latest[place - 1] if place else None

    def lacks(self, register: str, found: int, owed: Mapping[str, int]) -> tuple[int, int] | None:
        """If a server where ``register`` holds ``found`` lacks something owed: what is missing, and what was owed."""
        if register in owed and self.before(found, owed[register]):
            return owed[register], owed[register]
        if owed:
            # All that was known to be committed before the last of them was sent is before it in the log.
            last = max(owed.values(), key=self.sent.__getitem__)
            missing = self.latest(register, self.sent[last])
            if missing is not None and self.before(found, missing):
                return missing, last
        return None

    def demand(self, owed: Vector, more: Mapping[str, int]) -> None:
        """Add ``more`` to what is owed. Of two writes of a register the one sent later asks for more."""
        for register, write in more.items():
            if register not in owed or self.sent[owed[register]] < self.sent[write]:
                owed[register] = write


@dataclass
class _Session:
    """What a session has seen and made so far."""

    owed: dict[str, Vector] = field(default_factory=lambda: {guarantee: {} for guarantee in GUARANTEES})
    seen: Vector = field(default_factory=dict)
    """All it has found, on any server, and what the writers of that had seen."""
    open: Vector = field(default_factory=dict)
    """What its open transaction wrote."""

    def learn(self, log: Log, other: _Session) -> None:
        for guarantee, owed in self.owed.items():
            log.demand(owed, other.owed[guarantee])
        log.demand(self.seen, other.seen)


def binds(read: Read) -> bool:
    """Whether later reads of the session must not fall behind this one."""
    return read.alias != PRIMARY or read.reason in ("balanced", "sticky")


def violations(events: Iterable[Event], *, primary_binds: bool = False) -> list[Violation]:
    """Every read that broke a promise, once for each guarantee and register. The module says what is promised.

    Raises ``KeyError`` if a read found a number that no write of this history has.
    """
    events = list(events)
    log = Log(events)
    sessions: defaultdict[str, _Session] = defaultdict(_Session)
    tokens: dict[int, _Session] = {}
    #: What the session of a write had written and seen before it.
    written_before: dict[int, Vector] = defaultdict(dict)
    seen_before: dict[int, Vector] = defaultdict(dict)
    quiet: float = -1
    #: The last event of each client before the present one.
    before: defaultdict[str, int] = defaultdict(int)
    found: list[Violation] = []

    def check(number: int, read: Read, guarantee: str, register: str, owed: Mapping[str, int]) -> None:
        lacking = log.lacks(register, read.values[register], owed)
        # The read was sent at some time after the last that is recorded of its client.
        if lacking and not (read.alias == PRIMARY and log.acknowledged.get(lacking[0], NEVER) > before[read.client]):
            found.append(Violation(guarantee, number, read, register, read.values[register], *lacking))

    def judge(number: int, read: Read, session: _Session) -> None:
        published = {name: write for name, write in read.values.items() if session.open.get(name) != write}
        for register, write in read.values.items():
            if register in session.open:
                if write != session.open[register]:
                    own = session.open[register]
                    found.append(Violation(READ_YOUR_WRITES, number, read, register, write, own, own))
                continue
            if log.sent[write] > number:
                found.append(Violation(COMMITTED, number, read, register, write, write, write))
                continue
            for guarantee, owed in session.owed.items():
                check(number, read, guarantee, register, owed)
            check(number, read, ONE_STATE, register, published)
            last = log.latest(register, quiet)
            if last is not None:
                check(number, read, NOTHING_LOST, register, {register: last})
        for register, write in published.items():
            for vector in ({register: write}, written_before[write], seen_before[write]):
                log.demand(session.seen, vector)
            if primary_binds or binds(read):
                log.demand(session.owed[MONOTONIC_READS], {register: write})
                log.demand(session.owed[MONOTONIC_WRITES], written_before[write])
                log.demand(session.owed[WRITES_FOLLOW_READS], seen_before[write])

    for number, event in enumerate(events):
        if number:
            before[getattr(events[number - 1], "client", "")] = number - 1
        match event:
            case Opened(client, after):
                sessions[client] = _Session()
                for token in after:
                    sessions[client].learn(log, tokens[token])
            case Wrote(client, write, register):
                session = sessions[client]
                written_before[write] = {**session.owed[READ_YOUR_WRITES], **session.open}
                seen_before[write] = dict(session.seen)
                session.open[register] = write
            case Ended(client, writes, outcome):
                session = sessions[client]
                ended = {log.register[write]: write for write in writes}
                session.open = {name: write for name, write in session.open.items() if ended.get(name) != write}
                if outcome == "committed":
                    log.demand(session.owed[READ_YOUR_WRITES], ended)
            case Read(client):
                judge(number, event, sessions[client])
            case Token(client, token):
                tokens[token] = _Session()
                tokens[token].learn(log, sessions[client])
            case Quiet():
                quiet = number
    return found


def stale_reads(found: Iterable[Violation]) -> int:
    """How many statements broke one of the four guarantees."""
    return len({violation.event for violation in found if violation.guarantee in GUARANTEES})


def never_returned(events: Iterable[Event]) -> list[str]:
    """The clients that read no more from replicas although all is quiet: they wait for what nobody will ever have.

    A driver goes on asking after ``Quiet`` until each client has read from a replica, or has had ample time.
    """
    events = list(events)
    quiet = next((number for number, event in enumerate(events) if isinstance(event, Quiet)), len(events))
    returned: dict[str, bool] = {}
    for event in events[quiet:]:
        if isinstance(event, (Opened, Read, Failed)):
            served = isinstance(event, Read) and event.alias != PRIMARY
            returned[event.client] = returned.get(event.client, False) or served
    return sorted(client for client, has_returned in returned.items() if not has_returned)


def needless_pins(events: Iterable[Event]) -> list[tuple[int, Read]]:
    """Reads that were ``pinned`` although their session had no cause: it had neither published a write nor read from a
    replica. A transaction that rolled back is no cause; one of unknown outcome is, and so is what failed: it may have
    been a read."""
    has_cause: defaultdict[str, bool] = defaultdict(bool)
    tokens: dict[int, bool] = {}
    found = []
    for number, event in enumerate(events):
        match event:
            case Opened(client, after):
                has_cause[client] = any(tokens[token] for token in after)
            case Token(client, token):
                tokens[token] = has_cause[client]
            case Committing(client) | Failed(client):
                has_cause[client] = True
            case Read(client):
                if event.reason == "pinned" and not has_cause[client]:
                    found.append((number, event))
                has_cause[client] |= binds(event)
    return found


def summary(events: Iterable[Event]) -> dict[str, Any]:
    """How much happened: reads by alias and by reason, writes by outcome, requests that failed, faults."""
    events = list(events)
    reads = [event for event in events if isinstance(event, Read)]
    ended: Counter[str] = Counter()
    for event in events:
        if isinstance(event, Ended):
            ended[event.outcome] += len(event.writes)
    kinds = Counter(type(event).__name__ for event in events)
    return {
        "requests": kinds["Opened"],
        "reads": dict(sorted(Counter(read.alias for read in reads).items())),
        "reasons": dict(sorted(Counter(str(read.reason) for read in reads).items())),
        "writes": dict(sorted(ended.items())),
        "failed": kinds["Failed"],
        "faults": kinds["Fault"],
    }
