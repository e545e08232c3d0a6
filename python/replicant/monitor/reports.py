"""What replicas say of their own lag, for ``status()``: beside the lag that is measured, never in its place.

A replica with a configured delay has no lag while the primary is idle, which is right and surprises on a dashboard.
What the server itself reports takes privileges on some engines, and may be slow while replication is stopped or
started. So it is asked rarely, over a connection and a thread of its own: no read and no probe waits for it. The
process that probes a host's members asks; the others find the answers in its samples.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from django.db.utils import load_backend

from replicant.engines import Reported, engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: How often a replica is asked, and how long after the first probe.
SECONDS = 15.0
#: How often one is asked that did not answer: the account has no right to, most often.
REFUSED_SECONDS = 600.0


class Reporter:
    """Asks one member what it reports."""

    def __init__(
        self, alias: str, settings: Mapping[str, Any], timeout: float, start: Callable[[Callable[[], None], str], None]
    ) -> None:
        """``start`` runs a function on a thread of the name given; ``timeout`` is in seconds."""
        self.found = Reported()
        self._alias = alias
        self._settings = settings
        self._timeout = timeout
        self._start = start
        # Later than the first probes, for which a process that starts waits.
        self._next = time.monotonic() + SECONDS
        self._is_asking = False
        self.has_asked = False
        """Whether there was an answer, or a refusal."""

    def ask(self) -> None:
        """Have the member asked if it is time. Does not wait."""
        if not self._is_asking and time.monotonic() >= self._next:
            self._is_asking = True
            self._start(self._ask, f"replicant-report-{self._alias}")

    def _ask(self) -> None:
        seconds, found = REFUSED_SECONDS, Reported()
        try:
            connection = self._connected()
            try:
                answer = engine_of(connection).reported(connection)
            finally:
                # Not its own close(), which has a transaction's end in mind.
                with contextlib.suppress(Exception):
                    connection.connection.close()
            if answer is not None:
                seconds, found = SECONDS, answer
        except Exception:  # whatever a driver raises: the probe says what is wrong with the server
            seconds = SECONDS
        self.found, self._next = found, time.monotonic() + seconds
        self._is_asking, self.has_asked = False, True

    def _connected(self) -> BaseDatabaseWrapper:
        """A connection that is nobody else's, as the prober's is."""
        copied = {**self._settings, "OPTIONS": dict(self._settings.get("OPTIONS") or {})}
        wrapper: BaseDatabaseWrapper = load_backend(self._settings["ENGINE"]).DatabaseWrapper(copied, self._alias)
        engine_of(wrapper).prepare_probe(wrapper, self._timeout)
        with wrapper.wrap_database_errors:
            wrapper.connection = wrapper.get_new_connection(wrapper.get_connection_params())
            wrapper._set_autocommit(True)  # type: ignore[attr-defined]
        return wrapper
