"""Judges which server is the primary, by what the members report about themselves.

The obvious alternative is to take any writable server for the primary. It would send writes to an old primary that an
init system restarted, and to any replica on which ``read_only`` was never set. The present primary therefore stays,
unless it reports that it takes no writes, or is gone. A server replaces it only if that server is known not to
replicate, or was read-only before.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from replicant._core import Position
    from replicant.connections.placement import Placement
    from replicant.engines import Sample

logger = logging.getLogger("replicant")

#: This many judgements in a row must find the primary gone and the same other server promoted. One is enough if the old
#: primary answers and reports that it takes no writes, because both servers agree then.
_LOOKS = 2
#: A human must resolve two members that take writes: the error is logged again after this many seconds.
_SECONDS_PER_COMPLAINT = 60.0


class Judge:
    """Judges one cluster, cycle by cycle. Does no I/O, and reads the clock only to limit how often it complains."""

    def __init__(self, primary: str) -> None:
        self.is_undecided = False
        """Whether the next cycle should begin soon, because a promotion is suspected and not yet confirmed."""
        self.were_read_only: set[str] = set()
        """The servers that this process or another one has seen to be read-only."""
        self._primary = primary
        self._placement: Placement | None = None
        self._suspected: tuple[str, int] | None = None
        #: The position of the present primary when it was last seen to take writes.
        self._written: Position | None = None
        #: For each outsider: the position that it must contain, and its last sample.
        self._marks: dict[str, Position] = {}
        self._heard: dict[str, Sample] = {}
        self._complaints: dict[str, float] = {}

    def doubts(self, placement: Placement, sample: Sample) -> bool:
        """Whether to query if a server replicates: its reported role differs from its role in the placement."""
        is_primary = sample.alias == placement.servers[self._primary]
        return sample.alias in placement.outsiders or sample.is_writable != is_primary

    def judge(self, placement: Placement, samples: Sequence[Sample]) -> Placement:
        """The placement after ``samples``. They name servers, and all of them were taken since the last call."""
        if self._placement is None or self._placement != placement:
            self._begin(placement)
        found = {sample.alias: sample for sample in samples}
        self.were_read_only |= {each.alias for each in samples if each.error is None and not each.is_writable}
        before, placement = placement, self._judge_primary(placement, found)
        if placement != before:
            # The probe has not yet queried whether the server that was just replaced replicates.
            return placement
        for server in placement.outsiders:
            if server in found and self._has_rejoined(found[server], found.get(placement.servers[self._primary])):
                placement = placement._replace(outsiders=placement.outsiders - {server})
                alias = placement.alias_of(server)
                logger.info("The former primary replicates again, and may serve as %r.", alias)
        return placement

    def _begin(self, placement: Placement) -> None:
        """Judge from another placement than before, and drop the findings that hold only for the previous one."""
        before, self._placement = self._placement, placement
        self._suspected, self.is_undecided = None, False
        if before is None or before.servers[self._primary] != placement.servers[self._primary]:
            self._written = None
            self._marks.clear()
            self._heard.clear()
        for server in self._heard.keys() - placement.outsiders:
            self._heard.pop(server)
            self._marks.pop(server, None)

    def _judge_primary(self, placement: Placement, found: Mapping[str, Sample]) -> Placement:
        present = found.get(placement.servers[self._primary])
        suspected, self._suspected, self.is_undecided = self._suspected, None, False
        if present is None:
            # The present primary still has time to answer.
            self._suspected = suspected
            return placement
        # If no alias leads to the present primary, the server behind the primary's alias is a former primary.
        is_lost = present.alias in placement.outsiders
        answers = present.error is None and not is_lost
        if answers and present.is_writable:
            self._written = present.position or self._written
        writable = [each.alias for each in found.values() if each.is_writable and not _is_same(each, present)]
        claimants = [server for server in writable if self._is_credible(found[server])]
        if (answers and present.is_writable) or not (answers or present.is_gone or is_lost):
            if answers and claimants:
                self._complain_of_several(placement, claimants)
            return self._returned(placement, found, present)
        # A former primary lacks all later writes, whatever it and the present primary report about themselves.
        outsiders = [server for server in claimants if server in placement.outsiders]
        claimants = [server for server in claimants if server not in placement.outsiders]
        if not claimants and answers and len(outsiders) == 1 and self._is_replaced_by(found[outsiders[0]], present):
            claimants = outsiders
        if answers:
            claimants = [server for server in claimants if self._contains_all(found[server], present)]
        if len(claimants) != 1:
            if claimants:
                self._complain_of_several(placement, claimants)
            elif suspected is not None and suspected[0] not in found:
                # The suspected server still has time to answer, too: on a busy machine, one of the two would always be
                # late.
                self._suspected, self.is_undecided = suspected, True
            return placement
        (promoted,) = claimants
        looks = suspected[1] + 1 if suspected is not None and suspected[0] == promoted else 1
        if (answers and promoted not in placement.outsiders) or looks >= _LOOKS:
            return placement.promoting(self._primary, promoted)
        self._suspected, self.is_undecided = (promoted, looks), True
        return placement

    def _contains_all(self, candidate: Sample, present: Sample) -> bool:
        """Whether a candidate has everything that the present primary has, which answers but takes no writes.

        If positions cannot be compared, the roles that the servers report are the only evidence.
        """
        positions = [self._written]
        if present.position is not None and present.position.kind != "postgresql":
            # On PostgreSQL this would prove nothing: a server that takes no writes still logs its background activity.
            positions.append(present.position)
        for position in positions:
            if position is not None and candidate.position is not None and not _has(candidate.position, position):
                self._complain(
                    "lacks",
                    "The server of %r takes writes, but lacks writes of the present primary of %r (the server of %r): "
                    "it does not become the primary while the present primary answers.",
                    *(candidate.alias, self._primary, present.alias),
                )
                return False
        return True

    @staticmethod
    def _is_replaced_by(outsider: Sample, present: Sample) -> bool:
        """Whether a former primary was promoted again while no process was probing: the present primary follows it.

        The former primary must contain the position of the server that follows it.
        """
        return (
            present.replicates is True
            and present.position is not None
            and outsider.position is not None
            and outsider.position.contains(present.position)
        )

    @staticmethod
    def _returned(placement: Placement, found: Mapping[str, Sample], present: Sample) -> Placement:
        """The placement, changed if an outsider's settings lead to the present primary by now (an endpoint, a proxy).

        The primary's alias then uses those settings, and the outsider is not an outsider any more.
        """
        for server in placement.outsiders:
            if server in found and found[server] is not present and _is_same(found[server], present):
                outsiders = placement.outsiders - {server}
                return placement.promoting(placement.alias_of(present.alias), server)._replace(outsiders=outsiders)
        return placement

    def _is_credible(self, sample: Sample) -> bool:
        """Whether a server that takes writes was promoted: without ``read_only``, many replicas take writes, too."""
        if sample.replicates is None:
            return sample.alias in self.were_read_only
        return not sample.replicates

    def _has_rejoined(self, sample: Sample, primary: Sample | None) -> bool:
        """Whether an outsider replicates: it has later writes of the primary, and nothing that the primary lacks."""
        if sample.error is not None or sample.is_writable or sample.replicates is False:
            self._heard.pop(sample.alias, None)
            return False
        if primary is None or primary.error is not None or not primary.is_writable:
            return False
        if primary.position is None:
            # Positions cannot be compared: the outsider's own report is the only evidence.
            return sample.replicates is True
        mark = self._marks.setdefault(sample.alias, primary.position)
        before = self._heard.get(sample.alias)
        self._heard[sample.alias] = sample
        return (
            sample.position is not None
            and sample.position.contains(mark)
            and before is not None
            and before.position is not None
            and primary.asked_at >= before.asked_at + before.latency * 1e9
            and primary.position.contains(before.position)
        )

    def _complain_of_several(self, placement: Placement, claimants: Sequence[str]) -> None:
        self._complain(
            "several",
            "Several members of %r take writes: the server of %r, which stays the primary, and of %s. "
            "A write on one of them is missing on the others.",
            self._primary,
            placement.servers[self._primary],
            ", ".join(repr(server) for server in sorted(claimants)),
        )

    def _complain(self, what: str, message: str, *arguments: object) -> None:
        now = time.monotonic()
        if what not in self._complaints or now - self._complaints[what] > _SECONDS_PER_COMPLAINT:
            self._complaints[what] = now
            logger.error(message, *arguments)


def _has(candidate: Position, position: Position) -> bool:
    """Whether a promoted server has ``position`` of the previous primary, as far as positions can tell.

    A promotion on PostgreSQL begins a timeline with a higher number, and positions of two timelines cannot be compared.
    Log offsets can be compared: a server that is behind the offset lacks something. A server that is past it may have
    diverged earlier; a user without privileges cannot find that out.
    """
    if candidate.kind != "postgresql" or position.kind != "postgresql":
        return candidate.contains(position)
    (timeline, place), (timeline_before, place_before) = _timeline(candidate), _timeline(position)
    return timeline >= timeline_before and place >= place_before


def _timeline(position: Position) -> tuple[int, int]:
    """The timeline and the log offset of a PostgreSQL position."""
    timeline, _, place = str(position).partition(":")
    high, _, low = place.partition("/")
    return int(timeline), (int(high, 16) << 32) + int(low, 16)


def _is_same(one: Sample, other: Sample) -> bool:
    """Whether two aliases lead to one server."""
    return one is other or (one.error is None and other.error is None and one.identity == other.identity != "")
