"""``settings.REPLICANT``: the one place that reads it.

Settings are read late and checked once: :func:`read` turns them into clusters and problems, which
:mod:`replicant.checks` reports and :func:`load` raises. Whatever they were built into is dropped when a setting
changes, so that ``override_settings`` takes effect at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed
from django.db import connections
from django.db.utils import load_backend

from replicant import _core
from replicant.conf import topology_settings
from replicant.conf.validators import Key, Problem, boolean, choice, meant, name_list, number, setting_names
from replicant.engines import is_ours, tenants
from replicant.under_test import stand_ins

#: Django's names of the engines whose servers count what they write.
VENDORS_WITH_POSITIONS = frozenset({"mysql", "postgresql"})

#: App labels that no app need have: Django's database cache asks for a stand-in of a model, and the default of
#: PRIMARY_ONLY names the sessions whether or not they are installed.
ALWAYS_KNOWN = frozenset({"sessions", "django_cache"})


@dataclass(frozen=True)
class Cluster:
    """One entry of ``REPLICANT``, as the core takes it. Times are in seconds."""

    primary: str
    replicas: list[tuple[str, float]]
    reads: str
    primary_weight: float
    balance: str
    primary_only: list[str]
    outside_requests: str
    models: list[str]
    sticky: bool
    consistent: bool
    has_positions: bool
    pin: float
    wait: float
    on_unavailable: str
    primary_spill: float
    guard: bool = field(default=True)
    max_lag: float | None = field(default=10.0)
    consistency: str = field(default="session")
    #: The interval of the probe; None for no probe.
    probe: float | None = field(default=None)
    connect: float = field(default=1.0)
    budget: float = field(default=5.0)
    #: The members that may not be used: a test does not list them, or they are no part of the cluster at present.
    forbidden: list[str] = field(default_factory=list)
    #: The other replicas share the primary's connection: what is known of the servers is of no account.
    are_mirrors: bool = field(default=False)
    #: Where the members are, the primary first: a number that says nothing else.
    addresses: list[int] = field(default_factory=list)
    #: ``TOPOLOGY``, with all of its keys.
    topology: Mapping[str, Any] | None = field(default=None)
    #: Those of the replicas that the settings do not list.
    later: list[str] = field(default_factory=list)
    #: The settings that sessions with replicas get from the primary's, of those that ``SESSION_STATE`` names.
    session_state: frozenset[str] = field(default=frozenset())


KEYS: dict[str, Key] = {
    "READS": Key("replica", choice("replica", "primary")),
    "PRIMARY_WEIGHT": Key(0, number(0)),
    "BALANCE": Key("random", choice("random", "round_robin", "least_latency")),
    "PRIMARY_ONLY": Key(["sessions", "django_cache"], name_list),
    "OUTSIDE_REQUESTS": Key("replica", choice("replica", "primary")),
    "MODELS": Key([], name_list),
    "STICKY": Key(True, boolean),
    "CONSISTENCY": Key("session", choice("session", "time", "eventual")),
    "PIN_SECONDS": Key(5.0, number(0)),
    "WAIT_SECONDS": Key(0.05, number(0)),
    "MAX_LAG": Key(10.0, number(0, none=True, above=True)),
    "ON_UNAVAILABLE": Key("primary", choice("primary", "replica", "error")),
    "PRIMARY_SPILL": Key(1.0, number(0, 1)),
    "PROBE_SECONDS": Key(1.0, number(0, none=True, above=True)),
    "CONNECT_SECONDS": Key(1.0, number(0, above=True)),
    "BUDGET_SECONDS": Key(5.0, number(0, above=True)),
    "TOPOLOGY": Key(None, topology_settings.wrong),
    "GUARD": Key(True, boolean),
    "SESSION_STATE": Key([], setting_names),
}


#: What of a member's settings the monitor may be given for itself, as ``DATABASES[alias]["PROBE"]``.
PROBE_KEYS = ("HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")


def address_of(settings: Mapping[str, Any]) -> int:
    """Tells servers apart within this process: what was found of one says nothing of another behind the same alias."""
    where = [str(settings.get(key)) for key in ("ENGINE", "HOST", "PORT", "NAME")]
    return hash(tuple(where)) & 0xFFFF_FFFF_FFFF_FFFF


def vendor_of(settings: Mapping[str, Any]) -> str:
    """Django's name of the engine; empty if there is no such engine, which Django says to whoever connects."""
    try:
        vendor: str = load_backend(settings["ENGINE"]).DatabaseWrapper.vendor
    except (KeyError, ImproperlyConfigured):
        return ""
    return vendor


