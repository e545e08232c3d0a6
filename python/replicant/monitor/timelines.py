"""On which timeline PostgreSQL's standbys are, where the monitor's user may not read that.

After a promotion an ordinary user is told the old timeline until the standby's next restart point, and positions of two
timelines cannot be compared: a healthy standby would count as one that lags. The primary's log is marked, and a standby
that has the marks is on its timeline (:func:`replicant.engines.postgresql.mark`).

That a standby has replayed more than the place where the new timeline began says nothing: one that follows the old
primary has that, too.
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
    """Those of one cluster. Used by the threads of its probers, each of which asks one server."""

    def __init__(self) -> None:
        self._primary: _Primary | None = None
        #: Whether a standby is on an earlier timeline, as far as it tells.
        self._is_in_doubt = False

    def completed(self, connection: BaseDatabaseWrapper, sample: Sample, *, is_primary: bool) -> Sample:
        """The sample just made on ``connection``, with the timeline that the server is found on."""
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
