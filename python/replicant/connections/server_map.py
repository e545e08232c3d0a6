"""The placements in force in this process, and how connections follow them.

The monitor decides (:mod:`replicant.monitor.promotion`) and reports its decision here. Each connection of our engines
checks, before it is used, whether the server of its session is still the one behind its alias. If it is not, a
connection outside of a transaction is opened again, which the caller does not notice. A transaction with a former
primary ends with an error before anything more is sent, its COMMIT included. Transactions on a replica go on: the
change does not make their reads any worse.

The file is long, since the placement, the connections that it outdates and their pools change together, under one lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import os
import time
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed
from django.db import OperationalError, connections
from django.db.utils import load_backend

from replicant import _core, conf
from replicant.connections import shared_placement, sockets, tracked
from replicant.connections.placement import Placement
from replicant.connections.shared_placement import Record
from replicant.engines import engine_of, is_ours
from replicant.private_folder import CannotShare
from replicant.signals import primary_changed, replica_ejected
from replicant.threads import allocate_lock

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant.connections.followed import FollowedConnection

logger = logging.getLogger("replicant")

#: The settings of an alias that lead to its server. The other settings belong to the alias.
_KEYS = ("NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
#: The attributes of a connection that hold its replica's last outage at the time of opening, and its server-side
#: cursors.
_OUTAGE = "_replicant_outage"
SERVER_SIDE = "_replicant_server_side_cursors"
#: How long the first session with a primary waits until the monitor has found the primary, in seconds.
_LONGEST_WAIT = 1.0
_POLL_SECONDS = 0.002

#: If the monitor of a process has not read the placement for this many intervals, the process reads it before it sends
#: anything to a primary: it may have been stopped meanwhile, and other processes may have followed another primary.
_VALID_INTERVALS = 2

number = 0
"""The version of the placements in force in this process: every change of the servers behind aliases raises it."""

valid_until = math.inf
"""The time (``time.monotonic()``) until which the placements of all clusters count as read. Later uses read them again
first."""

_present: dict[str, Placement] = {}
#: The addresses for which each cluster's placement was made: with other addresses, the placement is not valid.
_addresses: dict[str, Mapping[str, int]] = {}
#: The addresses as the shared records name them, by alias.
_keys: dict[str, Mapping[str, str]] = {}
#: The aliases behind which there is another server than the one in their own settings.
_servers: dict[str, str] = {}
#: The clusters for which the monitor has determined the primary at least once.
_known: set[str] = set()
#: By cluster, until when its placement counts as read, and the interval of its probe.
_valid: dict[str, tuple[float, float]] = {}
#: The clusters in which no alias of this process leads to the present primary, and the primary's address.
_unlisted: dict[str, str] = {}
#: The clusters in which the primary's alias leads to a replaced server, because no alias leads to the present primary:
#: no writes go there.
_lost: set[str] = set()
#: The clusters for which the log already says that their placement cannot be shared.
_unshared: set[str] = set()
#: Held while a placement is put in force, but never during a call into third-party code.
_changing = allocate_lock()
#: The last outage of each replica, as a distinct object: two threads that increment a number at the same time may
#: increment it once only. A connection from before the outage is not used again: it would go on serving from a member
#: that is lagging or ejected, or leads to a server that has been restarted since.
_outages: dict[str, object] = {}
#: Pools of PostgreSQL connections to servers other than the one in the alias's own settings, by alias and server.
#: Django keeps its pools by alias only, whatever server a connection must go to.
_pools: dict[tuple[str, str], dict[str, Any]] = {}


def server_of(alias: str) -> str:
    """The alias whose settings lead to the server behind ``alias``."""
    return _servers.get(alias, alias)


def can_follow(primary: str) -> bool:
    """Whether the engine of a cluster connects to the server behind an alias; Django's own engines use the settings."""
    return is_ours(load_backend(connections.settings[primary]["ENGINE"]).DatabaseWrapper)


def begin(cluster: conf.Cluster) -> Placement:
    """The placement to watch ``cluster`` with: the one in force, unless the addresses of its servers have changed.

    Members may have come and gone since: the other members keep their servers.
    """
    members = (cluster.primary, *dict(cluster.replicas))
    addresses = dict(zip(members, cluster.addresses, strict=True))
    before = _addresses.get(cluster.primary)
    present = _present.get(cluster.primary)
    if before is not None and all(before[alias] == addresses[alias] for alias in before.keys() & addresses.keys()):
        present = present and present.covering(members)
    else:
        present = None
    if present is None:
        _forget(cluster.primary)
        present = Placement.of_settings(members)
    keys = shared_placement.addresses({alias: connections.settings[alias] for alias in members}, conf.vendor_of)
    with _changing:
        _addresses[cluster.primary] = addresses
        _keys[cluster.primary] = keys
        _present[cluster.primary] = present
    return present


