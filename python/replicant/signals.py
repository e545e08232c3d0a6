"""Signals for alerts, metrics or chat messages.

In each process, the thread that found the change sends the signal: the monitor's thread, or a thread with a failed
read. No lock is held. An error that a receiver raises is logged and not passed on.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["primary_changed", "replica_ejected", "replica_restored"]

primary_changed = Signal()
"""Another server is now behind the alias of a primary, and the former primary is behind the alias of the promoted
replica. ``sender`` is ``replicant.ReplicaRouter``; ``cluster`` is the alias of the primary, which never changes;
``old`` and ``new`` name the former and the present server by the aliases that have their settings."""

replica_ejected = Signal()
"""A replica gets no more reads. ``sender`` is ``replicant.ReplicaRouter``. The arguments are ``alias`` (of the
replica), ``cluster`` (the alias of its primary) and ``state``: ``"down"``, ``"ejected"`` or ``"lagging"``."""

replica_restored = Signal()
"""A replica that got no reads gets reads again. The arguments are those of ``replica_ejected``; ``state`` is
``"up"``."""
