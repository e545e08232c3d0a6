"""Background monitor: probes every member of every cluster periodically.

Each cluster has one monitor thread. The first routed read starts it. On each host, one process is the prober: it probes
the servers and publishes the results (:mod:`replicant.monitor.shared_file`). In the other processes, the thread reads
the published results twice in each interval, and takes over when the prober is gone. If results cannot be published,
each process probes the servers itself.

The prober has a thread and a connection for each member (:mod:`replicant.monitor.prober`), so that a member that hangs
does not delay the other members: after the probe's timeout, the prober gives up the answer and shuts down the socket
while the driver still uses it. This cannot interrupt a driver that is still connecting; the driver's own timeout ends
that attempt.

Threads and connections do not survive a fork, and locks that are held during a fork stay held in the child. All
threads and connections of the monitor therefore end before a fork. The next read starts them again, in the parent and
in the child: a parent that only manages workers needs no monitor.
"""

from __future__ import annotations

import atexit
import logging
import os
import time
from collections.abc import Callable
from typing import Any

from django.core.signals import setting_changed

from replicant import _core, conf
from replicant.connections import server_map
from replicant.engines import Sample
from replicant.monitor.watch import STOP_SECONDS, Watch
from replicant.threads import allocate_lock
from replicant.under_test import stand_ins

logger = logging.getLogger("replicant")

#: How long an exit waits for threads and connections to end, in seconds.
_EXIT_SECONDS = 0.05

_watches: list[Watch] = []
#: The watches that were told to end and have not ended yet.
_ending: list[Watch] = []
#: Held while watches are started or stopped; no thread ever waits long for it.
_changing = allocate_lock()


def start() -> None:
    """Watch every cluster that is in force, and stop watching every other cluster.

    The first routed read of a process, and of a configuration, calls this. Does not wait and does not raise.
    """
    if not _changing.acquire(blocking=False):
        # Another thread is starting or stopping watches, and may have read the previous configuration.
        _core.unwatch()
        return
    try:
        clusters = {cluster.primary: cluster for cluster in conf.in_force() if _is_to_be_watched(cluster)}
        _end_all(lambda watch: watch.name not in clusters or watch.interval != clusters[watch.name].probe)
        server_map.keep(set(clusters))
        for watch in _watches:
            watch.follow(clusters.pop(watch.name))
        for cluster in clusters.values():
            _watches.append(Watch(cluster, cluster.probe or 0.0))
    except Exception:
        # A thread may be impossible to start, for example while the interpreter shuts down. Reads go on without it.
        logger.exception("The monitor could not be started.")
    finally:
        _changing.release()


def _is_to_be_watched(cluster: conf.Cluster) -> bool:
    has_replicas = bool(cluster.replicas) or cluster.topology is not None
    return cluster.probe is not None and has_replicas and cluster.primary not in stand_ins


def stop(seconds: float = STOP_SECONDS) -> None:
    """End all threads and connections, and wait at most ``seconds`` for it. The next routed read starts them again."""
    is_held = _changing.acquire(timeout=seconds)
    try:
        _end_all()
        until = time.monotonic() + seconds
        for watch in _ending:
            watch.wait(until)
    finally:
        _core.unwatch()
        if is_held:
            _changing.release()


def wake() -> None:
    """Make every watch begin a cycle soon. Does not wait."""
    for watch in list(_watches):
        watch.wake()


def latest() -> dict[str, Sample]:
    """The last sample of each member that this process has seen, by alias."""
    return {sample.alias: sample for watch in list(_watches) for sample in watch.latest}


def probing() -> list[str]:
    """The clusters whose members this process probes itself, by the aliases of their primaries."""
    return [watch.name for watch in list(_watches) if watch.is_probing]


def _end_all(is_to_end: Callable[[Watch], bool] = lambda watch: True) -> None:
    ending = [watch for watch in _watches if is_to_end(watch)]
    for watch in ending:
        watch.stop()
    _ending[:] = [watch for watch in (*_ending, *ending) if not watch.ended]
    _watches[:] = [watch for watch in _watches if watch not in ending]


def _before_fork() -> None:
    stop()


def _after_fork_in_child() -> None:
    global _changing
    _changing = allocate_lock()
    for watch in (*_ending, *_watches):
        watch.abandon()
    _ending.clear()
    _watches.clear()
    _core.unwatch()


def _changed(*, setting: str, **kwargs: Any) -> None:
    if setting in {"REPLICANT", "DATABASES", "SECRET_KEY"}:
        stop()


atexit.register(stop, _EXIT_SECONDS)
setting_changed.connect(_changed, dispatch_uid="replicant.monitor.cluster_monitor")
if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_child=_after_fork_in_child)