def engine_class(settings: Mapping[str, Any]) -> Any:
    """The class of an alias's connections; None if there is no such engine."""
    try:
        return load_backend(settings["ENGINE"]).DatabaseWrapper
    except (KeyError, ImproperlyConfigured):
        return None


def _carries(settings: Mapping[str, Any]) -> bool:
    """Whether the sessions of an alias take the settings of the primary's: the engine is ours and sends none."""
    engine = engine_class(settings)
    return engine is not None and is_ours(engine) and not tenants.chooses_schema(engine)


class _Reader:
    """Reads ``REPLICANT`` once, collecting problems instead of stopping at the first."""

    def __init__(self, value: Any, aliases: Mapping[str, Any]) -> None:
        self.value = value
        self.aliases = aliases
        self.problems: list[Problem] = []
        self.clusters: list[Cluster] = []
        #: alias -> what it already is.
        self.taken: dict[str, str] = {}
        #: model or app -> the cluster that claims it.
        self.claimed: dict[str, str] = {}

    def problem(self, id: str, message: str, hint: str | None = None) -> None:
        self.problems.append(Problem(id, message, hint))

    def read(self) -> None:
        if not isinstance(self.value, Mapping):
            self.problem(
                "E001",
                f"REPLICANT must be a dictionary of clusters, not {self.value!r}.",
                "Write REPLICANT = {'default': {'REPLICAS': ['replica1']}}.",
            )
            return
        for primary in self.value:
            self.take(primary, f"the primary of REPLICANT[{primary!r}]")
        for primary, cluster in self.value.items():
            self.read_cluster(primary, cluster)

    def take(self, alias: Any, role: str) -> bool:
        """Note that ``alias`` has a role; it must exist and may have only one."""
        if not self.is_known(alias, role):
            return False
        if alias in self.taken:
            self.problem(
                "E008",
                f"{alias!r} cannot be {role}: it already is {self.taken[alias]}.",
                "Give each database alias one role in one cluster.",
            )
            return False
        self.taken[alias] = role
        self.check_probe(alias)
        return True

    def is_known(self, alias: Any, role: str) -> bool:
        if isinstance(alias, str) and alias in self.aliases:
            return True
        known = ", ".join(repr(name) for name in self.aliases)
        self.problem(
            "E003",
            f"{role[0].upper()}{role[1:]} is not in DATABASES: {alias!r}.",
            f"DATABASES has {known}{meant(alias, self.aliases)}.",
        )
        return False

    def check_probe(self, alias: str) -> None:
        """What a member's settings say about how the monitor is to reach it."""
        probe = self.aliases[alias].get("PROBE")
        if probe is None:
            return
        where = f"DATABASES[{alias!r}]['PROBE']"
        takes = ", ".join(PROBE_KEYS)
        if not isinstance(probe, Mapping) or not isinstance(probe.get("OPTIONS", {}), Mapping):
            # Not the value: it may hold a password.
            self.problem("E013", f"{where}, or its OPTIONS, is no dictionary.", f"It takes the keys {takes}.")
            return
        for key in probe:
            if key not in PROBE_KEYS:
                hint = f"It takes {takes}{meant(key, PROBE_KEYS)}."
                self.problem("E013", f"{where} has an unknown key: {key!r}.", hint)

    def read_cluster(self, primary: str, cluster: Any) -> None:
        where = f"REPLICANT[{primary!r}]"
        if not isinstance(cluster, Mapping):
            self.problem(
                "E001", f"{where} must be a dictionary, not {cluster!r}.", "Give it at least a list of REPLICAS."
            )
            return
        for key in cluster:
            if key != "REPLICAS" and key not in KEYS:
                likely = meant(key, ["REPLICAS", *KEYS])
                known = ", ".join(["REPLICAS", *KEYS])
                hint = f"Remove it{likely}." if likely else f"Known keys are {known}."
                self.problem("E002", f"{where} has an unknown key: {key!r}.", hint)
        values = {name: self.read_key(where, name, key, cluster) for name, key in KEYS.items()}
        replicas = self.read_replicas(where, primary, cluster)
        for key in ("PRIMARY_ONLY", "MODELS"):
            if cluster.get(key):
                self.check_models(f"{where}[{key!r}]", values[key])
        self.claim_models(where, primary, values["MODELS"])
        consistency = values["CONSISTENCY"]
        self.clusters.append(
            Cluster(
                primary=primary,
                replicas=replicas,
                reads=values["READS"],
                primary_weight=float(values["PRIMARY_WEIGHT"]),
                balance=values["BALANCE"],
                primary_only=list(values["PRIMARY_ONLY"]),
                outside_requests=values["OUTSIDE_REQUESTS"],
                models=list(values["MODELS"]),
                sticky=values["STICKY"],
                consistent=consistency != "eventual",
                has_positions=consistency == "session" and self.has_positions(primary),
                pin=float(values["PIN_SECONDS"]),
                wait=float(values["WAIT_SECONDS"]),
                on_unavailable=values["ON_UNAVAILABLE"],
                primary_spill=float(values["PRIMARY_SPILL"]),
                guard=values["GUARD"],
                max_lag=values["MAX_LAG"] and float(values["MAX_LAG"]),
                consistency=consistency,
                probe=values["PROBE_SECONDS"] and float(values["PROBE_SECONDS"]),
                connect=float(values["CONNECT_SECONDS"]),
                budget=float(values["BUDGET_SECONDS"]),
                addresses=[address_of(self.aliases.get(alias, {})) for alias in (primary, *dict(replicas))],
                topology=self.read_topology(where, primary, replicas, values),
                session_state=self.read_session_state(where, primary, replicas, values["SESSION_STATE"]),
            )
        )

    def has_positions(self, primary: str) -> bool:
        """Whether servers of its engine say how far they are."""
        return primary in stand_ins or vendor_of(self.aliases.get(primary, {})) in VENDORS_WITH_POSITIONS

    def read_topology(
        self, where: str, primary: str, replicas: list[tuple[str, float]], values: Mapping[str, Any]
    ) -> Mapping[str, Any] | None:
        if values["TOPOLOGY"] is None:
            return None
        where = f"{where}['TOPOLOGY']"
        template = values["TOPOLOGY"].get("TEMPLATE", replicas[0][0] if replicas else primary)
        if not self.is_known(template, f"the TEMPLATE of {where}"):
            return None
        vendors = {alias: vendor_of(self.aliases.get(alias, {})) for alias in (primary, template)}
        self.problems += topology_settings.problems(where, values, vendors)
        return topology_settings.complete(values["TOPOLOGY"], template)

    def read_session_state(
        self, where: str, primary: str, replicas: list[tuple[str, float]], names: Iterable[str]
    ) -> frozenset[str]:
        """The settings that can be copied to the sessions with all of the replicas."""
        wanted = frozenset(name.lower() for name in names)
        if not wanted or not replicas:
            return wanted
        vendor = vendor_of(self.aliases.get(primary, {}))
        reasons = []
        if vendor not in VENDORS_WITH_POSITIONS:
            reasons.append("this engine has no settings that can be copied")
        elif vendor == "mysql" and "role" in wanted:
            reasons.append("MySQL and MariaDB do not tell a session's role in a form that sets it again")
        others = [alias for alias, _ in replicas if not _carries(self.aliases.get(alias, {}))]
        if others:
            reasons.append(f"the engine of {', '.join(map(repr, others))} is none of replicant.backends")
        if reasons:
            self.problem(
                "W020",
                f"{where}['SESSION_STATE'] has no effect: {'; '.join(reasons)}.",
                "Reads stay on the primary after such a setting was changed. Let the ENGINE of each replica be "
                "one of replicant.backends, without a tenant's engine around it.",
            )
            return frozenset()
        return wanted

    def read_key(self, where: str, name: str, key: Key, cluster: Mapping[str, Any]) -> Any:
        if name not in cluster:
            return key.default
        value = cluster[name]
        if wanted := key.wrong(value):
            self.problem("E005", f"{where}[{name!r}] cannot be {value!r}.", f"It takes {wanted}.")
            return key.default
        return value

    def read_replicas(self, where: str, primary: str, cluster: Mapping[str, Any]) -> list[tuple[str, float]]:
        if "REPLICAS" not in cluster:
            self.problem("E004", f"{where} has no REPLICAS.", "List the aliases of its replicas, or [] for none.")
            return []
        replicas = cluster["REPLICAS"]
        if isinstance(replicas, (list, tuple)):
            weighted = [(alias, 1.0) for alias in replicas]
        elif isinstance(replicas, Mapping):
            weighted = list(replicas.items())
        else:
            self.problem(
                "E004",
                f"{where}['REPLICAS'] cannot be {replicas!r}.",
                "It takes a list of aliases, or a dictionary of alias to weight.",
            )
            return []
        found = []
        for alias, weight in weighted:
            if wanted := number(0)(weight):
                self.problem("E004", f"{where}: the weight of {alias!r} cannot be {weight!r}.", f"It takes {wanted}.")
                weight = 1.0
            if alias == primary:
                self.problem(
                    "E007",
                    f"{where} lists its own primary {primary!r} among its REPLICAS.",
                    "To let the primary serve reads too, set PRIMARY_WEIGHT.",
                )
            elif self.take(alias, f"a replica of {where}"):
                found.append((alias, float(weight)))
        if found and not any(weight for _, weight in found):
            self.problem(
                "W009", f"{where}: every replica has weight 0.", "No read will reach one; give one a weight above 0."
            )
        return found

    def check_models(self, where: str, names: Iterable[str]) -> None:
        if not apps.models_ready:
            return
        for name in names:
            label, _, model = name.partition(".")
            if label in ALWAYS_KNOWN and not model:
                continue
            if label not in apps.app_configs:
                hint = f"There is no app with the label {label!r}{meant(label, apps.app_configs)}."
                self.problem("E006", f"{where} names an app that is not installed: {name!r}.", hint)
            elif model and model.lower() not in apps.all_models[label]:
                known = [known._meta.object_name or "" for known in apps.all_models[label].values()]
                hint = f"{label!r} has no such model{meant(model, known)}."
                self.problem("E006", f"{where} names a model that does not exist: {name!r}.", hint)

    def claim_models(self, where: str, primary: str, names: Iterable[str]) -> None:
        if primary == "default" and names:
            self.problem(
                "E009",
                f"{where} has MODELS, but 'default' takes every model that no other cluster names.",
                "Remove its MODELS and name the others' models there.",
            )
        for name in names:
            other = self.claimed.setdefault(name.lower(), primary)
            if other != primary:
                self.problem(
                    "E009",
                    f"{where}['MODELS'] names {name!r}, which REPLICANT[{other!r}] names too.",
                    "A model lives on one cluster.",
                )


