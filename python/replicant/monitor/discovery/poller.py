"""Queries which servers replicate from the primary, and judges the answers.

The query has its own thread and connection beside the monitor's: a slow view, for example one that waits for a lock,
must not be mistaken for a primary that does not answer.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from replicant.connections import observations
from replicant.engines import Sample
from replicant.monitor import discovery, topology
from replicant.monitor.discovery import Member, Unusable
from replicant.monitor.prober import Prober
from replicant.monitor.topology import View
from replicant.threads import Wakeup

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant import conf

logger = logging.getLogger("replicant")

#: The same complaint is logged again after this many seconds.
_SECONDS_PER_COMPLAINT = 300.0
_LONGEST_REASON = 500
#: The primary is queried again after this fraction of the interval, because jitter may shorten a cycle by the rest.
_INTERVAL = 0.9


class Looks:
    """Combines successive views: a new server is present at once; a missing one is gone when two in a row lack it."""

    def __init__(self) -> None:
        self._missing: frozenset[str] = frozenset()

    def settled(self, present: frozenset[str], seen: frozenset[str]) -> frozenset[str]:
        """The servers that are present after ``seen``, where ``present`` were present before."""
        missing = present - seen
        gone, self._missing = missing & self._missing, missing
        return seen | (missing - gone)

    def interrupted(self) -> None:
        """A query failed: the next view is the first of a row."""
        self._missing = frozenset()


class Scout:
    """Follows the members of one cluster, in the process that probes. Used by the monitor's thread."""

    def __init__(self, timeout: float, answered: Wakeup) -> None:
        self._timeout = timeout
        self._answered = answered
        self._explorer: _Explorer | None = None
        self._ending: list[_Explorer] = []
        self._looks = Looks()
        self._asked_at = 0.0
        #: The servers that the last good views had; None before the first.
        self._seen: frozenset[str] | None = None
        #: The complaints that were logged, and when.
        self._complaints: dict[str, float] = {}
        self._limit = observations.Limit()

    def wanted(self) -> frozenset[str]:
        """The servers that the monitor must probe."""
        return self._seen or frozenset()

    def begin(self, view: View) -> None:
        """Go on from the view that another process has found."""
        if self._seen is None:
            self._seen = view.present

    def ask(self, cluster: conf.Cluster, server: str, settings: Mapping[str, Any]) -> None:
        """Query ``server``, the primary, unless it was queried within the interval. Does not wait."""
        explorer = self._explorer_of(cluster, server, settings)
        if time.monotonic() - self._asked_at >= (cluster.probe or 0.0) * _INTERVAL:
            self._asked_at = time.monotonic()
            explorer.ask()

    def look(self, cluster: conf.Cluster, server: str, samples: Mapping[str, Sample]) -> View:
        """The present view, given the last ``samples`` of the servers, of which ``server`` is the primary.

        The view does not show whether new members answer at all.
        """
        listed = frozenset((cluster.primary, *topology.listed(cluster)))
        if self._seen is None:
            self._seen = topology.present(cluster)
        found = topology.view_of(cluster.primary).found
        answer = self._explorer.take_members() if self._explorer is not None else None
        if isinstance(answer, Unusable):
            self._looks.interrupted()
            self._complain(cluster, str(answer))
        elif answer is not None:
            seen, new, refused = topology.recognised(cluster, answer, samples, server)
            if refused:
                hosts = ", ".join(sorted(set(refused)))
                self._complain(cluster, f"ALLOW does not permit the template's credentials for {hosts}", rest=True)
            if seen:
                # The first view may lack a server that is present, as any other view may.
                self._seen = self._looks.settled(listed - {cluster.primary} if self._seen is None else self._seen, seen)
                found = {**found, **new}
            else:
                self._looks.interrupted()
                if not refused:
                    self._complain(cluster, "the servers report no member other than the primary")
        return View(found, self._seen, listed)

    def stop(self) -> None:
        """Tell the thread to end. Does not wait."""
        if self._explorer is not None:
            self._explorer.stop()
            self._ending.append(self._explorer)
            self._explorer = None
        # Another process discovers the members until this process does so again.
        self._seen = None
        self._ending = [explorer for explorer in self._ending if not explorer.ended]

    @property
    def ended(self) -> bool:
        return all(explorer.ended for explorer in self._ending)

    def _explorer_of(self, cluster: conf.Cluster, server: str, settings: Mapping[str, Any]) -> _Explorer:
        explorer = self._explorer
        if explorer is None or not explorer.is_for(cluster, server, settings):
            seen = self._seen if explorer is None or explorer.topology == cluster.topology else None
            self.stop()
            self._seen = seen
            self._looks.interrupted()
            assert cluster.topology is not None
            kind = _Resolver if cluster.topology["METHOD"] == "dns" else _Explorer
            explorer = self._explorer = kind(cluster, server, settings, self._timeout, self._answered)
            self._asked_at = 0.0
        return explorer

    def _complain(self, cluster: conf.Cluster, why: str, *, rest: bool = False) -> None:
        # Servers have written parts of the text, so unprintable characters are replaced.
        why = "".join(letter if letter.isprintable() else " " for letter in why[:_LONGEST_REASON])
        now = time.monotonic()
        self._complaints = {text: at for text, at in self._complaints.items() if now - at < _SECONDS_PER_COMPLAINT}
        if why in self._complaints or not self._limit.admits():
            return
        self._complaints[why] = now
        what = "the other members that were found are followed" if rest else "the members stay as they are"
        logger.warning("The TOPOLOGY of %r cannot be followed (%s); %s.", cluster.primary, why, what)


class _Explorer(Prober):
    """Queries one server, which is the primary, for the servers that replicate from it."""

    def __init__(
        self, cluster: conf.Cluster, server: str, settings: Mapping[str, Any], timeout: float, answered: Wakeup
    ) -> None:
        assert cluster.topology is not None
        self.topology = cluster.topology
        self._found: Sequence[Member] | Unusable | None = None
        super().__init__(server, settings, timeout, answered, name=f"replicant-scout-{cluster.primary}")

    def is_for(self, cluster: conf.Cluster, server: str, settings: Mapping[str, Any]) -> bool:
        return (self.alias, self.settings, self.topology) == (server, settings, cluster.topology)

    def ask(self) -> None:
        if not self.is_busy:
            self._found = None
        super().ask()

    def take_members(self) -> Sequence[Member] | Unusable | None:
        """The result since the last call; None if there is none."""
        sample = self.take()
        if sample is None:
            return None
        return self._found if sample.error is None else Unusable(sample.error)

    def _probe(self, connection: BaseDatabaseWrapper) -> Sample:
        sample = super()._probe(connection)
        try:
            self._found = discovery.members(connection, self.topology, sample)
        except Unusable as error:
            self._found = error
        return sample


class _Resolver(_Explorer):
    """Resolves the template's HOST to its addresses."""

    def is_for(self, cluster: conf.Cluster, server: str, settings: Mapping[str, Any]) -> bool:
        # The addresses do not depend on which server is the primary.
        return self.topology == cluster.topology

    def _asked_twice(self) -> Sample:
        from django.db import connections

        template = connections.settings[self.topology["TEMPLATE"]]
        asked_at = time.monotonic_ns()
        try:
            self._found = discovery.resolved(template["HOST"], int(template["PORT"]) if template["PORT"] else None)
        except Unusable as error:
            self._found = error
        return Sample(self.alias, "", True, None, asked_at, (time.monotonic_ns() - asked_at) / 1e9)
