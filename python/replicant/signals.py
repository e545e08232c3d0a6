"""What a site may want to hear of: alerts, metrics, a line in a chat.

Sent by the thread that found it, the monitor's or one whose read failed, in each process; never with a lock held. What
a receiver raises is logged and goes no further.
"""

from __future__ import annotations

from django.dispatch import Signal

__all__ = ["primary_changed", "replica_ejected", "replica_restored"]

primary_changed = Signal()
"""Another server is behind the alias of a primary, and the former one behind that of the replica that was promoted.
``sender`` is ``replicant.ReplicaRouter``; ``cluster`` is the alias of the primary, as ever; ``old`` and ``new`` say
which servers these were and are: the aliases whose settings lead to them."""

replica_ejected = Signal()
"""A replica gets no more reads. ``sender`` is ``replicant.ReplicaRouter``; ``alias`` (of the replica), ``cluster`` (the
alias of its primary) and ``state``: ``"down"``, ``"ejected"`` or ``"lagging"``."""

replica_restored = Signal()
"""A replica that got none gets reads again. The same arguments; ``state`` is ``"up"``."""
