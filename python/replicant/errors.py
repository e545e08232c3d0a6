"""What can go wrong at run time. A wrong configuration is Django's ``ImproperlyConfigured``."""

from __future__ import annotations

from django.db import DatabaseError, OperationalError


class ReplicantError(Exception):
    """The base of this package's own errors."""


class NoReplicaAvailable(ReplicantError, OperationalError):
    """No replica may serve a read, and ``ON_UNAVAILABLE`` or ``PRIMARY_SPILL`` keeps it off the primary."""


class ReplicaWriteError(ReplicantError, DatabaseError):
    """A write, or a lock, was sent to a replica."""
