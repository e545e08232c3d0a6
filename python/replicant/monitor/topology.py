"""Members that come and go while a process runs: those that ``TOPOLOGY`` finds, and those that a reload drops.

An alias that Django has seen never vanishes: an object may carry it in ``_state.db``, a thread its connection. So who
leaves stays a member, in the role of a replica, that serves nothing; and comes back under the same alias.

What is found are servers, and what is named here are servers, too: each by the alias whose settings lead to it
(:mod:`replicant.monitor.promotion`), whatever alias it is behind at present.
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
#: What would lead elsewhere than HOST and PORT do.
_OPTIONS_THAT_LEAD = ("host", "hostaddr", "port", "unix_socket")
#: What a driver takes for one name, and for no list, no path and no address of another notation's.
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_.-]*[a-z0-9_])?", re.ASCII)
_WILDCARDS = ("*", "?", "[")


class View(NamedTuple):
    """What was found of one cluster."""

    found: Mapping[str, tuple[str, str]]
    """Every member that was ever found and that no settings list: its alias, host and port."""
    present: frozenset[str] | None = None
    """The servers that replicate at present and may serve; None: nobody could say yet, and all that are listed do."""
    judged: frozenset[str] = frozenset()
    """The members that settings list, of which it says something."""


_NOTHING = View({})
_views: dict[str, View] = {}
#: What each view was found for.
_bases: dict[str, tuple[Any, ...]] = {}
#: The replicas of each cluster that a reload dropped.
_dropped: dict[str, frozenset[str]] = {}
_limits: dict[str, observations.Limit] = {}
#: Held while aliases are added, so that two clusters do not lose one another's.
_adding = allocate_lock()


# What is in force


def view_of(primary: str) -> View:
    return _views.get(primary, _NOTHING)


def present(cluster: conf.Cluster) -> frozenset[str] | None:
    """The servers of a cluster, in force or about to be, that are there and may serve; None: nobody could say yet."""
    return view_of(cluster.primary).present if _bases.get(cluster.primary) == _basis(cluster) else None


def is_known(alias: str) -> bool:
    """Whether it is a replica that no settings list."""
    found = [view.found for view in list(_views.values())]
    return any(alias in each for each in (*found, *list(_dropped.values())))


def is_called_replica(alias: str) -> bool:
    """Whether settings that may be wrong list ``alias`` as a replica, or it was found. Called by the core."""
    clusters, _ = conf.read()
    return is_known(alias) or any(alias == replica for cluster in clusters for replica, _ in cluster.replicas)


def listed(cluster: conf.Cluster) -> list[str]:
    """The replicas that the settings list."""
    return [alias for alias, _ in cluster.replicas if alias not in cluster.later]


def followed(cluster: conf.Cluster, taken: Collection[str] = ()) -> conf.Cluster:
    """A cluster as its settings have it, with the members that were found, and without those that are not there.

    ``taken``: the aliases that the settings give a role.
    """
    view, dropped = view_of(cluster.primary), _dropped.get(cluster.primary, frozenset()).difference(taken)
    later = [alias for alias in dict.fromkeys((*view.found, *sorted(dropped))) if alias not in taken]
    later = [alias for alias in later if alias in connections.settings]
    there = present(cluster)
    if there is None and not later:
        return cluster
    # In a process that lives long there may be thousands.
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
        # Without a weight nobody waits until they have what was written.
        replicas=[(alias, 0.0 if alias in absent else weight) for alias, weight in members],
        forbidden=[*cluster.forbidden, *absent],
        addresses=[*cluster.addresses, *(conf.address_of(connections.settings[alias]) for alias in later)],
        later=later,
    )


def _basis(cluster: conf.Cluster) -> tuple[Any, ...]:
    return (cluster.addresses[0], cluster.topology)


def put(cluster: conf.Cluster, view: View, answering: Collection[str] = ()) -> bool:
    """Remember what was found for ``cluster``, which is in force; returns whether that is another cluster then.

    ``conf.load()`` puts it in force. ``answering``: the servers that have answered a probe. Others that are new serve
    later: nobody knows whether they take readers, nor how far they are.
    """
    primary = cluster.primary
    if cluster.topology is None or cluster not in conf.in_force():
        # The settings have changed since.
        return False
    before = present(cluster)
    view = view._replace(found={**view_of(primary).found, **view.found})
    if view.present is None:
        # Who has just begun to look knows less.
        view = view._replace(present=before, judged=view_of(primary).judged)
    else:
        known = (before or frozenset()) | view.judged | frozenset(answering)
        # Never nobody.
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
    """Let Django know these database aliases, unless it does. Other threads may be looking through those it knows."""
    with _adding:
        new = {alias: settings for alias, settings in aliases.items() if alias not in connections.settings}
        if new:
            connections.settings = {**connections.settings, **new}


def drop(replicas: Mapping[str, Iterable[str]]) -> None:
    """Have these replicas of each cluster serve nothing any more."""
    for primary, aliases in replicas.items():
        _dropped[primary] = _dropped.get(primary, frozenset()) | frozenset(aliases)
        for alias in aliases:
            server_map.retire(alias)


def forget() -> None:
    """The settings have changed: whatever was found was found for others."""
    for state in (_views, _bases, _dropped, _limits):
        state.clear()


def _announce(primary: str, before: frozenset[str], after: frozenset[str]) -> None:
    aliases = {server: alias for alias, server in server_map.snapshot().items()}
    for server in sorted(before ^ after):
        alias = aliases.get(server, server)
        if alias == primary:
            # It was promoted.
            continue
        if server not in after:
            server_map.retire(alias)
        if _limits.setdefault(alias, observations.Limit()).admits():
            if server in after:
                logger.info("The replica %r of %r is found to replicate, and serves.", alias, primary)
            else:
                logger.warning("The replica %r of %r is not found to replicate any more: no reads.", alias, primary)


# Who is who


def recognised(
    cluster: conf.Cluster, members: Iterable[Member], samples: Mapping[str, Sample], primary: str
) -> tuple[frozenset[str], dict[str, tuple[str, str]], list[str]]:
    """The servers that ``members`` are, those among them that are new, and the hosts that may not be connected with.

    ``samples``: the last one of each server. ``primary``: the server that is the primary now.
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
    # Who was dropped stays so, and is not found under another alias. Unless it is listed under another one.
    for alias in _dropped.get(cluster.primary, frozenset()).difference(listed(cluster)):
        for place in _places(connections.settings[alias]):
            places.setdefault(place, [alias])
    earlier = {place: alias for alias, place in view_of(cluster.primary).found.items()}
    seen: set[str] = set()
    new: dict[str, tuple[str, str]] = {}
    refused = []
    for member in members:
        place = _place(member.host, member.port or template.get("PORT"), template)
        # Those that are listed first: one that was down may have been found under another name.
        servers = places.get(place) or (member.server and identities.get(member.server))
        if not servers:
            # Also of those that were found earlier: a reload may have changed what is allowed.
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
    """The view with a member at this place, which another process has found; None if it may not be connected with."""
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
    """The alias of a found member: the same in every process, and each time that it is found."""
    return f"{primary}@{host}:{port}"


