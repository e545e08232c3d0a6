"""Who is the primary: judged by what the members say of themselves.

The obvious alternative, to take whoever is writable for the primary, gives writes to an old primary that was restarted
by an init system, and to any replica whose ``read_only`` nobody ever set. So the present one stays unless it says
itself that it takes no writes, or is gone; and the other must be known not to replicate, or to have been read-only
before.
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

#: So many looks in a row must find a primary gone and another one promoted. Where the old primary answers, and says
#: that it takes no writes, both sides agree, and one is enough.
_LOOKS = 2
#: Two that take writes are a matter for a human: it is said again after so many seconds.
_SECONDS_PER_COMPLAINT = 60.0


class Judge:
    """Judges one cluster, cycle by cycle. Does no I/O, and reads no clock but to keep its complaints apart."""

    def __init__(self, primary: str) -> None:
        self.is_undecided = False
        """Whether another look is wanted soon."""
        self.were_read_only: set[str] = set()
        """The servers that were seen to take no writes, here or in another process."""
        self._primary = primary
        self._placement: Placement | None = None
        self._suspected: tuple[str, int] | None = None
        #: What the present primary had written when it was last seen to take writes.
        self._written: Position | None = None
        #: Of each outsider: what it must have, and what it had when it was last asked.
        self._marks: dict[str, Position] = {}
        self._heard: dict[str, Sample] = {}
        self._complaints: dict[str, float] = {}

    def doubts(self, placement: Placement, sample: Sample) -> bool:
        """Whether a server is to be asked if it replicates: where its role is not the one that it has here."""
        is_primary = sample.alias == placement.servers[self._primary]
        return sample.alias in placement.outsiders or sample.is_writable != is_primary

    def judge(self, placement: Placement, samples: Sequence[Sample]) -> Placement:
        """The placement after ``samples``, which name servers, and were all made since this was last called."""
        if self._placement is None or self._placement != placement:
            self._begin(placement)
        found = {sample.alias: sample for sample in samples}
        self.were_read_only |= {each.alias for each in samples if each.error is None and not each.is_writable}
        before, placement = placement, self._judge_primary(placement, found)
        if placement != before:
            # The server that was just replaced has yet to be asked if it replicates.
            return placement
        for server in placement.outsiders:
            if server in found and self._has_rejoined(found[server], found.get(placement.servers[self._primary])):
                placement = placement._replace(outsiders=placement.outsiders - {server})
                alias = placement.alias_of(server)
                logger.info("The former primary replicates again, and may serve as %r.", alias)
        return placement

    def _begin(self, placement: Placement) -> None:
        """Judge from another placement than before: what was found so far was found for that one."""
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
            # It still has time to answer.
            self._suspected = suspected
            return placement
        # Where the settings have no alias for the present primary, another server that is not it is behind the alias.
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
        # A former primary lacks what was written since, whatever it and the present primary say of themselves.
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
                # It, too, still has time to answer: on a busy machine one or the other always would be late.
                self._suspected, self.is_undecided = suspected, True
            return placement
        (promoted,) = claimants
        looks = suspected[1] + 1 if suspected is not None and suspected[0] == promoted else 1
        if (answers and promoted not in placement.outsiders) or looks >= _LOOKS:
            return placement.promoting(self._primary, promoted)
        self._suspected, self.is_undecided = (promoted, looks), True
        return placement

    def _contains_all(self, candidate: Sample, present: Sample) -> bool:
        """Whether a candidate has what the present primary has, which takes no writes but answers.

        Where positions cannot be compared, what the servers say of their roles is all there is.
        """
        positions = [self._written]
        if present.position is not None and present.position.kind != "postgresql":
            # A PostgreSQL server that takes no writes still logs what its own background does.
            positions.append(present.position)
        for position in positions:
            if position is not None and candidate.position is not None and not _has(candidate.position, position):
                self._complain(
                    "lacks",
                    "The server of %r takes writes, but lacks what the present primary of %r (%r) has written: it is "
                    "not followed while that one answers.",
                    *(candidate.alias, self._primary, present.alias),
                )
                return False
        return True

    @staticmethod
    def _is_replaced_by(outsider: Sample, present: Sample) -> bool:
        """Whether a former primary was made the primary again while no process looked: the present one follows.

        The one that follows must not have anything that the former primary lacks.
        """
        return (
            present.replicates is True
            and present.position is not None
            and outsider.position is not None
            and outsider.position.contains(present.position)
        )

    @staticmethod
    def _returned(placement: Placement, found: Mapping[str, Sample], present: Sample) -> Placement:
        """Where the old primary's settings by now lead to the new one (an endpoint, a proxy), nothing is moved."""
        for server in placement.outsiders:
            if server in found and found[server] is not present and _is_same(found[server], present):
                outsiders = placement.outsiders - {server}
                return placement.promoting(placement.alias_of(present.alias), server)._replace(outsiders=outsiders)
        return placement

    def _is_credible(self, sample: Sample) -> bool:
        """Whether a server that takes writes was promoted: many replicas take them, for want of ``read_only``."""
        if sample.replicates is None:
            return sample.alias in self.were_read_only
        return not sample.replicates

    def _has_rejoined(self, sample: Sample, primary: Sample | None) -> bool:
        """Whether an outsider replicates: it has what the new primary had since, and nothing that one lacks."""
        if sample.error is not None or sample.is_writable or sample.replicates is False:
            self._heard.pop(sample.alias, None)
            return False
        if primary is None or primary.error is not None or not primary.is_writable:
            return False
        if primary.position is None:
            # Nothing can be compared: what it says of itself is all there is.
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
            "What is written on more than one of them is lost on the others.",
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
    """Whether a server that was promoted has ``position`` of the primary before, as far as positions can tell.

    A promotion on PostgreSQL begins a timeline with a higher number, whose positions cannot be compared with those
    before. The place in the log can: a server that is behind it lacks something. One that is past it may have parted
    earlier, which no user without privileges can find out.
    """
    if candidate.kind != "postgresql" or position.kind != "postgresql":
        return candidate.contains(position)
    (timeline, place), (timeline_before, place_before) = _timeline(candidate), _timeline(position)
    return timeline >= timeline_before and place >= place_before


def _timeline(position: Position) -> tuple[int, int]:
    """The timeline of a PostgreSQL position, and the place in its log."""
    timeline, _, place = str(position).partition(":")
    high, _, low = place.partition("/")
    return int(timeline), (int(high, 16) << 32) + int(low, 16)


def _is_same(one: Sample, other: Sample) -> bool:
    """Whether two aliases lead to one server."""
    return one is other or (one.error is None and other.error is None and one.identity == other.identity != "")
