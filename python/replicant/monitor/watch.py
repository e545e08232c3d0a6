"""Watches one cluster: probes its members or reads the results of another process, judges them, and passes them on.

The file is long because it is one state machine: a cycle runs from top to bottom, and all its parts share the state.
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

#: Receives the samples that are new to this process, once in a cycle, on the monitor's thread.
Consumer = Callable[[Sequence[Sample]], None]

#: A member has this fraction of the interval to answer, so that the next cycle finds it late, whatever its jitter;
#: _TIMEOUT has the lower and the upper limit in seconds.
_TIMEOUT_INTERVALS = 0.8
_TIMEOUT = (0.8, 5.0)
#: For this fraction of the interval, and never longer than the timeout, a cycle waits for the members that were in time
#: in the last cycle.
_PATIENCE = 0.5
#: Each cycle is shorter or longer by up to this fraction, so that the hosts of a site do not all probe at once.
_JITTER = 0.1
#: The other processes read more often than the prober publishes, so that their results are never two intervals old.
_LOOKS_PER_INTERVAL = 2
#: Without new results for this many intervals, the prober counts as stuck, and this process probes the servers itself.
_STUCK_INTERVALS = 4
#: The shortest pause between two cycles, as a fraction of the interval, however often a cycle is requested.
_LEAST_PAUSE = 0.1
#: The published view of a prober that was killed longer ago than this is not used.
_RECENT_NS = 60 * 10**9
#: How often waiting reads are checked, and how long a replica may keep a read waiting before it is suspicious, in
#: seconds. If such a replica has not answered a probe since, it is probed at once. If it does not answer within the
#: shortest timeout, the read's wait ends.
_CHECK_SECONDS = 0.1
_SUSPICIOUS_SECONDS = 0.15
#: A process that wakes up later than intended by this many seconds is starved, or was stopped: the process itself may
#: have caused the missing answers.
_LATE_SECONDS = 0.25
#: While every member is silent, the fault is most likely on this side. After this many seconds, the silence counts
#: nevertheless.
_COMMON_SILENCE_SECONDS = 5.0
#: How long a watch that ends waits for its probes to end, in seconds.
STOP_SECONDS = 0.1


class Watch:
    """Watches one cluster, on a thread of its own."""

    def __init__(self, cluster: conf.Cluster, interval: float) -> None:
        self.name = cluster.primary
        self.interval = interval
        self.stopping = False
        #: The last sample of each server, by server, not by the member's alias.
        self._latest: dict[str, Sample] = {}
        self._judge = Judge(cluster.primary)
        self.ended = False
        self._timeout = min(max(interval * _TIMEOUT_INTERVALS, _TIMEOUT[0]), _TIMEOUT[1])
        self._patience = min(interval * _PATIENCE, self._timeout)
        self._longest_cycle = interval + self._timeout + self._patience
        self._probers: dict[str, Prober] = {}
        #: The probers that were told to end.
        self._leaving: list[Prober] = []
        self._samples: Samples | None = None
        self._published: Published | None = None
        self._reading_since: int | None = None
        self._has_complained = False
        self._woken = Wakeup()
        self._answered = Wakeup()
        #: When this thread last woke up late (``time.monotonic_ns()``).
        self._late_at = 0
        #: The probers for servers that keep reads of this process waiting, while another process is the prober.
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
        """Make the next cycle begin soon. Does not wait."""
        self._woken.ring()

    def follow(self, cluster: conf.Cluster) -> None:
        """Go on soon with the cluster that is in force now. Does not wait. Members that stay are not affected."""
        if cluster != self._cluster:
            _import_drivers(cluster)
            self._woken.ring()

    def stop(self) -> None:
        """Tell the watch to end. Does not wait."""
        self.stopping = True
        self._woken.ring()
        self._answered.ring()

    def wait(self, until: float) -> None:
        """Wait for the end, but not longer than ``until`` (``time.monotonic()``)."""
        while not self.ended and time.monotonic() < until:
            self._end.wait(until - time.monotonic())

    def abandon(self) -> None:
        """In a forked child: close the parent's file without changing it."""
        if self._samples is not None:
            self._samples.abandon()

    def _name_of_file(self) -> str | None:
        try:
            secret = settings.SECRET_KEY
        except ImproperlyConfigured:
            # Without a secret key, other users could guess from the name what it was made of.
            return None
        key = secret if isinstance(secret, bytes) else str(secret).encode()
        # Found members are not part of the name: the processes that share the file find them.
        members = {alias: settings_of(alias) for alias in (self.name, *topology.listed(self._cluster))}
        return name_of(key, [self.name, self.interval, members, self._cluster.topology])

    def _adopt(self, cluster: conf.Cluster) -> None:
        """Go on with the present configuration of the cluster."""
        self._cluster = cluster
        self._placement = server_map.begin(cluster)
        self._is_followed = server_map.can_follow(cluster.primary)
        self._shared_roles: frozenset[str] = frozenset()
        name = self._name_of_file()
        if name != self._file_name:
            # Processes with other settings share another file.
            self._let_go()
            self._published = None
            self._file_name = name

    def _reload(self) -> None:
        """Put the found members in force."""
        conf.load()
        self._adopt_present()

    def _adopt_present(self) -> None:
        for cluster in conf.in_force():
            if cluster.primary == self.name and cluster != self._cluster and not self.stopping:
                self._adopt(cluster)

    # The methods below run on the monitor's thread.

    def _run(self) -> None:
        try:
            while not self.stopping:
                begun = time.monotonic()
                try:
                    pause = self._cycle()
                except Exception:
                    # When the watch ends, the cause of its end may also cause the error: aliases that were removed.
                    if not self.stopping:
                        logger.exception("A cycle of the monitor of %r failed; the monitor goes on.", self.name)
                    pause = self.interval
                # The jitter is drawn once for each cycle.
                self._rest(begun + pause * random.uniform(1 - _JITTER, 1 + _JITTER))
        finally:
            self._finish()

    def _cycle(self) -> float:
        """Collect new samples and pass them on; return the time from the beginning of this cycle to the next."""
        self._adopt_present()
        self._catch_up()
        begun = time.monotonic()
        if self._is_to_probe():
            found = self._probe()
            is_waiting = self._follow_members(self._look(found))
            self._note(found, self._probers)
            # Samples that are older than another process's decision are no reason for another decision. The same is
            # true of samples from before this process was stopped for a while.
            is_news = self._catch_up() or time.monotonic() - begun > self._longest_cycle
            if self._is_followed and not is_news and not self.stopping:
                self._decide(self._judge.judge(self._placement, found))
            pause = self.interval * (_LEAST_PAUSE if self._judge.is_undecided or is_waiting else 1)
            is_decided = not self._judge.is_undecided
        else:
            found = self._read()
            self._follow_members(self._published and self._published.view)
            self._note(found, {sample.alias for sample in self._published.samples} if self._published else ())
            # The placement of published samples was shared before the samples were.
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
        # Samples of servers that are not watched any more are dropped: a server that comes back needs a new sample.
        for server in [server for server in self._latest if server not in watched]:
            del self._latest[server]

    def _look(self, found: Sequence[Sample]) -> View | None:
        if self._cluster.topology is None:
            return None
        samples = {**self._latest, **{sample.alias: sample for sample in found}}
        return self._scout.look(self._cluster, self._placement.servers[self.name], samples)

    def _follow_members(self, view: View | None) -> bool:
        """Put the found members in force; return whether there are other servers that were not probed yet."""
        if view is None or self.stopping:
            return False
        # The core knows the positions of these servers.
        answering = [server for server, sample in self._latest.items() if sample.error is None]
        if topology.put(self._cluster, view, answering):
            self._reload()
        return not (view.present or self._latest.keys()) <= self._latest.keys()

    def _catch_up(self) -> bool:
        """Adopt the decisions of all processes of this host; return whether the placement changed."""
        if self.stopping or not self._is_followed:
            return False
        primary = self._placement.servers[self.name]
        read_only = server_map.catch_up(self.name, self.interval, gone=self._is_gone(primary))
        place = server_map.unlisted(self.name) if self._cluster.topology is not None else None
        if place is not None and (found := topology.found_at(self._cluster, *place)) is not None:
            # A server that TOPOLOGY found was promoted: a new process knows this server only from the other processes.
            self._follow_members(found)
            server_map.catch_up(self.name, self.interval, gone=self._is_gone(primary))
        self._shared_roles |= read_only
        self._judge.were_read_only |= read_only
        return self._has_moved(primary)

    def _decide(self, after: Placement) -> None:
        """Put this placement in force in all processes of this host."""
        if not self._judge.were_read_only <= self._shared_roles:
            self._shared_roles = frozenset(self._judge.were_read_only)
            server_map.share_roles(self.name, self._shared_roles)
        if after != self._placement:
            primary = self._placement.servers[self.name]
            server_map.decide(self.name, self._placement, after, gone=self._is_gone(primary))
            self._has_moved(primary)

    def _has_moved(self, primary: str) -> bool:
        """Adopt the placement in force; return whether it is new. ``primary``: the previous primary's server."""
        after = server_map.present(self.name) or self._placement
        if after == self._placement:
            return False
        self._placement = after
        if after.servers[self.name] != primary and self._is_gone(primary):
            # Another thread may have put the placement in force without knowing that the former primary is gone.
            sockets.hang_up(self.name, primary)
        if self._cluster.topology is not None:
            # The view of the members names servers, and these are behind other aliases now.
            self._reload()
        return True

    def _is_gone(self, server: str) -> bool:
        return server in self._latest and self._latest[server].is_gone

    def _rest(self, until: float) -> None:
        earliest = time.monotonic() + self.interval * _LEAST_PAUSE
        until = max(until, earliest)
        while not self.stopping and (now := time.monotonic()) < until:
            if self._pause(self._woken, min(until - now, self._look_after_reads())):
                # The caller that wakes this thread wants new samples, but must not cause a storm of probes.
                until = max(earliest, time.monotonic())

    def _pause(self, bell: Wakeup, seconds: float) -> bool:
        """Wait for a bell, and note if the wait was much too long. Returns whether the bell was rung."""
        due = time.monotonic() + max(0.0, seconds)
        is_rung = bell.wait(seconds)
        if time.monotonic() > due + _LATE_SECONDS:
            self._late_at = time.monotonic_ns()
        return is_rung

    # Waiting reads.

    def _look_after_reads(self) -> float:
        """Probe the replicas that keep reads of this process waiting, and end the wait for those that do not answer.
        Members that missed a probe are probed again, too. Returns the time until the next call, in seconds."""
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
            # A member that is known to be silent has time until the next cycle.
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
        """The sample of a replica for which a read has waited since ``since``; None while there is no result.

        A read that waits for long counts as a missed probe: with one more probe, a silent server has missed two.
        """
        known = self._latest.get(server)
        heard = 0.0 if known is None or known.is_gone else known.asked_at / 1e9 + known.latency
        quiet = time.monotonic() - max(since, heard, self._late_at / 1e9)
        prober = self._probers.get(server) or self._suspects.get(server)
        if quiet < _SUSPICIOUS_SECONDS and (prober is None or not prober.is_busy):
            return None
        if prober is None:
            # Another process is the prober of this host and may probe soon, but it does not know of this read.
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
        """The samples, without those of silent members while all members are silent: then the fault is on this side."""
        silences = [prober.silence(self._late_at) for prober in self._probers.values()]
        if len(silences) > 1 and all(silences) and min(silences) < _COMMON_SILENCE_SECONDS:
            return [sample for sample in found if not (sample.is_gone and sample.latency >= self._timeout)]
        return list(found)

    def _finish(self) -> None:
        self._dismiss(STOP_SECONDS)
        # Last, so that the connections of two probers never exist at the same time.
        self._let_go()
        self.ended = True
        self._end.ring()

    # The election of the prober.

    def _is_to_probe(self) -> bool:
        is_prober = self._elect()
        if is_prober is None or is_prober:
            self._reading_since = None
            return True
        self._reading_since = self._reading_since or time.monotonic_ns()
        assert self._samples is not None
        self._published = self._samples.read()
        # A prober without new results is alive, or its lock would be free. A signal or a debugger may have stopped it.
        heard_at = max(self._reading_since, self._published.at if self._published else 0)
        return time.monotonic_ns() - heard_at > _STUCK_INTERVALS * self.interval * 1e9

    def _elect(self) -> bool | None:
        """Whether this process probes for all processes; None if each process has to probe for itself."""
        if self._file_name is None:
            return None
        # A prober that ends removes the file: the second attempt then creates a new one at once.
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
        """Begin with the results of the previous prober, if it was killed and this process has not read them."""
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
            # A process that starts now cannot discover a primary that no settings name: the primary of the settings
            # would have to report it, and that server is gone. The file therefore stays for such a process.
            server = self._placement.servers[self.name]
            is_found = server not in (self.name, *topology.listed(self._cluster))
            self._samples.close(leaves=is_found and not self._is_gone(server))
            self._samples = None

    def _complain(self, error: CannotShare) -> None:
        if not self._has_complained:
            self._has_complained = True
            logger.warning(
                "Cannot share probe results between processes (%s): every process will probe the servers itself.", error
            )

    # Reading the results of another process.

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

    # Probing the members.

    def _probe(self) -> list[Sample]:
        self._choose()
        for prober in self._probers.values():
            prober.ask()
        server = self._placement.servers[self.name]
        if self._cluster.topology is not None:
            self._scout.ask(self._cluster, server, self._probers[server].settings)
        # The cycle does not wait for members that were late the last time; the next cycle passes on their answers.
        punctual = [prober for prober in self._probers.values() if not prober.is_late]
        until = time.monotonic() + self._patience
        while any(prober.is_busy for prober in punctual) and (now := time.monotonic()) < until and not self.stopping:
            self._pause(self._answered, min(until - now, self._look_after_reads()))
        samples = [prober.take(self._late_at) for prober in self._probers.values()]
        return self._credible([sample for sample in samples if sample is not None])

    def _choose(self) -> None:
        """Have one prober for each member that is listed, or was found and is present, and for the primary."""
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
        """Tell the probers to end, and wait at most ``seconds`` until they have closed their connections."""
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
    """The settings that the monitor connects with: the member's, overridden by its ``PROBE``."""
    member = dict(connections.settings[alias])
    probe = member.pop("PROBE", None) or {}
    options = {**(member.get("OPTIONS") or {}), **(probe.get("OPTIONS") or {})}
    return {**member, **probe, "OPTIONS": options}


consumer: Consumer = observations.observe
"""The function that receives new samples."""