def is_allowed(host: str, allow: Iterable[str] | None, hosts: Collection[str]) -> bool:
    """Whether credentials may be sent to ``host``: one that ``allow`` matches, or if it is None one of ``hosts``."""
    host = _written(host)
    if _address(host) is None and not _NAME.fullmatch(host):
        return False
    if allow is None:
        return host in hosts
    return any(_matches(host, pattern.lower()) for pattern in allow)


def _matches(host: str, pattern: str) -> bool:
    """Whether ``pattern`` is meant to match. In names a wildcard stands for no dot, but for one at the beginning:
    anybody can have a name that begins as ours do, but not one that ends so."""
    address = _address(host)
    if "/" in pattern:
        # Not of a name, which may lead anywhere.
        return address is not None and address in ipaddress.ip_network(pattern, strict=False)
    pattern = _written(pattern)
    if address is not None or pattern == "*":
        return fnmatch.fnmatchcase(host, pattern)
    if not any(letter.isalpha() for letter in pattern):
        # '10.0.0.*' is of addresses, and no other name is to look like one.
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
    """A host as it is written here: an address has many forms, and a name may end with a dot."""
    host = host.lower()
    return str(_address(host) or host.removesuffix("."))


def settings_of(template: Mapping[str, Any], primary: str, host: str, port: str) -> dict[str, Any]:
    """The settings of a found member: the template's, but for where it is."""
    settings = {**copy.deepcopy(dict(template)), "HOST": host, "PORT": port}
    if host == "localhost" and conf.vendor_of(template) == "mysql":
        # For which mysqlclient takes the Unix socket of its own default, whatever the port: of another server.
        settings["HOST"] = "127.0.0.1"
    settings["OPTIONS"] = _without(settings.get("OPTIONS"), _OPTIONS_THAT_LEAD)
    settings["TEST"] = {**(settings.get("TEST") or {}), "MIRROR": primary}
    # Or Django would open a transaction with each of them around each view.
    settings["ATOMIC_REQUESTS"] = False
    if settings.get("PROBE"):
        probe = _without(settings["PROBE"], ("HOST", "PORT"))
        settings["PROBE"] = {**probe, "OPTIONS": _without(probe.get("OPTIONS"), _OPTIONS_THAT_LEAD)}
    return settings


def _without(values: Mapping[str, Any] | None, keys: Collection[str]) -> dict[str, Any]:
    return {key: value for key, value in (values or {}).items() if key not in keys}


def _places(settings: Mapping[str, Any]) -> set[tuple[str, str]]:
    """Where an alias leads, and where the monitor finds what is there."""
    probe = {**settings, **(settings.get("PROBE") or {})}
    return {_place(each.get("HOST"), each.get("PORT"), settings) for each in (settings, probe)}


def _place(host: Any, port: Any, settings: Mapping[str, Any]) -> tuple[str, str]:
    return (_written(str(host or "localhost")), str(port or _PORTS.get(conf.vendor_of(settings), "")))


def _after_fork_in_child() -> None:
    global _adding
    _adding = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