def keep(primaries: set[str]) -> None:
    """Follow only these clusters: the aliases of other clusters lead to the servers in their settings again."""
    for primary in _present.keys() - primaries:
        _forget(primary)


def _forget(primary: str) -> None:
    global number
    _known.discard(primary)
    _lost.discard(primary)
    states: tuple[dict[str, Any], ...] = (_addresses, _keys, _valid, _unlisted)
    for state in states:
        state.pop(primary, None)
    _set_valid()
    before = _present.pop(primary, None)
    if before is not None and any(alias != server for alias, server in before.servers.items()):
        for alias in before.servers:
            _servers.pop(alias, None)
        with _changing:
            number += 1
        for alias in before.servers:
            drop_pools(alias)


def found(primary: str) -> None:
    """Record that the monitor has determined the primary: the placement in force is the result."""
    _known.add(primary)


def present(primary: str) -> Placement | None:
    """The placement in force; None if the cluster is not followed any more."""
    return _present.get(primary)


def catch_up(primary: str, interval: float, *, gone: bool = False, shares: bool = True) -> frozenset[str]:
    """Adopt decisions of other processes, and with ``shares`` share a decision that only this process knows.

    Returns the servers that any process has seen to be read-only. ``gone``: as in :func:`decide`.
    """
    with _changing:
        before, keys = _present.get(primary), _keys.get(primary)
    if before is None or keys is None:
        # The cluster is not followed any more.
        return frozenset()
    begun = time.monotonic()
    try:
        record = shared_placement.record(keys.values(), keys[primary])
        if shares and before.generation > (record.generation if record else 0):
            # The files were removed.
            record = shared_placement.change(keys.values(), keys[primary], _change(primary, keys, before, before))
    except CannotShare as error:
        _say_unshared(primary, error)
        record = None
    if record is not None:
        _adopt(primary, record, keys, gone=gone)
    # After the placement is in force: another thread may be about to send something to the former primary.
    _valid[primary] = (begun + _VALID_INTERVALS * interval, interval)
    _set_valid()
    if record is None:
        return frozenset()
    return frozenset(alias for alias, key in keys.items() if key in record.read_only)


def unlisted(primary: str) -> tuple[str, str] | None:
    """The host and port of the present primary, if no alias leads to it."""
    key = _unlisted.get(primary)
    return None if key is None else shared_placement.place_of(key)


def confirm() -> None:
    """Read the placements that the monitor has not read for long: this process may have been stopped meanwhile."""
    now = time.monotonic()
    for primary, (until, interval) in list(_valid.items()):
        if now > until and primary in _present:
            catch_up(primary, interval, shares=False)


def decide(primary: str, before: Placement, after: Placement, *, gone: bool) -> None:
    """Put ``after`` in force, in this process and all others. If another process has decided since ``before``, put its
    decision in force instead.

    Called on the monitor's thread. ``gone``: the former primary does not answer, so that threads wait for it in vain.
    """
    keys = _keys.get(primary)
    if keys is None or keys.keys() != after.servers.keys():
        # The cluster is not followed any more, or has other members by now.
        return
    try:
        record = shared_placement.change(keys.values(), keys[primary], _change(primary, keys, before, after))
    except CannotShare as error:
        # Each process judges by itself then.
        _say_unshared(primary, error)
        record = None
    if record is None:
        _put(primary, after._replace(generation=before.generation + 1), gone=gone)
    else:
        _adopt(primary, record, keys, gone=gone)


def share_roles(primary: str, read_only: Iterable[str]) -> None:
    """Share the servers that were seen to be read-only: other processes may need that for their judgement."""
    keys = _keys.get(primary) or {}
    new = frozenset(keys[alias] for alias in read_only if alias in keys)

    def add(record: Record | None) -> Record:
        record = record or Record(frozenset())
        return record._replace(read_only=record.read_only | new)

    if not new:
        return
    try:
        shared_placement.change(keys.values(), keys[primary], add)
    except CannotShare as error:
        _say_unshared(primary, error)


def _change(primary: str, keys: Mapping[str, str], before: Placement, after: Placement) -> shared_placement.Change:
    """The change of the shared record to ``after``, if the record is not newer than ``before``."""

    def change(record: Record | None) -> Record | None:
        if record is not None and record.generation > before.generation:
            return None
        record = record or Record(frozenset())
        # Outsiders that these settings do not list stay outsiders.
        others = frozenset(key for key in record.outsiders if key not in keys.values())
        return record._replace(
            generation=before.generation if after == before else before.generation + 1,
            primary=keys[after.servers[primary]],
            origin=keys[primary],
            seats={keys[alias]: keys[server] for alias, server in after.servers.items()},
            outsiders=others | {keys[server] for server in after.outsiders},
        )

    return change


