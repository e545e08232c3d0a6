"""Asks one member, on a thread and a connection of its own, so that one that hangs delays nobody."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

from replicant.connections.sockets import shut_down
from replicant.engines import Sample, described, engine_of
from replicant.engines.failure import drop_frames, mark_connecting
from replicant.monitor.reports import Reporter
from replicant.monitor.timelines import Timelines
from replicant.threads import Wakeup, allocate_lock, start_thread

#: A connection is opened anew after so many seconds, in case another server answers there by now.
_CONNECTION_SECONDS = 60.0


#: So many probes that a server misses in a row mean that it does not answer; one may be lost, or late.
_MISSES = 2

#: Whether a server is to be asked if it replicates, which takes one more question.
Doubts = Callable[[Sample], bool]


class Prober:
    """Asks one member, on a thread and a connection of its own."""

    def __init__(
        self,
        alias: str,
        settings: Mapping[str, Any],
        timeout: float,
        answered: Wakeup,
        doubts: Doubts | None = None,
        name: str | None = None,
        is_primary: Callable[[str], bool] = lambda alias: False,
        timelines: Timelines | None = None,
    ) -> None:
        self.alias = alias
        self.settings = settings
        self.is_late = False
        """Whether it was still silent when a cycle had waited long enough."""
        self.heard_at: int | None = None
        """When the last answer of the server arrived; a refused connection is one. In nanoseconds, as ``asked_at``."""
        self.ended = False
        self._timeout = timeout
        self._answered = answered
        self._doubts = doubts
        self._is_primary = is_primary
        self._timelines = timelines
        self._asked = Wakeup()
        self._asked_at = 0
        self._is_busy = False
        #: When the first question was asked that was not answered, over however many attempts since; and how many
        #: probes were missed since.
        self._silent_since: int | None = None
        self._missed = 0
        #: When this process last ran late, as far as is known here.
        self._late_at = 0
        self._given_up = False
        self._answer: Sample | None = None
        self._stopping = False
        self._connection: BaseDatabaseWrapper | None = None
        self._connected_at = 0.0
        #: A second descriptor of the connection's socket, so that the driver's own is closed by nobody but the driver.
        self._socket: int | None = None
        self._socket_lock = allocate_lock()
        self._reporter = Reporter(alias, settings, timeout, start_thread)
        start_thread(self._run, name or f"replicant-probe-{alias}")

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    def ask(self) -> None:
        """Have the member looked at, unless it still is. Does not wait."""
        if not self._is_busy:
            self._given_up = False
            self._asked_at = time.monotonic_ns()
            self._silent_since = self._silent_since or self._asked_at
            self._is_busy = True
            self._asked.ring()

    def take(self, late_at: int = 0) -> Sample | None:
        """What was found since this was last called: an answer, or that there is none.

        None while the member still has time: until two probes, each of which has the probe's timeout, were missed.
        After that each call finds that the member is silent, until it answers. ``late_at``: when this process was last
        found to run late (``time.monotonic_ns()``); what was not answered before that may be its own fault.
        """
        answer, self._answer = self._answer, None
        if answer is not None and self._is_answer(answer):
            self.heard_at = int(answer.asked_at + answer.latency * 1e9)
            # It may have been asked again since.
            self._silent_since = self._asked_at if self._is_busy else None
            self._missed = 0
            self.is_late = False
            return answer
        if late_at > self._late_at:
            self._late_at, self._missed = late_at, 0
        now, timeout = time.monotonic_ns(), self._timeout
        if answer is not None:
            # An attempt may have gone on for as long as several probes have.
            self._missed += max(1, int(answer.latency / timeout))
        elif self._is_busy:
            seconds = (now - max(self._asked_at, late_at)) / 1e9
            if seconds >= timeout and not self._given_up:
                # Whatever comes of this attempt comes too late: a member that times out is not to be taken for sound.
                self._given_up = True
                self._missed += 1
                self._hang_up()
            if seconds >= _MISSES * timeout:
                # A driver that is still connecting cannot be reached by that.
                self._missed = max(self._missed, _MISSES)
        self.is_late = True
        return self.silent() if self._missed >= _MISSES else None

    def silence(self, late_at: int = 0) -> float:
        """For how many seconds the server has owed an answer; 0 if it owes none. ``late_at`` as for :meth:`take`."""
        if self._silent_since is None or self._answer is not None:
            return 0.0
        return (time.monotonic_ns() - max(self._silent_since, late_at)) / 1e9

    def silent(self) -> Sample:
        """That the server does not answer; the latency counts from its last answer."""
        now = time.monotonic_ns()
        since = self._silent_since or self._asked_at
        # A question that was asked before the last answer is answered by it, too.
        seconds = (now - min(since, self.heard_at or since)) / 1e9
        error = f"no answer for {seconds:.1f} s"
        return Sample(self.alias, "", False, None, self._asked_at, seconds, error, is_gone=True)

    def _is_answer(self, sample: Sample) -> bool:
        """Whether somebody answered, if only to refuse: an attempt to connect that took too long is no answer."""
        return not sample.is_gone or sample.latency < self._timeout

    def stop(self) -> None:
        """Have the thread end. Does not wait."""
        self._stopping = True
        if self._is_busy:
            self._hang_up()
        self._asked.ring()

    def _hang_up(self) -> None:
        """Shut the socket down: what a driver waits for there ends at once, with an error."""
        with self._socket_lock:
            if self._socket is not None:
                shut_down(self._socket)

    # On the thread.

    def _run(self) -> None:
        try:
            while not self._stopping:
                self._asked.wait(threading.TIMEOUT_MAX)
                if not self._stopping:
                    self._look()
        finally:
            self._disconnect()
            self.ended = True
            self._answered.ring()

    def _look(self) -> None:
        asked_at = time.monotonic_ns()
        try:
            sample = self._asked_twice()
        except Exception as error:  # also what an engine of somebody else's raises
            self._disconnect()
            seconds = (time.monotonic_ns() - asked_at) / 1e9
            sample = Sample(
                self.alias, "", False, None, asked_at, seconds, described(error, self.settings), self._says_gone(error)
            )
            drop_frames(error)
        if not self._given_up:
            self._answer = sample
        self._is_busy = False
        self._answered.ring()

    def _asked_twice(self) -> Sample:
        """Over a connection that was there before, an error only says that this connection ended."""
        if time.monotonic() - self._connected_at > _CONNECTION_SECONDS:
            self._disconnect()
        if self._connection is not None:
            try:
                return self._probe(self._connection)
            except Exception:
                if self._given_up or self._stopping:
                    raise
                self._disconnect()
        return self._probe(self._connect())

    def _probe(self, connection: BaseDatabaseWrapper) -> Sample:
        engine = engine_of(connection)
        sample = engine.probe(connection)
        if self._doubts is not None and self._doubts(sample):
            sample = sample._replace(replicates=engine.replicates(connection))
        if not sample.is_writable:
            self._reporter.ask()
            lag, delay = self._reporter.found
            sample = sample._replace(reported_lag=lag, configured_delay=delay)
            if not sample.is_writable and self._is_primary(self.alias):
                # A primary that takes no writes at present: what a replica has applied says nothing of what it wrote.
                sample = sample._replace(position=engine.ask_position(connection) or sample.position)
        if self._timelines is not None:
            sample = self._timelines.completed(connection, sample, is_primary=self._is_primary(self.alias))
        return sample

    def _connect(self) -> BaseDatabaseWrapper:
        """Open a connection that is nobody else's: not Django's for this thread, not tracked, not guarded, not pooled.

        So not by its ``connect()``, which tells every receiver of ``connection_created``.
        """
        backend = load_backend(self.settings["ENGINE"])
        copied = {**self.settings, "OPTIONS": dict(self.settings.get("OPTIONS") or {})}
        connection: BaseDatabaseWrapper = backend.DatabaseWrapper(copied, self.alias)
        engine = engine_of(connection)
        engine.prepare_probe(connection, self._timeout)
        with connection.wrap_database_errors:
            try:
                connection.connection = connection.get_new_connection(connection.get_connection_params())
            except Exception as error:
                mark_connecting(error)
                raise
            self._connection = connection
            self._connected_at = time.monotonic()
            descriptor = engine.socket_of(connection)
            with self._socket_lock:
                self._socket = None if descriptor is None else socket.dup(descriptor)
            if self._stopping:
                # Whoever said so found no socket to shut down.
                raise InterruptedError
            connection._set_autocommit(True)  # type: ignore[attr-defined]
        return connection

    def _disconnect(self) -> None:
        with self._socket_lock:
            if self._socket is not None:
                socket.close(self._socket)
                self._socket = None
        connection, self._connection = self._connection, None
        if connection is not None:
            # Not its own close(), which has a transaction's end in mind.
            with contextlib.suppress(Exception):
                connection.connection.close()

    def _says_gone(self, error: Exception) -> bool:
        # Over a new connection: what ended one that was there before was tried again.
        backend = load_backend(self.settings["ENGINE"])
        engine = engine_of(backend.DatabaseWrapper)
        return isinstance(error, OSError) or engine.is_gone(error)
