"""Reads ``settings.REPLICANT``: the clusters, and all problems with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from django.apps import apps

from replicant.conf import topology_settings
from replicant.conf.cluster import FIELDS, KEYS, Cluster, address_of, engine_class, vendor_of
from replicant.conf.validators import Key, Problem, meant, number
from replicant.engines import is_ours, tenants
from replicant.under_test import stand_ins

#: Django's names of the engines with positions (their servers count their writes).
VENDORS_WITH_POSITIONS = frozenset({"mysql", "postgresql"})

#: App labels that are allowed without an app: Django's database cache calls the router with a pseudo-model, and the
#: default of PRIMARY_ONLY names the sessions whether or not they are installed.
ALWAYS_KNOWN = frozenset({"sessions", "django_cache"})

#: The settings of a member that ``DATABASES[alias]["PROBE"]`` may replace for the monitor's connections.
PROBE_KEYS = ("HOST", "PORT", "USER", "PASSWORD", "NAME", "OPTIONS")


def _carries(settings: Mapping[str, Any]) -> bool:
    """Whether settings can be copied to the sessions of an alias: its engine is one of ``replicant.backends``, and does
    not set a tenant's schema itself."""
    engine = engine_class(settings)
    return engine is not None and is_ours(engine) and not tenants.chooses_schema(engine)


class Reader:
    """Reads ``REPLICANT`` once, collecting problems instead of stopping at the first."""

    def __init__(self, value: Any, aliases: Mapping[str, Any]) -> None:
        self.value = value
        self.aliases = aliases
        self.problems: list[Problem] = []
        self.clusters: list[Cluster] = []
        #: alias -> the role that it already has.
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
        """Record the role of ``alias``, which must exist and may have only one role."""
        if not self.is_known(alias, role):
            return False
        if alias in self.taken:
            self.problem(
                "E008",
                f"{alias!r} cannot be {role}: it is already {self.taken[alias]}.",
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
        """Check the setting ``PROBE`` of a member, by which the monitor reaches it."""
        probe = self.aliases[alias].get("PROBE")
        if probe is None:
            return
        where = f"DATABASES[{alias!r}]['PROBE']"
        takes = ", ".join(PROBE_KEYS)
        if not isinstance(probe, Mapping) or not isinstance(probe.get("OPTIONS", {}), Mapping):
            # The message does not show the value, which may hold a password.
            self.problem("E013", f"{where}, or its OPTIONS, is not a dictionary.", f"It takes the keys {takes}.")
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
        values["TOPOLOGY"] = self.read_topology(where, primary, replicas, values)
        values["SESSION_STATE"] = self.read_session_state(where, primary, replicas, values["SESSION_STATE"])
        self.clusters.append(
            Cluster(
                primary=primary,
                replicas=replicas,
                consistent=values["CONSISTENCY"] != "eventual",
                has_positions=values["CONSISTENCY"] == "session" and self.has_positions(primary),
                addresses=[address_of(self.aliases.get(alias, {})) for alias in (primary, *dict(replicas))],
                **{FIELDS[name]: value for name, value in values.items()},
            )
        )

    def has_positions(self, primary: str) -> bool:
        """Whether the servers of the engine report positions."""
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
        """The session settings that can be copied to the sessions of all replicas."""
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
            reasons.append(f"the engine of {', '.join(map(repr, others))} is not one of replicant.backends")
        if reasons:
            self.problem(
                "W020",
                f"{where}['SESSION_STATE'] has no effect: {'; '.join(reasons)}.",
                "Reads stay on the primary after such a setting was changed. Set the ENGINE of each replica to one of "
                "replicant.backends, without a tenant's engine around it.",
            )
            return frozenset()
        return wanted

    def read_key(self, where: str, name: str, key: Key, cluster: Mapping[str, Any]) -> Any:
        value = cluster.get(name, key.default)
        if wanted := key.wrong(value):
            self.problem("E005", f"{where}[{name!r}] cannot be {value!r}.", f"It takes {wanted}.")
            value = key.default
        return key.converted(value)

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
                "Remove its MODELS, and list the models of the other clusters in their own MODELS.",
            )
        for name in names:
            other = self.claimed.setdefault(name.lower(), primary)
            if other != primary:
                self.problem(
                    "E009",
                    f"{where}['MODELS'] names {name!r}, and REPLICANT[{other!r}] also names it.",
                    "A model lives on one cluster.",
                )


def check(value: Any, aliases: Mapping[str, Any]) -> tuple[list[Cluster], list[Problem]]:
    """The clusters of ``value`` (a mapping like ``REPLICANT``), as far as they are understandable, and all problems.

    ``aliases``: the settings of all database aliases.
    """
    reader = Reader(value, aliases)
    reader.read()
    return reader.clusters, reader.problems
