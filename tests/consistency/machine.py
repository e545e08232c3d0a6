"""One step at a time, in one thread: hypothesis chooses the steps of several clients and the faults between them, and
shrinks what it finds.

Requests of several clients are open at once, each in a context of its own, as tasks of one event loop would be; they
share the thread's connections, so a transaction is one step. An example is judged when it ends.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hypothesis
from django.conf import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test

from replicant import _core
from tests.consistency import clients, faults, site
from tests.consistency.clients import REGISTERS, REPLICAS, Client, Look, Put, Snapshot, Step, Transaction
from tests.consistency.history import Fault, History, Quiet
from tests.consistency.threads import RETURN_SECONDS, settle
from tests.consistency.verify import never_returned, violations
from tests.servers import Cluster

CLIENTS = 3

_registers = st.sampled_from(REGISTERS)
_looks = st.builds(
    Look,
    st.lists(_registers, min_size=1, max_size=2, unique=True).map(tuple),
    st.sampled_from(["", "", "", "use_replica", "use_primary"]),
)
_puts = st.builds(Put, _registers)
_inner = st.lists(_looks | _puts, min_size=1, max_size=3).map(tuple)
_steps = st.one_of(
    *[_looks] * 4,
    _puts,
    st.builds(Transaction, _inner, st.booleans()),
    st.builds(Snapshot, st.sampled_from(REPLICAS), _inner),
)
#: What strikes before a step: mostly nothing.
_NOTHING = 20
_STRIKES = [("pause", 0.0)] * 3 + [("resume", 0.0)] * 2 + [("delay", 1.0), ("delay", 0.0)]
_RESTARTS = [("restart", 0.0), ("crash", 0.0)]
_clients = st.integers(0, CLIENTS - 1)


class Broken(AssertionError):
    """An example broke a promise; the message says which, and where its history was kept."""


def run(
    cluster: Cluster,
    *,
    seed: int,
    examples: int,
    link: str | Callable[[], Any] = "tokens",
    guarantees: tuple[str, ...] = (),
    returns: float = RETURN_SECONDS,
    restarts: bool = True,
    keep: Path,
    shrinks: bool = True,
) -> list[History]:
    """Run ``examples`` examples and return their histories. Raises ``Broken`` at the first that does not hold, shrunk
    if ``shrinks``; its history is then in the file ``keep``.

    ``guarantees`` are those that count, all if there are none. In the end each client goes on reading for ``returns``
    seconds, until a replica serves it; with 0 that is not asked for. Without ``restarts`` no server ends, which takes
    some of them seconds.
    """
    kinds = _STRIKES + _RESTARTS * restarts
    strikes = [faults.Fault(kind, replica, seconds) for kind, seconds in kinds for replica in range(len(REPLICAS))]
    histories: list[History] = []

    class Machine(RuleBasedStateMachine):
        def __init__(self) -> None:
            super().__init__()
            # The replicas that the product draws are part of the example.
            _core.seed(seed)
            self.history = site.begin(
                cluster,
                driver="machine",
                seed=seed,
                link=clients.link_name(link),
                settings=settings.REPLICANT["default"],
            )
            make = clients.LINKS[link] if isinstance(link, str) else link
            self.clients = [Client(f"client{number + 1}", self.history, make()) for number in range(CLIENTS)]
            self.contexts = [contextvars.Context() for _ in self.clients]
            self.in_request = [False] * CLIENTS

        def call(self, who: int, name: str, *arguments: Any) -> None:
            self.contexts[who].run(getattr(self.clients[who], name), *arguments)

        # One rule: of several, hypothesis leaves some out of most examples.
        @rule(
            fault=st.sampled_from([None] * _NOTHING + strikes),
            who=_clients,
            handed_by=st.none() | _clients,
            steps=st.lists(_steps, min_size=1, max_size=3),
            then=st.sampled_from(["end", "go on", "end and forget", "end", "go on"]),
        )
        def turn(
            self, fault: faults.Fault | None, who: int, handed_by: int | None, steps: list[Step], then: str
        ) -> None:
            """A fault, perhaps; and some steps of a client, in a request it has open, or in a new one, which may come
            with another client's token, too."""
            if fault is not None:
                self.history.add(Fault(str(fault)))
                fault.strike(cluster)
            if not self.in_request[who]:
                handed = None if handed_by in (None, who) else self.clients[handed_by].last
                self.call(who, "open", handed)
                self.in_request[who] = True
            self.call(who, "do", steps)
            if then != "go on":
                self.call(who, "close")
                self.in_request[who] = False
            if then == "end and forget":
                self.clients[who].forget()

        def teardown(self) -> None:
            for who in range(CLIENTS):
                if self.in_request[who]:
                    self.call(who, "close")
            faults.end_all(cluster)
            self.history.add(Quiet())
            for client, context in zip(self.clients, self.contexts, strict=True):
                if returns:
                    context.run(settle, client, self.history, returns)
            histories.append(self.history)
            self.judge()

        def judge(self) -> None:
            found = [str(one) for one in violations(self.history) if one.guarantee in guarantees or not guarantees]
            if returns:
                found += [f"{client} never returned to replicas" for client in never_returned(self.history)]
            if found:
                self.history.save(keep)
                raise Broken("\n".join([*found[:5], f"{len(found)} in all, kept in {keep}"]))

    phases = {hypothesis.Phase.explicit, hypothesis.Phase.generate}
    run_state_machine_as_test(
        hypothesis.seed(seed)(Machine),
        settings=hypothesis.settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            database=None,
            report_multiple_bugs=False,
            phases=phases | {hypothesis.Phase.shrink} if shrinks else phases,
            suppress_health_check=list(hypothesis.HealthCheck),
        ),
    )
    return histories
