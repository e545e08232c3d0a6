"""Reports of a site's own code on the members that it reads from, for the health of these members."""

from __future__ import annotations

from replicant.connections.observations import report

__all__ = ["report"]
