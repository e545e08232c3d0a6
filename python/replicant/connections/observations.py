"""Reports the outcome of reads and probes to the core, and announces the resulting changes in the log and by signals.

The core judges (``src/health/``). The code that sends reads reports their outcome, and the monitor reports its samples.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from replicant import _core
from replicant.connections import server_map, sockets
from replicant.engines import Reported, Sample
from replicant.signals import replica_ejected, replica_restored

logger = logging.getLogger("replicant")

Outcome = Literal["ok", "failed", "gone"]

#: A member that comes and goes may log this many lines at once, and after that one line in this many seconds.
_LINES = 4
_SECONDS_PER_LINE = 15.0

_WORDS = {
    "down": "it does not answer",
    "ejected": "too many of its reads failed",
    "lagging": "it is further behind than MAX_LAG, or lacks what the primary had when it was seen again",
    "probing": "reads may try it again",
}


class Limit:
    """Limits the log lines of one member: a bucket that time fills."""

    def __init__(self) -> None:
        self._left = float(_LINES)
        self._at = time.monotonic()
        self._kept_back = 0

    def admits(self) -> bool:
        now = time.monotonic()
        self._left = min(_LINES, self._left + (now - self._at) / _SECONDS_PER_LINE)
        self._at = now
        if self._left < 1:
            self._kept_back += 1
            return False
        self._left -= 1
        return True

    def take_kept_back(self) -> int:
        kept_back, self._kept_back = self._kept_back, 0
        return kept_back


_limits: dict[str, Limit] = {}
#: The lag that servers report themselves, by alias.
_reported: dict[str, Reported] = {}
#: Limits the log lines about reads that get late data, by the primary's alias.
_late_limits: dict[str, Limit] = {}


def report(alias: str, outcome: Outcome, seconds: float | None = None, error: str | None = None) -> None:
    """Report the outcome of a read from ``alias``.

    ``"gone"``: the server refused the connection, or did not answer in time; it counts as down until a probe finds it
    again. ``"failed"``: another failure that counts against the server. Errors of the statement, of its user's
    privileges and of locks are not failures: do not report them. ``seconds``: how long the server took; None if that
    depends more on the statement than on the server. ``error``: the server's error for the log, without secrets. Takes
    a microsecond.
    """
    changes = _core.report(alias, seconds, outcome)
    if changes:
        _announce(changes, {alias: error})


def observe(samples: Sequence[Sample]) -> None:
    """Record the monitor's samples."""
    results = []
    for sample in samples:
        # A primary that takes no writes is not the server where writes are counted.
        counts = sample.error is None and (sample.is_writable or _core.role(sample.alias) != "primary")
        answer = (sample.position, sample.run) if counts else None
        results.append((sample.alias, _outcome(sample), sample.asked_at, sample.latency, answer))
        if sample.error is None:
            _reported[sample.alias] = Reported(sample.reported_lag, sample.configured_delay)
    changes, others = _core.report_probes(results)
    for alias in others:
        logger.info("Another server answers for %r, or its server was restarted.", alias)
    # After the report: a read that waited for a silent server must not try it again.
    for sample in samples:
        if sample.is_gone and sample.latency >= sockets.HANG_UP_SECONDS:
            if _core.role(sample.alias) == "replica":
                sockets.hang_up(sample.alias)
            elif _core.member_state(sample.alias) == "down":
                sockets.end_waits(sample.alias)
    _announce(changes, {sample.alias: sample.error for sample in samples})


def reported(alias: str) -> Reported:
    """The lag that the server behind ``alias`` reports itself, as far as it is known."""
    return _reported.get(alias, Reported())


def served_late(primary: str, replica: str) -> None:
    """Log that a read that only the primary may serve goes to a replica, since the primary is down.

    Called by the core.
    """
    limit = _late_limits.setdefault(primary, Limit())
    if not limit.admits():
        return
    kept_back = limit.take_kept_back()
    logger.warning(
        "The primary %r is down, and no replica is known to have what a client wrote or saw: %r serves late data, as "
        "ON_UNAVAILABLE says.%s",
        primary,
        replica,
        f" ({kept_back} such reads before were not logged.)" if kept_back else "",
    )


def _outcome(sample: Sample) -> Outcome:
    if sample.error is None:
        return "ok"
    return "gone" if sample.is_gone else "failed"


def _announce(changes: Iterable[tuple[str, str, str, str]], errors: Mapping[str, str | None]) -> None:
    for cluster, alias, before, after in changes:
        _log(cluster, alias, before, after, errors.get(alias))
        if alias == cluster:
            continue
        if before == "up":
            # Before any receiver runs, so that no receiver uses a connection from before the outage.
            server_map.retire(alias)
            signal, state = replica_ejected, after
        elif after == "up":
            signal, state = replica_restored, after
        else:
            continue
        signal.send_robust(sender=_core.ReplicaRouter, alias=alias, cluster=cluster, state=state)


def _log(cluster: str, alias: str, before: str, after: str, error: str | None) -> None:
    limit = _limits.setdefault(alias, Limit())
    if not limit.admits():
        return
    kept_back = limit.take_kept_back()
    rest = f" ({kept_back} changes before were not logged.)" if kept_back else ""
    role = "primary" if alias == cluster else "replica"
    if after == "up":
        logger.info("The %s %r serves again; it was %s.%s", role, alias, before, rest)
    else:
        words = _WORDS.get(after, after)
        why = words if not error else error if after == "down" else f"{words} ({error})"
        logger.warning("The %s %r is %s: %s. It was %s.%s", role, alias, after, why, before, rest)