def _adopt(primary: str, record: Record, keys: Mapping[str, str], *, gone: bool) -> None:
    """Put a shared placement in force if it is newer than the one here."""
    present = _present.get(primary)
    if present is None or present.servers.keys() != keys.keys():
        return
    is_listed = record.primary in keys.values()
    # The settings may list by now a primary that they did not list before.
    if record.generation > present.generation or (is_listed and primary in _unlisted):
        if record.primary is None or is_listed:
            _unlisted.pop(primary, None)
        else:
            _unlisted[primary] = record.primary
        _put(primary, _according_to(primary, record, keys, present), gone=gone)


def _according_to(primary: str, record: Record, keys: Mapping[str, str], present: Placement) -> Placement:
    """A shared placement in terms of the aliases of this process, in which ``present`` is in force."""
    # Of several aliases with one server, the first one counts: the primary's comes before the replicas'.
    aliases = {key: alias for alias, key in reversed(list(keys.items()))}
    outsiders = {aliases[key] for key in record.outsiders if key in aliases}
    # The record says nothing about servers that it does not contain, so their role here stays.
    outsiders |= {server for server in present.outsiders if keys.get(server) not in record.servers}
    server = aliases.get(record.primary or keys[primary])
    servers = present.servers
    if server is not None and servers[primary] != server:
        servers = present.promoting(primary, server).servers
    if server is not None and record.origin == keys[primary] and len(aliases) == len(keys):
        # Settings with the same primary also agree on the servers behind the replicas' aliases.
        seats = {alias: aliases.get(record.seats.get(key, key), "") for alias, key in keys.items()}
        if set(seats.values()) == set(keys) and seats[primary] == server:
            servers = seats
    return Placement(servers, frozenset(outsiders - {server}), record.generation)


def _put(primary: str, after: Placement, *, gone: bool) -> None:
    """Put a placement in force, unless a newer one is in force. Waits for nothing."""
    global number
    with _changing:
        before = _present.get(primary)
        if before is None or after.generation < before.generation or before.servers.keys() != after.servers.keys():
            return
        _present[primary] = after
        moved = {
            alias: before.alias_of(server) for alias, server in after.servers.items() if before.servers[alias] != server
        }
        was_lost = primary in _lost
        if after.servers[primary] in after.outsiders:
            _lost.add(primary)
        else:
            _lost.discard(primary)
        if moved:
            _core.servers_swapped(primary, moved)
            for alias, server in after.servers.items():
                if alias == server:
                    _servers.pop(alias, None)
                else:
                    _servers[alias] = server
        if moved or was_lost != (primary in _lost):
            number += 1
    if primary in _lost and not was_lost:
        logger.error("%s", _lost_text(primary))
    if not moved:
        return
    if gone:
        # Otherwise a thread could wait for the former primary's answer for ever.
        sockets.hang_up(primary, before.servers[primary])
    for alias in moved:
        drop_pools(alias)
    old, new = before.servers[primary], after.servers[primary]
    if old != new:
        logger.warning(
            "The primary of %r is now the server of %r (generation %d); that of %r %s.",
            *(primary, new, after.generation, old, "does not answer" if gone else "is not the primary any more"),
        )
        primary_changed.send_robust(sender=_core.ReplicaRouter, cluster=primary, old=old, new=new)
        if gone:
            # The server was found down as the primary, so it begins as a replica that is down.
            alias = after.alias_of(old)
            retire(alias)
            replica_ejected.send_robust(sender=_core.ReplicaRouter, alias=alias, cluster=primary, state="down")


def _set_valid() -> None:
    global valid_until
    valid_until = min((until for until, _ in list(_valid.values())), default=math.inf)


def _say_unshared(primary: str, error: CannotShare) -> None:
    if primary not in _unshared:
        _unshared.add(primary)
        logger.warning(
            "Cannot share which server is the primary of %r between processes (%s): every process will judge by "
            "itself, and a new one begins with its settings.",
            *(primary, error),
        )


def _lost_text(primary: str) -> str:
    return (
        f"The server that the settings of {primary!r} lead to was replaced as the primary, and no alias of this "
        f"cluster leads to the present one ({_unlisted.get(primary)}). List the present primary in DATABASES and "
        f"REPLICANT[{primary!r}]; if the server of {primary!r} is the primary again, end all processes of this host "
        f"and remove the files {shared_placement.pattern()}."
    )


def snapshot() -> dict[str, str]:
    """For each alias of the followed clusters, the alias whose settings lead to its server."""
    return {alias: server for placement in list(_present.values()) for alias, server in placement.servers.items()}


# Connections of our engines


