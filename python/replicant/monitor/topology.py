"""Members that come and go while a process runs: those that ``TOPOLOGY`` finds, and those that a reload drops.

An alias that Django has seen is never removed: an object may carry it in ``_state.db``, and a thread may have a
connection for it. A member that leaves therefore stays a member, in the role of a replica that serves no reads. It
comes back under the same alias.

Discovery finds servers, and this module names servers, too: each by the alias whose settings lead to it
(:mod:`replicant.monitor.promotion`), whatever alias the server is behind at present.
"""

from __future__ import annotations

import copy
import dataclasses
import fnmatch
import ipaddress
import logging
import os
import re
from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from django.db import connections

from replicant import conf
from replicant.connections import observations, server_map
from replicant.threads import allocate_lock

if TYPE_CHECKING:
    from replicant.engines import Sample
    from replicant.monitor.discovery import Member

logger = logging.getLogger("replicant")

_PORTS = {"mysql": "3306", "postgresql": "5432"}
#: Options that would override HOST and PORT.
_OPTIONS_THAT_LEAD = ("host", "hostaddr", "port", "unix_socket")
#: A host that every driver takes for one name: not for a list, a path, or an address in another notation.
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)
_WILDCARDS = ("*", "?", "[")


class View(NamedTuple):
    """The members that discovery found of one cluster."""

    found: Mapping[str, tuple[str, str]]
    """Every member that was ever found and that no settings list: its alias, host and port."""
    present: frozenset[str] | None = None
    """The servers that replicate at present and may serve; None if that is not known yet: all listed replicas serve."""
    judged: frozenset[str] = frozenset()
    """The members in the settings that this view covers: such a member is absent unless it is in ``present``."""


_NOTHING = View({})
_views: dict[str, View] = {}
#: For each view, the primary's address and the ``TOPOLOGY`` that it was found with.
_bases: dict[str, tuple[Any, ...]] = {}
#: The replicas of each cluster that a reload dropped.
_dropped: dict[str, frozenset[str]] = {}
_limits: dict[str, observations.Limit] = {}
#: Held while aliases are added, so that one cluster does not overwrite the new aliases of another.
_adding = allocate_lock()


# The members in force


def view_of(primary: str) -> View:
    return _views.get(primary, _NOTHING)


def present(cluster: conf.Cluster) -> frozenset[str] | None:
    """The servers of a cluster, in force or about to be, that are present and may serve; None if not known yet."""
    return view_of(cluster.primary).present if _bases.get(cluster.primary) == _basis(cluster) else None


def is_known(alias: str) -> bool:
    """Whether ``alias`` is a replica that no settings list: discovery found it, or a reload dropped it."""
    found = [view.found for view in list(_views.values())]
    return any(alias in each for each in (*found, *list(_dropped.values())))


def is_called_replica(alias: str) -> bool:
    """Whether ``alias`` was found, or is a replica by the settings, even if those are wrong. Called by the core."""
    clusters, _ = conf.read()
    return is_known(alias) or any(alias == replica for cluster in clusters for replica, _ in cluster.replicas)


def listed(cluster: conf.Cluster) -> list[str]:
    """The replicas that the settings list."""
    return [alias for alias, _ in cluster.replicas if alias not in cluster.later]


def followed(cluster: conf.Cluster, taken: Collection[str] = ()) -> conf.Cluster:
    """The cluster of the settings, with the members that were found, and with weight 0 for the absent ones.

    ``taken``: the aliases that the settings give a role.
    """
    view, dropped = view_of(cluster.primary), _dropped.get(cluster.primary, frozenset()).difference(taken)
    later = [alias for alias in dict.fromkeys((*view.found, *sorted(dropped))) if alias not in taken]
    later = [alias for alias in later if alias in connections.settings]
    there = present(cluster)
    if there is None and not later:
        return cluster
    # A set, because a long-lived process may have thousands of them.
    are_later = frozenset(later)

    def is_absent(alias: str) -> bool:
        server = server_map.server_of(alias)
        if there is None or alias in dropped:
            return alias in are_later
        return server not in there and (server in view.judged or server in are_later)

    weight = (cluster.topology and dict(cluster.replicas).get(cluster.topology["TEMPLATE"])) or 1.0
    members = [*cluster.replicas, *((alias, weight) for alias in later)]
    absent = {alias: None for alias, _ in members if is_absent(alias)}
    return dataclasses.replace(
        cluster,
        # With weight 0, no write record waits until an absent replica has its writes.
        replicas=[(alias, 0.0 if alias in absent else weight) for alias, weight in members],
        forbidden=[*cluster.forbidden, *absent],
        addresses=[*cluster.addresses, *(conf.address_of(connections.settings[alias]) for alias in later)],
        later=later,
    )


