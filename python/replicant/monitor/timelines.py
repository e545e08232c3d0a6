"""Finds the timeline of PostgreSQL's standbys where the monitor's user may not read it.

After a promotion, an ordinary user sees the old timeline until the standby's next restart point, and positions of two
timelines cannot be compared: a healthy standby would count as lagging. The monitor therefore writes marks to the
primary's log. A standby that has the marks is on the primary's timeline (:func:`replicant.engines.postgresql.mark`).

A standby may have replayed past the log position where the new timeline began. That proves nothing: a standby that
follows the old primary may have done so, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from replicant._core import Position
from replicant.engines import postgresql

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant.engines import Sample


class _Primary(NamedTuple):
    server: str
    timeline: int
    marks: postgresql.Marks | None


class Timelines:
    """The timelines of one cluster. Used by the threads of its probers, each of which probes one server."""

    def __init__(self) -> None:
        self._primary: _Primary | None = None
        #: Whether a standby has reported an earlier timeline.
        self._is_in_doubt = False

    def completed(self, connection: BaseDatabaseWrapper, sample: Sample, *, is_primary: bool) -> Sample:
        """The sample just taken on ``connection``, with the timeline that was found for the server."""
        position = sample.position
        if position is None or position.kind != "postgresql" or connection.vendor != "postgresql":
            return sample
        timeline = postgresql.timeline_of(position)
        if sample.is_writable:
            if is_primary:
                self._look_at_primary(connection, sample.server, timeline)
            return sample
        primary = self._primary
        if primary is None or timeline >= primary.timeline:
            return sample
        self._is_in_doubt = True
        if primary.marks is None or not postgresql.has_marks(connection, primary.marks):
            return sample
        sample = sample._replace(
            position=Position("postgresql", f"{primary.timeline}:{str(position).partition(':')[2]}")
        )
        postgresql.learn(sample)
        return sample

    def _look_at_primary(self, connection: BaseDatabaseWrapper, server: str, timeline: int) -> None:
        primary = self._primary
        if primary is None or primary[:2] != (server, timeline):
            self._primary = primary = _Primary(server, timeline, None)
            self._is_in_doubt = False
        elif primary.marks is None and self._is_in_doubt:
            self._primary = primary._replace(marks=postgresql.mark(connection))