def prepare(connection: FollowedConnection) -> None:
    """Called before a connection is opened: start the monitor, and direct the connection to its alias's server."""
    try:
        role = _core.role(connection.alias)
    except Exception:
        # ``manage.py check`` reports what is wrong with the settings, and must be able to connect.
        return
    if role is None:
        return
    _core.watch()
    if role == "primary" and connection.alias in _present and connection.alias not in _known:
        _await(connection.alias)
    if connection.alias in _lost:
        raise OperationalError(_lost_text(connection.alias))
    _direct(connection)


def _await(primary: str) -> None:
    """Wait once per process until the monitor has determined the primary: the settings may name a former primary."""
    if asyncio._get_running_loop() is not None:
        return
    until = time.monotonic() + _LONGEST_WAIT
    while primary in _present and primary not in _known and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    _known.add(primary)


def _direct(connection: FollowedConnection) -> None:
    """Give a connection the settings of the server behind its alias."""
    server = server_of(connection.alias)
    if server != connection.replicant_server:
        own = connections.settings[connection.alias]
        there = connections.settings[server]
        # Without a move, the settings object itself: test databases change it, and that must reach every connection.
        connection.settings_dict = own if there is own else {**own, **{key: there[key] for key in _KEYS}}
        connection.replicant_server = server
        if there is own:
            connection.__dict__.pop("_connection_pools", None)
        else:
            connection.__dict__["_connection_pools"] = _pools.setdefault((connection.alias, server), {})


def drop_pools(alias: str) -> None:
    """Close the pools of connections to the servers that are, or were, behind ``alias``."""
    with contextlib.suppress(Exception):
        wrapper = load_backend(connections.settings[alias]["ENGINE"]).DatabaseWrapper
        own = getattr(wrapper, "_connection_pools", {})
        for pools in (own, *(pools for (other, _), pools in list(_pools.items()) if other == alias)):
            engine_of(wrapper).drop_pool(pools, alias)


def note_outage(connection: BaseDatabaseWrapper) -> None:
    """Record on a connection that is about to be opened the last outage before its opening."""
    connection.__dict__[_OUTAGE] = _outages.get(connection.alias)


def is_outdated(connection: BaseDatabaseWrapper) -> bool:
    """Whether a connection to a replica was opened before the replica's last outage.

    False while rows arrive on it one by one: most likely they still arrive, and no other session has them.
    """
    is_older = connection.__dict__.get(_OUTAGE) is not _outages.get(connection.alias)
    return is_older and not has_rows_to_come(connection)


def retire(alias: str) -> None:
    """Prevent the use of all connections to ``alias`` that are open now."""
    _outages[alias] = object()
    drop_pools(alias)


def is_followed(connection: FollowedConnection) -> bool:
    """Whether a connection uses, or will be opened to, the server that is now behind its alias."""
    return server_of(connection.alias) == connection.replicant_server and connection.alias not in _lost


def has_rows_to_come(connection: BaseDatabaseWrapper) -> bool:
    """Whether rows of a replica arrive one by one: no other session could return the rows that are yet to arrive."""
    return bool(connection.__dict__.get(SERVER_SIDE))


def follow(connection: FollowedConnection) -> None:
    """Called before a connection is used, after a placement changed: end its session if its server was moved.

    Raises ``OperationalError`` if that ends a transaction, or a session with other state than a fresh session.
    """
    seen = number
    if connection.connection is None or is_followed(connection):
        connection.replicant_placement = seen
        return
    is_primary = _core.role(connection.alias) == "primary"
    if not is_primary and has_rows_to_come(connection):
        # The server answers, or the rows would not arrive. The version stays, so that the next statement checks again.
        return
    tracker = tracked.tracker_of(connection)
    in_text = tracker is not None and tracker.in_text_transaction
    if not (connection.in_atomic_block or not connection.autocommit or in_text):
        differs = tracked.session_differs(connection)
        connection.close()
        connection.replicant_placement = seen
        if differs:
            raise OperationalError(
                f"The server behind {connection.alias!r} has changed, and the session with the former server is over. "
                "A new session lacks state of that session: a variable, a lock, or a temporary table. Nothing was "
                "repeated. The next statement begins a new session: set that state again first."
            )
    elif is_primary:
        connection.close()
        connection.replicant_placement = seen
        raise OperationalError(
            f"The server behind {connection.alias!r} has changed: this transaction was with the former primary, and is "
            "rolled back. Nothing of it was repeated: run the transaction again."
        )


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "DATABASES":
        keep(set())


def _after_fork_in_child() -> None:
    global _changing
    _changing = allocate_lock()
    # The parent may have determined the primary long ago, and no process of this host may have followed it since.
    _known.clear()


setting_changed.connect(_changed, dispatch_uid="replicant.connections.server_map")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
