"""PostgreSQL."""

from __future__ import annotations

from django.db.backends.postgresql import base

from replicant.backends import ReplicantMixin


class DatabaseWrapper(ReplicantMixin, base.DatabaseWrapper):
    """Django's own, with what ``ReplicantMixin`` adds."""