def read() -> tuple[list[Cluster], list[Problem]]:
    """Read the settings: the clusters, as far as they can be understood, and everything wrong with them."""
    return check(merged(_reloaded), connections.settings)


def check(value: Any, aliases: Mapping[str, Any]) -> tuple[list[Cluster], list[Problem]]:
    """What :func:`read` says of these clusters, in the shape of ``REPLICANT``, and of these database aliases."""
    reader = _Reader(value, aliases)
    reader.read()
    return reader.clusters, reader.problems


#: What :func:`replicant.reload` was given last: it lies over the settings, key by key.
_reloaded: Mapping[str, Any] = {}


def merged(clusters: Mapping[str, Any]) -> Any:
    """The clusters of the settings, and over them the keys that ``clusters`` have."""
    value = getattr(settings, "REPLICANT", {})
    if not clusters or not isinstance(value, Mapping):
        return value
    result = dict(value)
    for primary, cluster in clusters.items():
        before = result.get(primary)
        if isinstance(before, Mapping) and isinstance(cluster, Mapping):
            cluster = {**before, **cluster}
        result[primary] = cluster
    return result


def lay_over(clusters: Mapping[str, Any]) -> None:
    """Have these clusters lie over those of the settings, until the next time or a change of settings."""
    global _reloaded
    _reloaded = clusters


