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
    """A field for a key of the settings: the key, its default, what finds a wrong value, what converts a right one."""
    key = Key(default, wrong, convert)
    return field(default_factory=lambda: key.converted(default), metadata={"name": name, "key": key})


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One entry of ``REPLICANT``, as the core takes it. Times are in seconds."""

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
    #: The interval of the probe; None for no probe.
    probe: float | None = _key("PROBE_SECONDS", 1.0, number(0, none=True, above=True), float)
    connect: float = _key("CONNECT_SECONDS", 1.0, number(0, above=True), float)
    budget: float = _key("BUDGET_SECONDS", 5.0, number(0, above=True), float)
    #: With all of its keys, see :mod:`replicant.conf.topology_settings`.
    topology: Mapping[str, Any] | None = _key("TOPOLOGY", None, topology_settings.wrong)
    guard: bool = _key("GUARD", True, boolean)
    #: The settings that sessions with replicas get from the primary's.
    session_state: frozenset[str] = _key("SESSION_STATE", [], setting_names, frozenset)

    # What follows from the settings, or from what was found since.

    #: ``CONSISTENCY`` is not "eventual".
    consistent: bool
    #: What was written is judged by position.
    has_positions: bool
    #: The members that may not be used: a test does not list them, or they are no part of the cluster at present.
    forbidden: list[str] = field(default_factory=list)
    #: The other replicas share the primary's connection: what is known of the servers is of no account.
    are_mirrors: bool = False
    #: Where the members are, the primary first: a number that says nothing else.
    addresses: list[int] = field(default_factory=list)
    #: Those of the replicas that the settings do not list.
    later: list[str] = field(default_factory=list)


#: The field of each key.
FIELDS: dict[str, str] = {each.metadata["name"]: each.name for each in fields(Cluster) if each.metadata}
KEYS: dict[str, Key] = {each.metadata["name"]: each.metadata["key"] for each in fields(Cluster) if each.metadata}


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
