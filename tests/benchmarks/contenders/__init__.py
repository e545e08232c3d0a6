"""Who is measured: each contender runs in a process of its own, so that no one's hooks or settings slow another."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any

#: Contenders whose ratios the criteria are about.
NO_ROUTER = "no router"
CONSTANT = 'Python: return "replica1"'
DOCS_RANDOM = "Django's documentation: random.choice"
PYTHON = "Python, full decision, well written"
FAST_PYTHON = "Python, full decision, micro-optimised"
EMPTY = "empty PyO3 method"
REPLICANT = "replicant, nothing set, 2 replicas"
ONE_REPLICA = "replicant, nothing set, 1 replica"
THOUSAND = "replicant, nothing set, 1000 replicas"
STICKY = "replicant, in a request, sticky"
IN_REQUEST = "replicant, in a request, STICKY off"
REQUIRED = "replicant, in a request, sticky, with a position"


@dataclass(frozen=True)
class Contender:
    """A router, its settings and the state it is measured in."""

    name: str
    router: str | None
    """Dotted path for ``DATABASE_ROUTERS``; None for no router."""
    group: str = "replicant"
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of its own."""
    module: str | None = None
    """What must be importable."""
    replicas: int = 2
    cluster: dict[str, Any] = field(default_factory=dict)
    """Keys of ``REPLICANT["default"]`` besides ``REPLICAS``."""
    state: str = "nothing"
    """A name in :mod:`tests.benchmarks.states`."""
    reason: str | None = None
    """The reason that ``explain`` must give in that state, or this is not what is measured."""
    model: str = "Item"
    checks: bool = True
    """For a peer: whether its answer depends on anything but chance or turn."""

    @property
    def missing(self) -> bool:
        return self.module is not None and importlib.util.find_spec(self.module) is None


def _replicant(name: str, state: str, reason: str, **more: Any) -> Contender:
    return Contender(f"replicant, {name}", "replicant.ReplicaRouter", state=state, reason=reason, **more)


_REPLICAS = ["replica1", "replica2"]
_BALANCER = {"DATABASE_POOL": {"replica1": 1, "replica2": 1}, "MASTER_DATABASE": "default"}
_REPLICATED = {
    "REPLICATED_DATABASE_SLAVES": _REPLICAS,
    "REPLICATED_DATABASE_DOWNTIME": 60,
    "REPLICATED_CHECK_STATE_ON_WRITE": True,
    "REPLICATED_CACHE_BACKEND": None,
}
_HERE = "tests.benchmarks.contenders"

PLAIN = [
    Contender(NO_ROUTER, None, "none"),
    Contender(CONSTANT, f"{_HERE}.simple.ConstantRouter", "plain", checks=False),
    Contender(DOCS_RANDOM, "tests.naive.NaiveRouter", "plain", checks=False),
    Contender(PYTHON, f"{_HERE}.python_router.PythonRouter", "python"),
    Contender(FAST_PYTHON, f"{_HERE}.fast_python_router.FastPythonRouter", "python"),
    Contender(EMPTY, "bench_empty.EmptyRouter", "plain", module="bench_empty", checks=False),
]
PEERS = [
    Contender(
        "django-multidb-router, round robin",
        "multidb.ReplicaRouter",
        "peer",
        {"REPLICA_DATABASES": _REPLICAS},
        "multidb",
        checks=False,
    ),
    Contender(
        "django-multidb-router, pinning",
        "multidb.PinningReplicaRouter",
        "peer",
        {"REPLICA_DATABASES": _REPLICAS},
        "multidb",
    ),
    Contender(
        "django_replicated, in a safe request",
        "django_replicated.router.ReplicationRouter",
        "peer",
        _REPLICATED,
        "django_replicated",
        state="replicated",
    ),
    Contender(
        "django-balancer, weighted",
        "balancer.routers.WeightedMasterSlaveRouter",
        "peer",
        _BALANCER,
        "balancer",
        checks=False,
    ),
    Contender("django-balancer, pinning", "balancer.routers.PinningWMSRouter", "peer", _BALANCER, "balancer"),
    Contender(
        "django-rw-router, random",
        "django_rw_router.routers.PrimaryReplicaRouter",
        "peer",
        {"DJANGO_RW_ROUTER_READ_DBS": _REPLICAS},
        "django_rw_router",
        checks=False,
    ),
    Contender(
        "django-rw-router, transaction-aware",
        "django_rw_router.routers.TransactionPrimaryReplicaRouter",
        "peer",
        {"DJANGO_RW_ROUTER_READ_DBS": _REPLICAS},
        "django_rw_router",
    ),
]
_ROUND_ROBIN = {"BALANCE": "round_robin"}
_NO_STICKY = {"STICKY": False}
OURS = [
    _replicant("nothing set, 1 replica", "nothing", "balanced", replicas=1),
    _replicant("nothing set, 2 replicas", "nothing", "balanced"),
    _replicant("nothing set, 15 replicas", "nothing", "balanced", replicas=15),
    _replicant("nothing set, 1000 replicas", "nothing", "balanced", replicas=1000),
    _replicant("round_robin, 2 replicas", "nothing", "balanced", cluster=_ROUND_ROBIN),
    _replicant("round_robin, 1000 replicas", "nothing", "balanced", cluster=_ROUND_ROBIN, replicas=1000),
    _replicant("in a request, sticky", "request", "sticky"),
    _replicant("in a request, sticky, with a position", "required", "sticky", cluster={"PROBE_SECONDS": None}),
    _replicant("in a request, STICKY off", "request", "balanced", cluster=_NO_STICKY),
    _replicant("in use_replica, sticky", "use_replica", "sticky"),
    _replicant('in use_replica("replica2")', "named", "use_replica"),
    _replicant("in use_primary", "use_primary", "use_primary"),
    _replicant("in a transaction", "transaction", "transaction"),
    _replicant("pinned, in a request", "pinned", "pinned"),
    _replicant("pinned by time", "pinned_by_time", "pinned", cluster={"PIN_SECONDS": 1e6}),
    _replicant("exempt", "nothing", "exempt", model="Account", cluster={"PRIMARY_ONLY": ["sessions", "app.Account"]}),
]
ALL = [*PLAIN, *PEERS, *OURS]
#: Shows whether a count is of the decisions alone; no benchmark.
BUSY = _replicant("nothing set, 2 replicas, beside a busy thread", "busy", "balanced")


def by_name(name: str) -> Contender:
    return next(contender for contender in [*ALL, BUSY] if contender.name == name)