#: The primary of each replica whose sessions are to be read-only.
_guarded: dict[str, str] = {}
_clusters: tuple[Cluster, ...] = ()
#: The cluster of each replica.
_cluster_of: dict[str, Cluster] = {}
#: By primary, those whose replicas serve late data where the primary is down.
_serving_late: dict[str, Cluster] = {}
#: The number of the configuration that they were read for.
_read_under = -1


@dataclass(frozen=True)
class Rooms:
    """What the rooms above this one do when settings are put in force. :mod:`replicant.wiring` says it."""

    prepare: Callable[[], None] = lambda: None
    """Called before each time, once the settings are known to be right."""
    adapt: Callable[[list[Cluster]], list[Cluster]] = lambda clusters: clusters
    """The clusters that are put in force instead of those of the settings."""
    apply: Callable[[Sequence[Cluster]], None] = lambda clusters: None
    """Called with the clusters that are in force now."""
    forget: Callable[[], None] = lambda: None
    """Called when settings have changed: what was found, was found for other clusters."""


_rooms = Rooms()


def wire(rooms: Rooms) -> None:
    """Have these functions called when settings are put in force. Called once, when the package is imported."""
    global _rooms
    _rooms = rooms


def in_force() -> tuple[Cluster, ...]:
    """The clusters, as they were read last."""
    return _clusters


