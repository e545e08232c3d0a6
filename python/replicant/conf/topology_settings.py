"""``TOPOLOGY`` of a cluster: its valid values."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import Any

from replicant.conf.validators import Problem, choice, meant

#: The methods to discover replicas, and Django's names of the engines that support each; None: no server is queried.
METHODS = {
    "mysql": ("mysql",),
    "group_replication": ("mysql",),
    "postgresql": ("postgresql",),
    "aurora": ("mysql", "postgresql"),
    "dns": None,
}


def wrong(value: Any) -> str | None:
    """The valid values of the setting, as text, if ``value`` is wrong in itself."""
    keys = ("METHOD", "TEMPLATE", "HOSTS", "ALLOW")
    if value is None:
        return None
    if not isinstance(value, Mapping) or "METHOD" not in value:
        return "None or a dictionary with a METHOD"
    for key in value:
        if key not in keys:
            return f"a dictionary with the keys {', '.join(keys)}" + meant(key, keys)
    if wanted := choice(*METHODS)(value["METHOD"]):
        return f"a dictionary whose METHOD is {wanted}"
    hosts, allow = value.get("HOSTS", {}), value.get("ALLOW", [])
    if not isinstance(hosts, Mapping) or not all(isinstance(each, str) for pair in hosts.items() for each in pair):
        return "a dictionary whose HOSTS map the servers' names (strings) to the hosts to connect to (strings)"
    if not isinstance(allow, (list, tuple)) or not all(isinstance(each, str) for each in allow):
        return "a dictionary whose ALLOW is a list of patterns of hosts ('*.db.example.com') and networks"
    for each in allow:
        if "/" in each and not _is_network(each):
            return f"a dictionary whose ALLOW is a list of patterns and networks, and {each!r} is no network"
    return None


def _is_network(text: str) -> bool:
    try:
        ipaddress.ip_network(text, strict=False)
    except ValueError:
        return False
    return True


def problems(where: str, values: Mapping[str, Any], vendors: Mapping[str, str]) -> list[Problem]:
    """The problems of the setting in combination with the other ``values`` of its cluster.

    ``vendors``: Django's names of the engines of the primary and the template, by alias; empty if there is no such
    engine.
    """
    topology = values["TOPOLOGY"]
    method = topology["METHOD"]
    for alias, vendor in vendors.items():
        known = METHODS[method]
        if known and vendor and vendor not in known:
            fitting = " or ".join(repr(name) for name, known in METHODS.items() if not known or vendor in known)
            return [
                Problem(
                    "E014",
                    f"{where} has METHOD {method!r}, which the engine of {alias!r} ({vendor}) does not support.",
                    f"That engine supports {fitting}.",
                )
            ]
    if values["PROBE_SECONDS"] is None:
        return [
            Problem(
                "E014",
                f"{where} needs the monitor, and PROBE_SECONDS None disables the monitor.",
                "Give PROBE_SECONDS a number, or remove TOPOLOGY.",
            )
        ]
    if "ALLOW" not in topology:
        return [
            Problem(
                "W018",
                f"{where} has no ALLOW: a replica that is found serves reads only if one of the cluster's own aliases "
                "has the same host.",
                "List in ALLOW the hosts that may be given the credentials of TEMPLATE: patterns "
                "('*.db.example.com') and networks ('10.0.0.0/24').",
            )
        ]
    return []


def complete(topology: Mapping[str, Any], template: str) -> Mapping[str, Any]:
    """The setting with all of its keys."""
    return {"HOSTS": {}, "ALLOW": None, **topology, "TEMPLATE": template}