def _basis(cluster: conf.Cluster) -> tuple[Any, ...]:
    return (cluster.addresses[0], cluster.topology)


def put(cluster: conf.Cluster, view: View, answering: Collection[str] = ()) -> bool:
    """Store what was found for ``cluster``, which is in force; return whether the cluster's members differ then.

    ``conf.load()`` puts the result in force. ``answering``: the servers that have answered a probe. Other new servers
    serve later, because it is not known whether they accept connections, nor which position they have.
    """
    primary = cluster.primary
    if cluster.topology is None or cluster not in conf.in_force():
        # The settings have changed since.
        return False
    before = present(cluster)
    view = view._replace(found={**view_of(primary).found, **view.found})
    if view.present is None:
        # The prober has only just started to discover, so the earlier view knows more.
        view = view._replace(present=before, judged=view_of(primary).judged)
    else:
        known = (before or frozenset()) | view.judged | frozenset(answering)
        # Never shrink to an empty replica set.
        view = view._replace(present=(view.present & known) or before)
    if (before, view) == (view.present, _views.get(primary)) and view.found.keys() <= connections.settings.keys():
        return False
    template = connections.settings[cluster.topology["TEMPLATE"]]
    new = [alias for alias in view.found if alias not in connections.settings]
    add({alias: settings_of(template, primary, *view.found[alias]) for alias in new})
    _views[primary], _bases[primary] = view, _basis(cluster)
    if view.present is not None:
        _announce(primary, view.judged - {primary} if before is None else before, view.present)
    return True


def add(aliases: Mapping[str, dict[str, Any]]) -> None:
    """Add the new ones of these database aliases to Django's. Other threads may iterate over Django's aliases."""
    with _adding:
        new = {alias: settings for alias, settings in aliases.items() if alias not in connections.settings}
        if new:
            connections.settings = {**connections.settings, **new}


def drop(replicas: Mapping[str, Iterable[str]]) -> None:
    """Stop all reads from these replicas of each cluster."""
    for primary, aliases in replicas.items():
        _dropped[primary] = _dropped.get(primary, frozenset()) | frozenset(aliases)
        for alias in aliases:
            server_map.retire(alias)


def forget() -> None:
    """Drop all findings. The settings have changed, and the findings hold only for the previous settings."""
    for state in (_views, _bases, _dropped, _limits):
        state.clear()


def _announce(primary: str, before: frozenset[str], after: frozenset[str]) -> None:
    aliases = {server: alias for alias, server in server_map.snapshot().items()}
    for server in sorted(before ^ after):
        alias = aliases.get(server, server)
        if alias == primary:
            # The server was promoted.
            continue
        if server not in after:
            server_map.retire(alias)
        if _limits.setdefault(alias, observations.Limit()).admits():
            if server in after:
                logger.info("The replica %r of %r replicates and serves reads.", alias, primary)
            else:
                logger.warning("The replica %r of %r no longer replicates and gets no reads.", alias, primary)


# From discovered members to servers


def recognised(
    cluster: conf.Cluster, members: Iterable[Member], samples: Mapping[str, Sample], primary: str
) -> tuple[frozenset[str], dict[str, tuple[str, str]], list[str]]:
    """The servers of ``members``, the new ones among them, and the hosts that ``ALLOW`` refuses.

    ``samples``: the last sample of each server. ``primary``: the server that is the primary now.
    """
    assert cluster.topology is not None
    template = connections.settings[cluster.topology["TEMPLATE"]]
    places: dict[tuple[str, str], list[str]] = {}
    identities: dict[str, list[str]] = {}
    for alias in (cluster.primary, *listed(cluster)):
        for place in _places(connections.settings[alias]):
            places.setdefault(place, []).append(alias)
        if alias in samples and samples[alias].error is None:
            identities.setdefault(samples[alias].identity, []).append(alias)
    hosts = {host for host, _ in places}
    # A dropped replica stays dropped and is not found under another alias, except if the settings list that alias.
    for alias in _dropped.get(cluster.primary, frozenset()).difference(listed(cluster)):
        for place in _places(connections.settings[alias]):
            places.setdefault(place, [alias])
    earlier = {place: alias for alias, place in view_of(cluster.primary).found.items()}
    seen: set[str] = set()
    new: dict[str, tuple[str, str]] = {}
    refused = []
    for member in members:
        place = _place(member.host, member.port or template.get("PORT"), template)
        # Listed aliases come first: a listed replica that was down may have been found under another name.
        servers = places.get(place) or (member.server and identities.get(member.server))
        if not servers:
            # Members that were found earlier are checked, too: a reload may have changed ALLOW.
            if not is_allowed(member.host, cluster.topology["ALLOW"], hosts):
                refused.append(member.host)
                continue
            alias = earlier.get(place) or alias_of(cluster.primary, *place)
            servers = [alias]
            if place not in earlier:
                new[alias] = place
        if primary not in servers:
            seen.update(servers)
    return frozenset(seen), new, refused


