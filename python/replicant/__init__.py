"""Read replicas for Django: reads leave the primary, and every client sees its own writes."""

from __future__ import annotations

import os

from replicant import _core
from replicant import wiring as wiring
from replicant._core import ReplicaRouter, __version__
from replicant.connections.guard import allow_functions
from replicant.errors import NoReplicaAvailable, ReplicantError, ReplicaWriteError
from replicant.inspection import Decision, explain, status
from replicant.monitor.reloading import reload
from replicant.scopes import request_scope, use_primary, use_replica
from replicant.tokens import after, token

__all__ = [
    "Decision",
    "NoReplicaAvailable",
    "ReplicaRouter",
    "ReplicaWriteError",
    "ReplicantError",
    "__version__",
    "after",
    "allow_functions",
    "explain",
    "reload",
    "request_scope",
    "status",
    "token",
    "use_primary",
    "use_replica",
]

# Reseed after a fork: a worker must not choose the same replicas as its parent and its siblings.
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_core.after_fork)
