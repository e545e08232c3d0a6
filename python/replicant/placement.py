"""Which server is behind which alias in this process, and what becomes of the connections when that changes.

The monitor decides (:mod:`replicant.promotion`) and says so here. Each connection of our engines asks before it is
used whether the server that it has a session with is still the one behind its alias: outside of a transaction it then
connects anew and nobody notices; a transaction with a former primary ends with an error before anything more is sent,
its COMMIT included. Transactions on a replica go on: what they read is as good as it was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from django.core.signals import setting_changed
from django.db import OperationalError, connections
from django.db.utils import load_backend

from replicant import _core, lines
from replicant.engines import engine_of
from replicant.promotion import Placement
from replicant.signals import primary_changed, replica_ejected

if TYPE_CHECKING:
    from replicant import conf
    from replicant.backends import ReplicantMixin

logger = logging.getLogger("replicant")

#: What of an alias's settings leads to its server. The rest belongs to the alias.
_KEYS = ("NAME", "HOST", "PORT", "USER", "PASSWORD", "OPTIONS")
#: The first session with a primary waits so long, in seconds, for the monitor to have found it.
_LONGEST_WAIT = 1.0
_POLL_SECONDS = 0.002

number = 0
"""Another number, another placement."""

_present: dict[str, Placement] = {}
#: Where the servers of each cluster were when its placement was made: elsewhere it means nothing.
_addresses: dict[str, Mapping[str, int]] = {}
#: The aliases behind which there is another server than their own settings say.
_servers: dict[str, str] = {}
#: The clusters whose primary was looked for, at least once.
_known: set[str] = set()
#: Django's pools of PostgreSQL connections, where they do not lead to the server that the alias's own settings name: by
#: alias and server. Django's own are by alias, whatever server a connection is to be made with.
_pools: dict[tuple[str, str], dict[str, Any]] = {}


def server_of(alias: str) -> str:
    """The alias whose settings lead to the server behind ``alias``."""
    return _servers.get(alias, alias)


def begin(cluster: conf.Cluster) -> Placement:
    """The placement of ``cluster`` to begin or go on with: the one in force, unless the servers are others.

    Members may have come and gone since: the others stay where they are.
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
    _addresses[cluster.primary] = addresses
    _present[cluster.primary] = present
    return present


def keep(primaries: set[str]) -> None:
    """Follow no cluster but these: behind the aliases of the others is what their settings say."""
    for primary in _present.keys() - primaries:
        _forget(primary)


def _forget(primary: str) -> None:
    global number
    _known.discard(primary)
    _addresses.pop(primary, None)
    before = _present.pop(primary, None)
    if before is not None and any(alias != server for alias, server in before.servers.items()):
        for alias in before.servers:
            _servers.pop(alias, None)
        number += 1
        for alias in before.servers:
            drop_pools(alias)


def found(primary: str) -> None:
    """Somebody looked who the primary is, and what is in force is the answer."""
    _known.add(primary)


def put(primary: str, after: Placement, *, gone: bool) -> None:
    """Put a placement in force. On the monitor's thread; nobody waits for anything.

    ``gone``: the former primary does not answer, so that whoever waits for it waits in vain.
    """
    global number
    before = _present[primary]
    _present[primary] = after
    moved = {
        alias: before.alias_of(server) for alias, server in after.servers.items() if before.servers[alias] != server
    }
    if not moved:
        return
    _core.moved(primary, moved)
    for alias, server in after.servers.items():
        if alias == server:
            _servers.pop(alias, None)
        else:
            _servers[alias] = server
    number += 1
    if gone:
        # So that no thread waits for its answer for ever.
        lines.hang_up(primary, before.servers[primary])
    for alias in moved:
        drop_pools(alias)
    old, new = before.servers[primary], after.servers[primary]
    if old != new:
        logger.warning(
            "The primary of %r is now the server of %r: it takes writes, and that of %r %s.",
            primary,
            new,
            old,
            "does not answer" if gone else "does not",
        )
        primary_changed.send_robust(sender=_core.ReplicaRouter, cluster=primary, old=old, new=new)
        if gone:
            # It was found down as the primary; as a replica it is so from the beginning.
            alias = after.alias_of(old)
            replica_ejected.send_robust(sender=_core.ReplicaRouter, alias=alias, cluster=primary, state="down")


def snapshot() -> dict[str, str]:
    """Of each alias the alias whose settings lead to its server, for those that are followed."""
    return {alias: server for placement in list(_present.values()) for alias, server in placement.servers.items()}


# Connections of our engines


def prepare(connection: ReplicantMixin) -> None:
    """Before a connection is opened: have the server behind its alias looked for."""
    try:
        role = _core.role(connection.alias)
    except Exception:
        # ``manage.py check`` says what is wrong with the settings, and must be able to connect.
        return
    if role is None:
        return
    _core.watch()
    if role == "primary" and connection.alias in _present and connection.alias not in _known:
        _await(connection.alias)
    _direct(connection)


def _await(primary: str) -> None:
    """Wait for the monitor's first look, once in the life of a process: its settings may name a former primary."""
    if asyncio._get_running_loop() is not None:
        return
    until = time.monotonic() + _LONGEST_WAIT
    while primary in _present and primary not in _known and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    _known.add(primary)


def _direct(connection: ReplicantMixin) -> None:
    """Give a connection the settings of the server behind its alias."""
    server = server_of(connection.alias)
    if server != connection.replicant_server:
        own = connections.settings[connection.alias]
        there = connections.settings[server]
        # The settings themselves where nothing was moved: test databases change them, and mean every connection's.
        connection.settings_dict = own if there is own else {**own, **{key: there[key] for key in _KEYS}}
        connection.replicant_server = server
        if there is own:
            connection.__dict__.pop("_connection_pools", None)
        else:
            connection.__dict__["_connection_pools"] = _pools.setdefault((connection.alias, server), {})


def drop_pools(alias: str) -> None:
    """Close what Django keeps open for all threads to the servers that are, or were, behind ``alias``."""
    with contextlib.suppress(Exception):
        wrapper = load_backend(connections.settings[alias]["ENGINE"]).DatabaseWrapper
        own = getattr(wrapper, "_connection_pools", {})
        for pools in (own, *(pools for (other, _), pools in list(_pools.items()) if other == alias)):
            engine_of(wrapper).drop_pool(pools, alias)


def is_followed(connection: ReplicantMixin) -> bool:
    """Whether a connection leads, or is about to, to the server that is now behind its alias."""
    return server_of(connection.alias) == connection.replicant_server


def follow(connection: ReplicantMixin) -> None:
    """Before a connection is used, after the placement has changed: end its session, if its server is now elsewhere.

    Raises ``OperationalError`` if that ends a transaction.
    """
    seen = number
    if connection.connection is None or is_followed(connection):
        connection.replicant_placement = seen
        return
    tracker = connection.__dict__.get("_replicant_tracker")
    in_text = tracker is not None and tracker.in_text_transaction
    if not (connection.in_atomic_block or not connection.autocommit or in_text):
        connection.close()
        connection.replicant_placement = seen
    elif _core.role(connection.alias) == "primary":
        connection.close()
        connection.replicant_placement = seen
        raise OperationalError(
            f"The server behind {connection.alias!r} has changed: this transaction was with the former primary, and is "
            "rolled back. Nothing of it is repeated."
        )


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting == "DATABASES":
        keep(set())


setting_changed.connect(_changed, dispatch_uid="replicant.placement")