def found_at(cluster: conf.Cluster, host: str, port: str) -> View | None:
    """The view with a member at this address, which another process has found; None if ``ALLOW`` refuses the host."""
    assert cluster.topology is not None
    hosts = {
        place[0] for alias in (cluster.primary, *listed(cluster)) for place in _places(connections.settings[alias])
    }
    if not is_allowed(host, cluster.topology["ALLOW"], hosts):
        return None
    found = view_of(cluster.primary).found
    place = (_written(host), port)
    return View({**found, alias_of(cluster.primary, *place): place}, present(cluster), frozenset())


def alias_of(primary: str, host: str, port: str) -> str:
    """The alias of a found member: the same in every process, and each time that the member is found."""
    return f"{primary}@{host}:{port}"


def is_allowed(host: str, allow: Iterable[str] | None, hosts: Collection[str]) -> bool:
    """Whether credentials may be sent to ``host``: ``allow`` matches it, or ``allow`` is None and ``hosts`` has it."""
    host = _written(host)
    if _address(host) is None and not _NAME.fullmatch(host):
        return False
    if allow is None:
        return host in hosts
    return any(_matches(host, pattern.lower()) for pattern in allow)


def _matches(host: str, pattern: str) -> bool:
    """Whether ``pattern`` is meant to match ``host``. In names, only a wildcard at the beginning matches dots: an
    attacker can own a name that begins as the site's names do, but not one that ends as they do."""
    address = _address(host)
    if "/" in pattern:
        # A network matches addresses only, because a name may lead anywhere.
        return address is not None and address in ipaddress.ip_network(pattern, strict=False)
    pattern = _written(pattern)
    if address is not None or pattern == "*":
        return fnmatch.fnmatchcase(host, pattern)
    if not any(letter.isalpha() for letter in pattern):
        # '10.0.0.*' matches addresses only: a host name that resembles an address must not match.
        return False
    wanted, labels = pattern.split("."), host.split(".")
    if wanted[0].startswith("*") and not any(wildcard in wanted[0][1:] for wildcard in _WILDCARDS):
        rest = len(labels) - len(wanted) + 1
        labels = [".".join(labels[:rest]), *labels[rest:]] if rest > 0 else []
    return len(labels) == len(wanted) and all(map(fnmatch.fnmatchcase, labels, wanted))


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _written(host: str) -> str:
    """A host in its canonical form: an address has many notations, and a name may end with a dot."""
    host = host.lower()
    return str(_address(host) or host.removesuffix("."))


def settings_of(template: Mapping[str, Any], primary: str, host: str, port: str) -> dict[str, Any]:
    """The settings of a found member: the template's, with the member's own host and port."""
    settings = {**copy.deepcopy(dict(template)), "HOST": host, "PORT": port}
    if host == "localhost" and conf.vendor_of(template) == "mysql":
        # For "localhost", mysqlclient uses its default Unix socket, whatever the port: that is another server.
        settings["HOST"] = "127.0.0.1"
    settings["OPTIONS"] = _without(settings.get("OPTIONS"), _OPTIONS_THAT_LEAD)
    settings["TEST"] = {**(settings.get("TEST") or {}), "MIRROR": primary}
    # Otherwise Django would open a transaction with each of them around each view.
    settings["ATOMIC_REQUESTS"] = False
    if settings.get("PROBE"):
        probe = _without(settings["PROBE"], ("HOST", "PORT"))
        settings["PROBE"] = {**probe, "OPTIONS": _without(probe.get("OPTIONS"), _OPTIONS_THAT_LEAD)}
    return settings


def _without(values: Mapping[str, Any] | None, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if key not in keys}


def _places(settings: Mapping[str, Any]) -> set[tuple[str, str]]:
    """The address of an alias, and the address at which the monitor probes it."""
    probe = {**settings, **(settings.get("PROBE") or {})}
    return {_place(each.get("HOST"), each.get("PORT"), settings) for each in (settings, probe)}


def _place(host: Any, port: Any, settings: Mapping[str, Any]) -> tuple[str, str]:
    return (_written(str(host or "localhost")), str(port or _PORTS.get(conf.vendor_of(settings), "")))


def _after_fork_in_child() -> None:
    global _adding
    _adding = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
