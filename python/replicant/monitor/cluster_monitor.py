"""Background monitor: probes every member of every cluster periodically.

There is a thread for each cluster, started by the first read that is routed. On each host one process asks the servers
and publishes what it found (:mod:`replicant.monitor.shared_file`). In the other processes the thread reads that, twice
in an interval, and takes over when the prober is gone. Where nothing can be published, each process asks the servers
itself.

The prober has a thread and a connection for each member (:mod:`replicant.monitor.prober`), so that a member that hangs
delays no other one: its answer is given up after the probe's timeout, and its socket is shut down under the driver's
hands. Only a driver that is still connecting cannot be reached so; its own timeout ends that.

Threads and connections do not survive a fork, and locks that are held at that moment stay held in the child. So all of
it ends before a fork, and the next read starts it again, in the parent and in the child: a parent that only manages
workers needs none.
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

#: The longest time a fork, a change of settings or an exit waits for threads and connections to end, in seconds.
_EXIT_SECONDS = 0.05

_watches: list[Watch] = []
#: Those that were told to end and had not ended yet.
_ending: list[Watch] = []
#: Held while watches are started or stopped; nobody ever waits long for it.
_changing = allocate_lock()


def start() -> None:
    """Watch the clusters that are in force, and those no longer that are not.

    Called by the first routed read of a process, and of a configuration. Waits for nothing, and raises nothing.
    """
    if not _changing.acquire(blocking=False):
        # Somebody else is at it, who may have seen the clusters of before.
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
        # No thread can be had, at the end of the interpreter for one; reads go on without.
        logger.exception("The monitor could not be started.")
    finally:
        _changing.release()


def _is_to_be_watched(cluster: conf.Cluster) -> bool:
    has_replicas = bool(cluster.replicas) or cluster.topology is not None
    return cluster.probe is not None and has_replicas and cluster.primary not in stand_ins


def stop(seconds: float = STOP_SECONDS) -> None:
    """End every thread and connection, and wait for it up to so many seconds. The next routed read starts anew."""
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
    """Have a cycle begin soon. Does not wait."""
    for watch in list(_watches):
        watch.wake()


def latest() -> dict[str, Sample]:
    """The last sample of each member that this process has seen, by alias."""
    return {sample.alias: sample for watch in list(_watches) for sample in watch.latest}


def probing() -> list[str]:
    """The clusters whose members this process asks itself, by the aliases of their primaries."""
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
