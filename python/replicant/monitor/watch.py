"""Watches one cluster: asks its members or reads what another process found, judges, and passes it on.

The file is long, since it is one state machine: a cycle runs from top to bottom, and every part of it shares the state.
"""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Container, Sequence
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from replicant import conf
from replicant.connections import observations, server_map, sockets
from replicant.connections.placement import Placement
from replicant.engines import Sample, postgresql
from replicant.monitor import topology
from replicant.monitor.discovery.poller import Scout
from replicant.monitor.prober import Prober
from replicant.monitor.promotion import Judge
from replicant.monitor.shared_file import Published, Samples, name_of
from replicant.monitor.timelines import Timelines
from replicant.monitor.topology import View
from replicant.private_folder import CannotShare
from replicant.threads import Wakeup, import_driver, start_thread

logger = logging.getLogger("replicant")

#: Takes the samples that are new to this process, once in a cycle, on the monitor's thread.
Consumer = Callable[[Sequence[Sample]], None]

#: A member has this part of the interval to answer, so that the next cycle finds it late, whatever its jitter;
#: but at least and at most so many seconds.
_TIMEOUT_INTERVALS = 0.8
_TIMEOUT = (0.8, 5.0)
#: For this part of the interval, and never beyond the time to answer, a cycle waits for those that were in time before.
_PATIENCE = 0.5
#: Each cycle is up to this much shorter or longer, so that the hosts of a site do not ask all at once.
_JITTER = 0.1
#: Those who are no prober look more often than it publishes, so that what they have is never two intervals old.
_LOOKS_PER_INTERVAL = 2
#: Without news for so many intervals, the prober counts as stuck, and this process asks for itself.
_STUCK_INTERVALS = 4
#: No cycle follows another in less than this part of the interval, however often it is asked for.
_LEAST_PAUSE = 0.1
#: A prober that was killed so long ago says nothing of who the primary is now.
_RECENT_NS = 60 * 10**9
#: Reads that wait are looked after so often, in seconds: a replica that has kept a read waiting for so long, and has
#: not answered a probe since, is asked at once, and not waited for if it does not answer within the shortest timeout.
_CHECK_SECONDS = 0.1
_SUSPICIOUS_SECONDS = 0.15
#: A process that wakes up so much later than it meant to, in seconds, is starved, or was stopped: what the servers have
#: not answered by then may be its own fault.
_LATE_SECONDS = 0.25
#: While every member is silent, the fault is most likely on this side. After so many seconds it counts all the same.
_COMMON_SILENCE_SECONDS = 5.0
#: How long the end of a watch waits for probes to end, in seconds.
STOP_SECONDS = 0.1