def load() -> None:
    """Put the settings in force. Raises ``ImproperlyConfigured`` with the text of ``manage.py check``."""
    # Two threads may do so at once. What Python has and what the core has must be the same.
    while not _load():
        pass


def _load() -> bool:
    """Returns False if something else was put in force meanwhile."""
    global _guarded, _clusters, _cluster_of, _serving_late, _read_under
    generation = _core.generation()
    clusters, problems = read()
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        raise ImproperlyConfigured("\n".join(str(problem) for problem in errors))
    _rooms.prepare()
    if generation < _read_under:
        # Another thread has read them since, after a change: what is in force is newer than this.
        return True
    _read_under = generation
    clusters = _rooms.adapt(clusters)
    _guarded = {alias: cluster.primary for cluster in clusters if cluster.guard for alias, _ in cluster.replicas}
    _clusters = tuple(clusters)
    _cluster_of = {alias: cluster for cluster in clusters for alias, _ in cluster.replicas}
    _serving_late = {cluster.primary: cluster for cluster in clusters if cluster.on_unavailable == "replica"}
    _rooms.apply(clusters)
    # If settings have changed meanwhile, the next decision reads them again.
    return _core.configure(clusters, generation)


def cluster_of(replica: str) -> Cluster | None:
    """The cluster that ``replica`` is a replica of, as it was read last."""
    return _cluster_of.get(replica)


def serving_late(primary: str) -> Cluster | None:
    """The cluster of ``primary``, as it was read last, if replicas serve late data where the primary is down."""
    return _serving_late.get(primary)


def carried_from(primary: str) -> frozenset[str]:
    """The settings that replicas' sessions get from those with ``primary``, as it was read last."""
    return next((cluster.session_state for cluster in _clusters if cluster.primary == primary), frozenset())


def carried_to(replica: str) -> tuple[str, frozenset[str]]:
    """The primary of ``replica``, and the settings that its sessions get from those with that."""
    cluster = _cluster_of.get(replica)
    return ("", frozenset()) if cluster is None else (cluster.primary, cluster.session_state)


def has_positions(primary: str) -> bool:
    """Whether what is written on ``primary`` is to be judged by position."""
    return any(cluster.primary == primary and cluster.has_positions for cluster in _clusters)


def pin_seconds(primary: str) -> float:
    """``PIN_SECONDS`` of the cluster of ``primary``."""
    return next((cluster.pin for cluster in _clusters if cluster.primary == primary), 0.0)


def is_consistent(primary: str) -> bool:
    """Whether it matters to anybody what was written on ``primary``."""
    return any(cluster.primary == primary and cluster.consistent for cluster in _clusters)


def remembers_reads(alias: str) -> bool:
    """Whether a thread or task with no scope open is to remember that ``alias`` answered it."""
    return any(
        cluster.consistent
        and cluster.sticky
        and (alias in dict(cluster.replicas) or (cluster.primary == alias and cluster.primary_weight > 0))
        for cluster in _clusters
    )


def is_judged_by_position(replica: str) -> bool:
    """Whether ``replica`` serves a scope when it is known to have what the scope must see."""
    return any(cluster.has_positions and replica in dict(cluster.replicas) for cluster in _clusters)


def is_replica_of(alias: str, primary: str) -> bool:
    """Whether the two are members of one cluster, in these roles."""
    # Which has the settings in force read, if nobody has asked before.
    return _core.role(alias) == "replica" and any(
        cluster.primary == primary and alias in dict(cluster.replicas) for cluster in _clusters
    )


def is_guarded(alias: str) -> bool:
    """Whether ``alias`` is a replica whose sessions are to be read-only."""
    return _core.role(alias) == "replica" and alias in _guarded


def primary_of(guarded: str) -> str | None:
    """The alias of the primary of a replica whose sessions are read-only; None if it no longer is one."""
    return _guarded.get(guarded)


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting in {"REPLICANT", "DATABASES"}:
        lay_over({})
        _rooms.forget()
    # The tables of the database cache are exempt.
    if setting in {"REPLICANT", "DATABASES", "INSTALLED_APPS", "CACHES"}:
        _core.invalidate()


setting_changed.connect(_changed, dispatch_uid="replicant.conf")
