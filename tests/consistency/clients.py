"""Clients: what one can do, and what links its requests.

What a client does is data, drawn from a seed or by hypothesis, and does not depend on what it found.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass
from typing import Any

from django.db import Error, close_old_connections, transaction

import replicant
from replicant import request_scope, use_primary, use_replica
from replicant.tokens.carried import Carried
from replicant.tracing import record_queries
from tests.consistency.history import Committing, Ended, Failed, History, Opened, Read, Token, Wrote
from tests.consistency.models import Register

REGISTERS = ("a", "b", "c", "d")
REPLICAS = ("replica1", "replica2")


# What a client can do


@dataclass(frozen=True)
class Look:
    """Read registers in one statement, in a scope of its own (``"use_replica"``, ``"use_primary"``) or in none."""

    registers: tuple[str, ...]
    scope: str = ""


@dataclass(frozen=True)
class Put:
    """Write a register; in no transaction, in autocommit. One that the open transaction wrote already is let be."""

    register: str


@dataclass(frozen=True)
class Transaction:
    """Some steps in ``atomic``; inside of another one, in a savepoint."""

    steps: tuple[Step, ...]
    rolls_back: bool = False


@dataclass(frozen=True)
class Snapshot:
    """Some steps in ``use_replica(alias)`` while a transaction is open there: what it has read once it reads again."""

    alias: str
    steps: tuple[Step, ...]


Step = Look | Put | Transaction | Snapshot

SCOPES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "": nullcontext,
    "use_replica": use_replica,
    "use_primary": use_primary,
}


# What links a client's requests


class Tokens:
    """The product's own tokens, as its middleware would carry them: several, separated by commas.


    A request that carried no token gets one here, too, also if it only read.
    """

    def __init__(self) -> None:
        self._here = threading.local()

    def open(self, texts: Sequence[str]) -> AbstractContextManager[Any]:
        stack = ExitStack()
        stack.enter_context(request_scope())
        self._here.texts = tuple(each for text in texts for each in text.split(","))
        self._here.carried = Carried(max_age=60.0)
        self._here.carried.take({text: text for text in self._here.texts})
        return stack

    def token(self) -> str:
        texts: tuple[str, ...] = self._here.texts
        if not texts:
            return replicant.token()
        carried: Carried = self._here.carried
        answer = carried.answer()
        # Where the middleware sends no token, the client keeps those it has, which must stand for this request as well.
        return ",".join(texts if answer is None else [answer.text, *answer.kept])


class Requests:
    """Nothing: each request is a stranger. ``remembered``: nothing, though its user remembers the last one."""

    def __init__(self, *, remembered: bool = False) -> None:
        self._remembered = remembered

    def open(self, texts: Sequence[str]) -> AbstractContextManager[Any]:
        return request_scope()

    def token(self) -> str | None:
        return "" if self._remembered else None


class Script:
    """No scope at all: what a thread wrote, the thread remembers."""

    def open(self, texts: Sequence[str]) -> AbstractContextManager[Any]:
        return nullcontext()

    def token(self) -> str:
        return ""


LINKS: dict[str, Callable[[], Any]] = {
    "tokens": Tokens,
    "requests": Requests,
    "forgotten": lambda: Requests(remembered=True),
    "script": Script,
}


def link_name(link: str | Callable[[], Any]) -> str:
    """How a history names what links the requests."""
    return link if isinstance(link, str) else type(link()).__name__


class _RolledBack(Exception):
    pass


class Client:
    """Does steps, and records what it did and found.

    ``last`` is its last token: its number in the history, and its text.
    """

    def __init__(self, name: str, history: History, link: Any) -> None:
        self.name = name
        self.last: tuple[int, str] | None = None
        self._history = history
        self._link = link
        self._scope: AbstractContextManager[Any] | None = None
        #: What the open transaction wrote: register -> write. None outside of transactions.
        self._written: dict[str, int] | None = None

    def request(self, steps: Iterable[Step], handed: tuple[int, str] | None = None) -> None:
        """A whole request. ``handed``: another client's token, which it presents beside its own."""
        self.open(handed)
        try:
            self.do(steps)
        finally:
            self.close()

    def open(self, handed: tuple[int, str] | None = None) -> None:
        # As Django does before and after each request: a connection that an error broke is made anew.
        close_old_connections()
        brought = [token for token in (self.last, handed) if token is not None]
        self._history.add(Opened(self.name, tuple(number for number, _ in brought)))
        self._scope = self._link.open([text for _, text in brought if text])
        self._scope.__enter__()

    def forget(self) -> None:
        """Lose the token: who comes next is somebody else."""
        self.last = None

    def do(self, steps: Iterable[Step]) -> bool:
        """Do the steps; whether all went well. An error of the database ends them and is recorded."""
        try:
            for step in steps:
                self._do(step)
        except Error as error:
            self._history.add(Failed(self.name, f"{type(error).__name__}: {error}".strip()))
            return False
        return True

    def close(self) -> None:
        """End the request, and keep its token."""
        assert self._scope is not None
        try:
            text = self._link.token()
            if text is not None:
                self.last = (self._history.new_token(), text)
                self._history.add(Token(self.name, self.last[0]))
        except Error as error:
            # The response goes out without a token: the client presents the one before, and is owed no more.
            self._history.add(Failed(self.name, f"token: {type(error).__name__}: {error}"))
        finally:
            self._scope.__exit__(None, None, None)
            self._scope = None
            close_old_connections()

    def _do(self, step: Step) -> None:
        match step:
            case Look():
                self._look(step)
            case Put():
                self._put(step)
            case Transaction():
                self._transaction(step)
            case Snapshot(alias, steps):
                with use_replica(alias), transaction.atomic(using=alias):
                    for inner in steps:
                        self._do(inner)

    def _look(self, step: Look) -> None:
        with SCOPES[step.scope](), record_queries() as queries:
            rows = list(Register.objects.filter(name__in=step.registers))
        reasons = [query.reason for query in queries if query.reason is not None]
        alias = queries[-1].alias if queries else rows[0]._state.db
        self._history.add(
            Read(self.name, {row.name: row.value for row in rows}, alias, reasons[-1] if reasons else None)
        )
        assert len(rows) == len(step.registers), f"{alias} has no register of {step.registers} but {rows}"

    def _put(self, step: Put) -> None:
        in_autocommit = self._written is None
        if self._written is not None and step.register in self._written:
            return
        write = self._history.new_write()
        self._history.add(Wrote(self.name, write, step.register))
        if self._written is not None:
            self._written[step.register] = write
        else:
            self._history.add(Committing(self.name, (write,)))
        outcome = "unknown"
        try:
            rows = Register.objects.filter(name=step.register).update(value=write)
            assert rows == 1, f"no register {step.register!r}"
            outcome = "committed"
        finally:
            if in_autocommit:
                self._history.add(Ended(self.name, (write,), outcome))

    def _transaction(self, step: Transaction) -> None:
        outer = self._written
        self._written = dict(outer or {})
        outcome = "rolled back"
        try:
            with transaction.atomic():
                for inner in step.steps:
                    self._do(inner)
                if step.rolls_back:
                    raise _RolledBack
                if outer is None:
                    self._history.add(Committing(self.name, tuple(self._written.values())))
                    outcome = "unknown"
            outcome = "committed"
        except _RolledBack:
            pass
        finally:
            mine = {name: write for name, write in self._written.items() if write not in (outer or {}).values()}
            if outer is not None and outcome == "committed":
                outer.update(mine)
            elif mine:
                self._history.add(Ended(self.name, tuple(mine.values()), outcome))
            self._written = outer


