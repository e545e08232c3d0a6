"""The errors at run time. A wrong configuration raises Django's ``ImproperlyConfigured``."""

from __future__ import annotations

from django.db import DatabaseError, OperationalError


class ReplicantError(Exception):
    """The base of this package's own errors."""


class NoReplicaAvailable(ReplicantError, OperationalError):
    """No replica may serve a read, and ``ON_UNAVAILABLE`` or ``PRIMARY_SPILL`` keeps the read off the primary."""


class UnfitSession(NoReplicaAvailable):
    """A session with a replica lacks the position that the current scope requires; the statement was not sent."""

    def __init__(self, alias: str) -> None:
        super().__init__(
            f"The session with the replica {alias!r} lacks data that this code has written or read: its server is not "
            "the same as before, or has lost data, or is behind. Nothing was sent on it. Repeat the read, which then "
            "goes to a server that has the data (the engines replicant.backends.* do that), or accept older data with "
            "use_replica(stale_ok=True)."
        )


class ReplicaWriteError(ReplicantError, DatabaseError):
    """A write, or a lock, was sent to a replica."""
