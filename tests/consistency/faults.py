"""What happens to the replicas. The primary is left alone."""

from __future__ import annotations

import random
import time
import weakref
from dataclasses import dataclass

from tests.servers import Cluster, Node

#: How often each is drawn.
WEIGHTS = {"pause": 5, "resume": 4, "delay": 3, "no delay": 3, "restart": 1, "crash": 1, "suspend": 1, "breathe": 4}
RESTARTS = ("restart", "crash")
#: The servers that may still have a delay: to take it away takes some of them a while.
_delayed: weakref.WeakSet[Node] = weakref.WeakSet()


@dataclass(frozen=True)
class Fault:
    """Something done to replica number ``replica``, from 0 on.

    pause, resume    its state stands still, while it goes on receiving; and moves again
    delay, no delay  it applies what is ``seconds`` old; what it has
    restart, crash   it is shut down in order, or killed, and comes back at once
    suspend          it accepts connections and answers nobody for ``seconds``
    breathe          nothing, for ``seconds``
    """

    kind: str
    replica: int
    seconds: float = 0.0

    def __str__(self) -> str:
        return f"{self.kind} replica{self.replica + 1}" + (f" {self.seconds:g} s" if self.seconds else "")

    def strike(self, cluster: Cluster) -> None:
        replica = cluster.replicas[self.replica]
        if self.kind == "delay":
            _delayed.add(replica)
        match self.kind:
            case "pause":
                replica.pause_replication()
            case "resume":
                replica.resume_replication()
            case "delay" | "no delay":
                replica.delay(self.seconds)
            case "restart":
                replica.restart()
            case "crash":
                replica.kill()
                replica.restart()
            case "suspend":
                replica.suspend()
                time.sleep(self.seconds)
                replica.resume()
            case "breathe":
                time.sleep(self.seconds)
            case _:
                raise ValueError(self.kind)


def draw(random: random.Random, *, restarts: bool = True) -> Fault:
    """A fault; without ``restarts`` one that ends no server, which takes some of them seconds."""
    kinds = [kind for kind in WEIGHTS if restarts or kind not in RESTARTS]
    kind = random.choices(kinds, [WEIGHTS[kind] for kind in kinds])[0]
    seconds = {"delay": random.choice((1.0, 2.0)), "suspend": 0.5, "breathe": random.choice((0.1, 0.3, 0.6))}
    return Fault(kind, random.randrange(2), seconds.get(kind, 0.0))


def end_all(cluster: Cluster, timeout: float = 30.0) -> None:
    """Let every replica run, without delay, until it has everything.

    Raises TimeoutError after ``timeout`` seconds.
    """
    for replica in cluster.replicas:
        replica.resume_replication()
        if replica in _delayed:
            replica.delay(0)
            _delayed.discard(replica)
    cluster.wait_until_caught_up(timeout)
