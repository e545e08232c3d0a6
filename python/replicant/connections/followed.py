"""A connection of one of our engines, as the modules of this room see it: it follows the server behind its alias."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper as _Base
else:
    _Base = object


class FollowedConnection(_Base):
    """The attributes that :class:`replicant.backends.ReplicantMixin` adds to one of Django's database wrappers."""

    replicant_server: str
    """The alias whose settings lead to the server that this connection uses."""
    replicant_placement: int
    """The version of the placements that this connection was last compared with."""
