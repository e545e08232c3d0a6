"""The lag that replicas report themselves, for ``status()``. It is shown beside the measured lag and never replaces it.

While the primary is idle, a replica with a configured delay has no measured lag. That is correct, but surprising on a
dashboard. On some engines the server's own report needs privileges, and the query may be slow while replication is
stopped or started. The query therefore runs rarely, on its own thread and connection: no read and no probe waits for
it. The process that probes the members of a host sends the query; the other processes find the answers in its samples.
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

#: The interval of the query, and the delay of the first one, in seconds.
SECONDS = 15.0
#: The interval for a replica that did not answer: most often the account lacks the privilege.
REFUSED_SECONDS = 600.0


class Reporter:
    """Queries what one member reports about its own lag."""

    def __init__(
        self, alias: str, settings: Mapping[str, Any], timeout: float, start: Callable[[Callable[[], None], str], None]
    ) -> None:
        """``start`` runs a function on a thread with the given name; ``timeout`` is in seconds."""
        self.found = Reported()
        self._alias = alias
        self._settings = settings
        self._timeout = timeout
        self._start = start
        # Later than the first probes, because a process that starts waits for those.
        self._next = time.monotonic() + SECONDS
        self._is_asking = False
        self.has_asked = False
        """Whether an answer or a refusal has arrived."""

    def ask(self) -> None:
        """Start a query if one is due. Does not wait."""
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
                # The driver's close(), because Django's close() also handles the end of a transaction.
                with contextlib.suppress(Exception):
                    connection.connection.close()
            if answer is not None:
                seconds, found = SECONDS, answer
        except Exception:  # whatever a driver raises: the probe reports what is wrong with the server
            seconds = SECONDS
        self.found, self._next = found, time.monotonic() + seconds
        self._is_asking, self.has_asked = False, True

    def _connected(self) -> BaseDatabaseWrapper:
        """A connection for this reporter alone, opened as the prober opens its own."""
        copied = {**self._settings, "OPTIONS": dict(self._settings.get("OPTIONS") or {})}
        wrapper: BaseDatabaseWrapper = load_backend(self._settings["ENGINE"]).DatabaseWrapper(copied, self._alias)
        engine_of(wrapper).prepare_probe(wrapper, self._timeout)
        with wrapper.wrap_database_errors:
            wrapper.connection = wrapper.get_new_connection(wrapper.get_connection_params())
            wrapper._set_autocommit(True)  # type: ignore[attr-defined]
        return wrapper
