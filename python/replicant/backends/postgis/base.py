"""PostgreSQL with PostGIS."""

from __future__ import annotations

from django.contrib.gis.db.backends.postgis import base

from replicant.backends import ReplicantMixin


class DatabaseWrapper(ReplicantMixin, base.DatabaseWrapper):
    """Django's database wrapper with the features of ``ReplicantMixin``."""