def draw(random: random.Random, *, writes: bool = True) -> list[Step]:
    """The steps of a request, of a client that ``writes`` or only reads."""
    return [_draw_step(random, writes) for _ in range(random.randint(1, 4))]


def _draw_step(random: random.Random, writes: bool) -> Step:
    kinds = ("look", "snapshot", "put", "transaction")
    kind = random.choices(kinds, (12, 1, 4 * writes, 3 * writes))[0]
    if kind == "look":
        scope = random.choices(tuple(SCOPES), (8, 1, 1))[0]
        return Look(tuple(random.sample(REGISTERS, random.choice((1, 1, 2, len(REGISTERS))))), scope)
    if kind == "put":
        return Put(random.choice(REGISTERS))
    if kind == "snapshot":
        register, alias = random.choice(REGISTERS), random.choice(REPLICAS)
        between = (Put(register),) if writes and random.random() < 0.5 else ()
        return Snapshot(alias, (Look(REGISTERS), *between, Look((register,))))
    steps: list[Step] = []
    for register in random.choices(REGISTERS, k=3):
        steps.append(random.choice((Look((register,)), Put(register))))
    if random.random() < 0.3:
        steps.insert(1, Transaction((Put(random.choice(REGISTERS)),), rolls_back=random.random() < 0.5))
    return Transaction(tuple(steps), rolls_back=random.random() < 0.25)
