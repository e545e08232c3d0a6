"""PostgreSQL."""

from __future__ import annotations

from django.db.backends.postgresql import base

from replicant.backends import ReplicantMixin


class DatabaseWrapper(ReplicantMixin, base.DatabaseWrapper):
    """Django's database wrapper with the features of ``ReplicantMixin``."""
