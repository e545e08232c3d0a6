"""MySQL and MariaDB with geographic fields."""

from __future__ import annotations

from django.contrib.gis.db.backends.mysql import base

from replicant.backends import ReplicantMixin


class DatabaseWrapper(ReplicantMixin, base.DatabaseWrapper):
    """Django's database wrapper with the features of ``ReplicantMixin``."""