class Watch:
    """Watches one cluster, on a thread of its own."""

    def __init__(self, cluster: conf.Cluster, interval: float) -> None:
        self.name = cluster.primary
        self.interval = interval
        self.stopping = False
        #: By server, not by member.
        self._latest: dict[str, Sample] = {}
        self._judge = Judge(cluster.primary)
        self.ended = False
        self._timeout = min(max(interval * _TIMEOUT_INTERVALS, _TIMEOUT[0]), _TIMEOUT[1])
        self._patience = min(interval * _PATIENCE, self._timeout)
        self._longest_cycle = interval + self._timeout + self._patience
        self._probers: dict[str, Prober] = {}
        #: Those that were told to end.
        self._leaving: list[Prober] = []
        self._samples: Samples | None = None
        self._published: Published | None = None
        self._reading_since: int | None = None
        self._has_complained = False
        self._woken = Wakeup()
        self._answered = Wakeup()
        #: When this thread last woke up late (``time.monotonic_ns()``).
        self._late_at = 0
        #: Those that ask the servers of this process's own waiting reads, where another process is the prober.
        self._suspects: dict[str, Prober] = {}
        self._end = Wakeup()
        self._timelines = Timelines()
        self._scout = Scout(self._timeout, self._answered)
        self._file_name: str | None = None
        _import_drivers(cluster)
        self._adopt(cluster)
        start_thread(self._run, f"replicant-monitor-{cluster.primary}")

    @property
    def latest(self) -> list[Sample]:
        """The last sample of each member."""
        return self._placement.labelled(list(self._latest.values()))

    @property
    def is_probing(self) -> bool:
        return bool(self._probers)

    def wake(self) -> None:
        """Have the next cycle begin soon. Does not wait."""
        self._woken.ring()

    def follow(self, cluster: conf.Cluster) -> None:
        """Go on soon with the cluster as it is in force now. Does not wait; who stays a member notices nothing."""
        if cluster != self._cluster:
            _import_drivers(cluster)
            self._woken.ring()

    def stop(self) -> None:
        """Have it end. Does not wait."""
        self.stopping = True
        self._woken.ring()
        self._answered.ring()

    def wait(self, until: float) -> None:
        """Wait for the end, but not longer than ``until`` (``time.monotonic()``)."""
        while not self.ended and time.monotonic() < until:
            self._end.wait(until - time.monotonic())

    def abandon(self) -> None:
        """In a forked child: let go of what is the parent's, and do nothing to it."""
        if self._samples is not None:
            self._samples.abandon()

    def _name_of_file(self) -> str | None:
        try:
            secret = settings.SECRET_KEY
        except ImproperlyConfigured:
            # Others would see in the name what it was made of.
            return None
        key = secret if isinstance(secret, bytes) else str(secret).encode()
        # Those who were found are no part of it: they are found by whoever meets there.
        members = {alias: settings_of(alias) for alias in (self.name, *topology.listed(self._cluster))}
        return name_of(key, [self.name, self.interval, members, self._cluster.topology])

    def _adopt(self, cluster: conf.Cluster) -> None:
        """Go on with the cluster as it is now."""
        self._cluster = cluster
        self._placement = server_map.begin(cluster)
        self._is_followed = server_map.can_follow(cluster.primary)
        self._shared_roles: frozenset[str] = frozenset()
        name = self._name_of_file()
        if name != self._file_name:
            # Those with other settings meet elsewhere.
            self._let_go()
            self._published = None
            self._file_name = name

    def _reload(self) -> None:
        """Have in force what was found."""
        conf.load()
        self._adopt_present()

    def _adopt_present(self) -> None:
        for cluster in conf.in_force():
            if cluster.primary == self.name and cluster != self._cluster and not self.stopping:
                self._adopt(cluster)

    # On the thread.

    def _run(self) -> None:
        try:
            while not self.stopping:
                begun = time.monotonic()
                try:
                    pause = self._cycle()
                except Exception:
                    # What it is about to end for may be what it stumbled upon: aliases that are not there any more.
                    if not self.stopping:
                        logger.exception("The monitor of %r failed, and goes on.", self.name)
                    pause = self.interval
                # Drawn once for a cycle.
                self._rest(begun + pause * random.uniform(1 - _JITTER, 1 + _JITTER))
        finally:
            self._finish()

    def _cycle(self) -> float:
        """Find out what is new, and pass it on; returns the time from the beginning of this cycle to the next."""
        self._adopt_present()
        self._catch_up()
        begun = time.monotonic()
        if self._is_to_probe():
            found = self._probe()
            is_waiting = self._follow_members(self._look(found))
            self._note(found, self._probers)
            # What was found before another process decided is no reason to decide anything else. Neither is what was
            # found before this process was stopped for a while.
            is_news = self._catch_up() or time.monotonic() - begun > self._longest_cycle
            if self._is_followed and not is_news and not self.stopping:
                self._decide(self._judge.judge(self._placement, found))
            pause = self.interval * (_LEAST_PAUSE if self._judge.is_undecided or is_waiting else 1)
            is_decided = not self._judge.is_undecided
        else:
            found = self._read()
            self._follow_members(self._published and self._published.view)
            self._note(found, {sample.alias for sample in self._published.samples} if self._published else ())
            # Published samples were found with a placement that was shared before they were.
            self._catch_up()
            pause = self.interval / _LOOKS_PER_INTERVAL
            is_decided = self._published is not None and self._published.is_decided
        if is_decided and not self.stopping and self._placement.servers[self.name] in self._latest:
            server_map.found(self.name)
        self._publish()
        if found and not self.stopping:
            consumer(self._placement.labelled(found))
        return pause

    def _note(self, found: Sequence[Sample], watched: Container[str]) -> None:
        self._latest.update((sample.alias, sample) for sample in found)
        # Who comes back is to be looked at anew.
        for server in [server for server in self._latest if server not in watched]:
            del self._latest[server]

    def _look(self, found: Sequence[Sample]) -> View | None:
        if self._cluster.topology is None:
            return None
        samples = {**self._latest, **{sample.alias: sample for sample in found}}
        return self._scout.look(self._cluster, self._placement.servers[self.name], samples)

    def _follow_members(self, view: View | None) -> bool:
        """Put in force who was found; returns whether there is somebody else who is yet to be looked at."""
        if view is None or self.stopping:
            return False
        # Of these the core knows how far they are.
        answering = [server for server, sample in self._latest.items() if sample.error is None]
        if topology.put(self._cluster, view, answering):
            self._reload()
        return not (view.present or self._latest.keys()) <= self._latest.keys()

    def _catch_up(self) -> bool:
        """Go on with what any process of this host has decided; returns whether that is new."""
        if self.stopping or not self._is_followed:
            return False
        primary = self._placement.servers[self.name]
        read_only = server_map.catch_up(self.name, self.interval, gone=self._is_gone(primary))
        place = server_map.unlisted(self.name) if self._cluster.topology is not None else None
        if place is not None and (found := topology.found_at(self._cluster, *place)) is not None:
            # A server that TOPOLOGY found was promoted: a process that starts knows it from the others alone.
            self._follow_members(found)
            server_map.catch_up(self.name, self.interval, gone=self._is_gone(primary))
        self._shared_roles |= read_only
        self._judge.were_read_only |= read_only
        return self._has_moved(primary)

    def _decide(self, after: Placement) -> None:
        """Have this in force, in all processes of this host."""
        if not self._judge.were_read_only <= self._shared_roles:
            self._shared_roles = frozenset(self._judge.were_read_only)
            server_map.share_roles(self.name, self._shared_roles)
        if after != self._placement:
            primary = self._placement.servers[self.name]
            server_map.decide(self.name, self._placement, after, gone=self._is_gone(primary))
            self._has_moved(primary)

    def _has_moved(self, primary: str) -> bool:
        """Take up the placement that is in force; returns whether it is another one. ``primary``: the one before."""
        after = server_map.present(self.name) or self._placement
        if after == self._placement:
            return False
        self._placement = after
        if after.servers[self.name] != primary and self._is_gone(primary):
            # Another thread may have put it in force, which did not know that.
            sockets.hang_up(self.name, primary)
        if self._cluster.topology is not None:
            # Who is there was said of servers, and these are behind other aliases now.
            self._reload()
        return True

    def _is_gone(self, server: str) -> bool:
        return server in self._latest and self._latest[server].is_gone

    def _rest(self, until: float) -> None:
        earliest = time.monotonic() + self.interval * _LEAST_PAUSE
        until = max(until, earliest)
        while not self.stopping and (now := time.monotonic()) < until:
            if self._pause(self._woken, min(until - now, self._look_after_reads())):
                # What wakes this thread up wants news, and must not cause a storm of probes.
                until = max(earliest, time.monotonic())

    def _pause(self, bell: Wakeup, seconds: float) -> bool:
        """Wait for a bell, and note if that took much longer than it should. Returns whether it was rung."""
        due = time.monotonic() + max(0.0, seconds)
        is_rung = bell.wait(seconds)
        if time.monotonic() > due + _LATE_SECONDS:
            self._late_at = time.monotonic_ns()
        return is_rung

    # Reads that wait.

    def _look_after_reads(self) -> float:
        """Ask the replicas that keep reads of this process waiting, and end the wait for those that do not answer. Ask
        again, too, those that have missed a probe. Returns when to come here again, in seconds."""
        found, waited_for = [], set()
        for alias, server in self._placement.servers.items():
            since = sockets.waiting_since(alias, server) if alias != self.name else None
            if since is not None:
                waited_for.add(server)
                if (sample := self._look_after(server, since)) is not None:
                    found.append(sample)
        for server, prober in list(self._suspects.items()):
            if server not in waited_for and not prober.is_busy:
                self._end_prober(self._suspects.pop(server))
        owing = [prober for prober in self._probers.values() if prober.silence(self._late_at) > 0]
        for prober in owing:
            # One that is known to be silent has time until the next cycle.
            if prober.silence(self._late_at) >= self._timeout and not self._is_gone(prober.alias):
                sample = prober.take(self._late_at)
                found += [] if sample is None else [sample]
                if sample is None:
                    prober.ask()
        self._pass_on(found)
        if waited_for:
            return _CHECK_SECONDS / 2
        return _CHECK_SECONDS if sockets.is_in_use or owing else threading.TIMEOUT_MAX

    def _look_after(self, server: str, since: float) -> Sample | None:
        """What is found out about a replica for which a read has waited since ``since``.

        A read that waits for long is a question, too: with it and one probe, a silent server has missed two.
        """
        known = self._latest.get(server)
        heard = 0.0 if known is None or known.is_gone else known.asked_at / 1e9 + known.latency
        quiet = time.monotonic() - max(since, heard, self._late_at / 1e9)
        prober = self._probers.get(server) or self._suspects.get(server)
        if quiet < _SUSPICIOUS_SECONDS and (prober is None or not prober.is_busy):
            return None
        if prober is None:
            # Another process asks for all, and may be about to; but not because of this read.
            prober = Prober(server, settings_of(server), self._timeout, self._answered)
            self._suspects[server] = prober
        sample = prober.take(self._late_at)
        if sample is None and quiet >= sockets.HANG_UP_SECONDS and prober.silence(self._late_at) >= _TIMEOUT[0]:
            sample = prober.silent()
        if sample is None:
            prober.ask()
        return sample

    def _pass_on(self, found: Sequence[Sample]) -> None:
        found = self._credible(found)
        if found and not self.stopping:
            self._latest.update((sample.alias, sample) for sample in found)
            self._publish()
            consumer(self._placement.labelled(found))

    def _credible(self, found: Sequence[Sample]) -> list[Sample]:
        """What was found, but for the silence of members while all are silent: then the fault is on this side."""
        silences = [prober.silence(self._late_at) for prober in self._probers.values()]
        if len(silences) > 1 and all(silences) and min(silences) < _COMMON_SILENCE_SECONDS:
            return [sample for sample in found if not (sample.is_gone and sample.latency >= self._timeout)]
        return list(found)

    def _finish(self) -> None:
        self._dismiss(STOP_SECONDS)
        # Only now, so that there are never two probers' connections.
        self._let_go()
        self.ended = True
        self._end.ring()

    # Who probes.

    def _is_to_probe(self) -> bool:
        is_prober = self._elect()
        if is_prober is None or is_prober:
            self._reading_since = None
            return True
        self._reading_since = self._reading_since or time.monotonic_ns()
        assert self._samples is not None
        self._published = self._samples.read()
        # It lives, or its lock would be free; but it was stopped by a signal, or somebody has it in a debugger.
        heard_at = max(self._reading_since, self._published.at if self._published else 0)
        return time.monotonic_ns() - heard_at > _STUCK_INTERVALS * self.interval * 1e9

    def _elect(self) -> bool | None:
        """Whether this process probes for all; None if each has to probe for itself."""
        if self._file_name is None:
            return None
        # A prober that ends removes the file: then there is a new one to be had at once.
        for attempt in range(2):
            try:
                if self._samples is None:
                    self._samples = Samples(self._file_name)
                was_prober = self._samples.is_prober
                is_prober = self._samples.elect()
                if is_prober and not was_prober:
                    self._take_over()
                return is_prober
            except CannotShare as error:
                self._let_go()
                if attempt:
                    self._complain(error)
        return None

    def _take_over(self) -> None:
        """Begin with what the prober before found, if it was killed and this process has not read it."""
        assert self._samples is not None
        self._published = self._samples.read()
        published = self._published
        if published and published.view is not None and time.monotonic_ns() - published.at < _RECENT_NS:
            self._follow_members(published.view)
            self._scout.begin(published.view)

    def _publish(self) -> None:
        if self._samples is not None and self._samples.is_prober:
            try:
                view = topology.view_of(self.name) if self._cluster.topology is not None else None
                self._samples.publish(list(self._latest.values()), not self._judge.is_undecided, view)
            except CannotShare as error:
                self._let_go()
                self._complain(error)

    def _let_go(self) -> None:
        if self._samples is not None:
            # A primary that no settings name cannot be found by whoever is started now: it is the primary of the
            # settings that would have to tell of it, and that one is gone.
            server = self._placement.servers[self.name]
            is_found = server not in (self.name, *topology.listed(self._cluster))
            self._samples.close(leaves=is_found and not self._is_gone(server))
            self._samples = None

    def _complain(self, error: CannotShare) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning("No file to share samples in (%s): each process asks the servers for itself.", error)

    # Reading what another process found.

    def _read(self) -> list[Sample]:
        self._dismiss(0.0)
        found = [sample for sample in self._published.samples if self._is_new(sample)] if self._published else []
        for sample in found:
            if sample.position is not None and sample.position.kind == "postgresql":
                postgresql.learn(sample)
        return found

    def _is_new(self, sample: Sample) -> bool:
        known = self._latest.get(sample.alias)
        return known is None or (sample.asked_at >= known.asked_at and sample != known)

    # Asking the members.

    def _probe(self) -> list[Sample]:
        self._choose()
        for prober in self._probers.values():
            prober.ask()
        server = self._placement.servers[self.name]
        if self._cluster.topology is not None:
            self._scout.ask(self._cluster, server, self._probers[server].settings)
        # Those that were late the last time are not waited for; what they answer is passed on by the next cycle.
        punctual = [prober for prober in self._probers.values() if not prober.is_late]
        until = time.monotonic() + self._patience
        while any(prober.is_busy for prober in punctual) and (now := time.monotonic()) < until and not self.stopping:
            self._pause(self._answered, min(until - now, self._look_after_reads()))
        samples = [prober.take(self._late_at) for prober in self._probers.values()]
        return self._credible([sample for sample in samples if sample is not None])

    def _choose(self) -> None:
        """Have a prober for each member that is listed, or was found and is there, and for the primary."""
        servers = [self.name, *topology.listed(self._cluster)]
        if self._cluster.topology is not None:
            servers += sorted(self._scout.wanted() & self._placement.servers.keys())
        servers.append(self._placement.servers[self.name])
        members = {server: settings_of(server) for server in servers}
        for server, prober in list(self._probers.items()):
            if prober.settings != members.get(server):
                del self._probers[server]
                self._end_prober(prober)
        for server, member in members.items():
            if server not in self._probers:
                self._probers[server] = Prober(
                    server,
                    member,
                    self._timeout,
                    self._answered,
                    self._doubts,
                    is_primary=self._is_primary,
                    timelines=self._timelines,
                )

    def _end_prober(self, prober: Prober) -> None:
        prober.stop()
        self._leaving = [each for each in (*self._leaving, prober) if not each.ended]

    def _doubts(self, sample: Sample) -> bool:
        return self._judge.doubts(self._placement, sample)

    def _is_primary(self, server: str) -> bool:
        return server == self._placement.servers[self.name]

    def _dismiss(self, seconds: float) -> None:
        """Have the probers end, and wait up to so many seconds for them to close their connections."""
        for prober in self._probers.values():
            self._end_prober(prober)
        self._probers.clear()
        if self.stopping:
            for prober in self._suspects.values():
                self._end_prober(prober)
            self._suspects.clear()
        self._scout.stop()
        self._wait(
            lambda: self._scout.ended and all(prober.ended for prober in self._leaving), seconds, even_if_stopping=True
        )

    def _wait(self, is_done: Callable[[], bool], seconds: float, *, even_if_stopping: bool = False) -> None:
        until = time.monotonic() + seconds
        while not is_done() and time.monotonic() < until and (even_if_stopping or not self.stopping):
            self._pause(self._answered, until - time.monotonic())


def _import_drivers(cluster: conf.Cluster) -> None:
    aliases = [cluster.primary, *dict(cluster.replicas)]
    if cluster.topology is not None:
        aliases.append(cluster.topology["TEMPLATE"])
    for alias in aliases:
        import_driver(connections.settings[alias]["ENGINE"])


def settings_of(alias: str) -> dict[str, Any]:
    """What the monitor connects with: the member's settings, and over them its ``PROBE``."""
    member = dict(connections.settings[alias])
    probe = member.pop("PROBE", None) or {}
    options = {**(member.get("OPTIONS") or {}), **(probe.get("OPTIONS") or {})}
    return {**member, **probe, "OPTIONS": options}


consumer: Consumer = observations.observe
"""Where new samples go."""
