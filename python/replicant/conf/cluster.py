"""One entry of ``REPLICANT``: each key is declared here, once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db.utils import load_backend

from replicant.conf import topology_settings
from replicant.conf.validators import Key, boolean, choice, name_list, number, setting_names


def _key(
    name: str, default: Any, wrong: Callable[[Any], str | None], convert: Callable[[Any], Any] | None = None
) -> Any:
    """A field for a key of the settings: its name, its default, and the functions that validate and convert a value."""
    key = Key(default, wrong, convert)
    return field(default_factory=lambda: key.converted(default), metadata={"name": name, "key": key})


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One entry of ``REPLICANT``, in the form that the core takes. Times are in seconds."""

    primary: str
    replicas: list[tuple[str, float]]
    reads: str = _key("READS", "replica", choice("replica", "primary"))
    primary_weight: float = _key("PRIMARY_WEIGHT", 0, number(0), float)
    balance: str = _key("BALANCE", "random", choice("random", "round_robin", "least_latency"))
    primary_only: list[str] = _key("PRIMARY_ONLY", ["sessions", "django_cache"], name_list, list)
    outside_requests: str = _key("OUTSIDE_REQUESTS", "replica", choice("replica", "primary"))
    models: list[str] = _key("MODELS", [], name_list, list)
    sticky: bool = _key("STICKY", True, boolean)
    consistency: str = _key("CONSISTENCY", "session", choice("session", "time", "eventual"))
    pin: float = _key("PIN_SECONDS", 5.0, number(0), float)
    wait: float = _key("WAIT_SECONDS", 0.05, number(0), float)
    max_lag: float | None = _key("MAX_LAG", 10.0, number(0, none=True, above=True), float)
    on_unavailable: str = _key("ON_UNAVAILABLE", "primary", choice("primary", "replica", "error"))
    primary_spill: float = _key("PRIMARY_SPILL", 1.0, number(0, 1), float)
    #: The interval of the probe; None for no probes.
    probe: float | None = _key("PROBE_SECONDS", 1.0, number(0, none=True, above=True), float)
    connect: float = _key("CONNECT_SECONDS", 1.0, number(0, above=True), float)
    budget: float = _key("BUDGET_SECONDS", 5.0, number(0, above=True), float)
    #: Completed with all of its keys, see :mod:`replicant.conf.topology_settings`.
    topology: Mapping[str, Any] | None = _key("TOPOLOGY", None, topology_settings.wrong)
    guard: bool = _key("GUARD", True, boolean)
    #: The session settings that are copied from the primary's sessions to the replicas' sessions.
    session_state: frozenset[str] = _key("SESSION_STATE", [], setting_names, frozenset)

    # The fields below follow from the settings, or from later findings.

    #: ``CONSISTENCY`` is not "eventual".
    consistent: bool
    #: Writes are judged by position.
    has_positions: bool
    #: The members that may not be used: a test does not list them, or they are no part of the cluster at present.
    forbidden: list[str] = field(default_factory=list)
    #: All replicas that are not forbidden share the primary's connection: the state of the servers does not matter.
    are_mirrors: bool = False
    #: A hash of each member's address, the primary's first.
    addresses: list[int] = field(default_factory=list)
    #: The replicas that the settings do not list.
    later: list[str] = field(default_factory=list)


#: The field of each key.
FIELDS: dict[str, str] = {each.metadata["name"]: each.name for each in fields(Cluster) if each.metadata}
KEYS: dict[str, Key] = {each.metadata["name"]: each.metadata["key"] for each in fields(Cluster) if each.metadata}


def address_of(settings: Mapping[str, Any]) -> int:
    """A hash of a server's address, to tell servers apart within this process: findings about one server must not be
    used for another server behind the same alias."""
    where = [str(settings.get(key)) for key in ("ENGINE", "HOST", "PORT", "NAME")]
    return hash(tuple(where)) & 0xFFFF_FFFF_FFFF_FFFF


def vendor_of(settings: Mapping[str, Any]) -> str:
    """Django's name of the engine; empty if there is no such engine, for which Django raises an error on connecting."""
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
