"""Discovers the replicas of a cluster by the servers' own view. One file per method of ``TOPOLOGY``.

Each method queries the primary, because only the primary knows the replicas that follow it. A method raises
:class:`Unusable` rather than leave a replica out, because a replica that is left out gets no reads. The result is not
trusted yet: a server prints whatever its replicas claim to be. ``ALLOW`` decides elsewhere which hosts may get
credentials.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.db import DatabaseError

from replicant.engines import engine_of
from replicant.monitor.discovery import aurora, group_replication, mysql, postgresql
from replicant.monitor.discovery.dns import resolved
from replicant.monitor.discovery.member import Member, Unusable

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant.engines import Sample

__all__ = ["Member", "Unusable", "members", "resolved"]

_METHODS: dict[str, Callable[[BaseDatabaseWrapper, Mapping[str, str]], list[Member]]] = {
    "mysql": mysql.replicas,
    "group_replication": group_replication.replicas,
    "postgresql": postgresql.replicas,
    "aurora": aurora.replicas,
}
_ERROR_LENGTH = 300


def members(connection: BaseDatabaseWrapper, topology: Mapping[str, Any], sample: Sample) -> list[Member]:
    """The replicas of a primary, never the primary itself, each once, sorted.

    Takes one round trip, on the driver's own cursor.

    :param connection: an open session with the server behind the primary's alias, in autocommit, used only here
    :param topology: the setting ``TOPOLOGY``; every METHOD except "dns", for which there is :func:`resolved`
    :param sample: the result of a probe that has just run over this session
    :raises Unusable: the view is empty, partial or stale, or this user may not see it
    :raises django.db.DatabaseError: the session is gone
    """
    if sample.error is not None or not sample.is_writable:
        # Its own replicas are at best some of the cluster's, and the server may itself be a replica by now.
        raise Unusable("the server asked takes no writes: it is not the primary, or not any more")
    method, hosts = topology["METHOD"], topology.get("HOSTS") or {}
    try:
        found = _METHODS[method](connection, hosts)
    except DatabaseError as error:
        if engine_of(connection).is_gone(error):
            raise
        text = " ".join(str(error).split())[:_ERROR_LENGTH]
        raise Unusable(f"this server does not answer what METHOD {method!r} asks: {text}") from error
    if not found:
        raise Unusable("it names no replica at all")
    found = sorted(set(found), key=lambda member: (member.host, member.port or 0, member.server))
    for one, other in itertools.pairwise(found):
        if (one.host, one.port) == (other.host, other.port):
            raise Unusable(f"two replicas are reached at {_address(one)}: tell them apart in HOSTS")
    return found


def _address(member: Member) -> str:
    return member.host if member.port is None else f"{member.host} port {member.port}"
