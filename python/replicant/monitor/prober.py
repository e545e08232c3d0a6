"""Probes one member on its own thread and connection, so that a member that hangs does not delay other members."""

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

#: A connection is replaced after this many seconds, because another server may answer at the same address by then.
_CONNECTION_SECONDS = 60.0


#: A server that misses this many probes in a row counts as silent. A single probe may be lost, or late.
_MISSES = 2

#: Whether the probe must also query whether the server replicates, which takes one more round trip.
Doubts = Callable[[Sample], bool]


class Prober:
    """Probes one member on its own thread and connection."""

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
        """Whether the member was still silent at the end of the wait of the last cycle."""
        self.heard_at: int | None = None
        """When the server's last answer arrived, in nanoseconds, as ``asked_at``. A refused connection is an answer."""
        self.ended = False
        self._timeout = timeout
        self._answered = answered
        self._doubts = doubts
        self._is_primary = is_primary
        self._timelines = timelines
        self._asked = Wakeup()
        self._asked_at = 0
        self._is_busy = False
        #: When the first unanswered probe was sent, however many attempts have followed; and how many probes the
        #: member has missed since then.
        self._silent_since: int | None = None
        self._missed = 0
        #: When this process last ran late, as far as :meth:`take` was told.
        self._late_at = 0
        self._given_up = False
        self._answer: Sample | None = None
        self._stopping = False
        self._connection: BaseDatabaseWrapper | None = None
        self._connected_at = 0.0
        #: A second descriptor of the connection's socket, so that only the driver closes the driver's own descriptor.
        self._socket: int | None = None
        self._socket_lock = allocate_lock()
        self._reporter = Reporter(alias, settings, timeout, start_thread)
        start_thread(self._run, name or f"replicant-probe-{alias}")

    @property
    def is_busy(self) -> bool:
        return self._is_busy

    def ask(self) -> None:
        """Start a probe of the member, unless one is under way. Does not wait."""
        if not self._is_busy:
            self._given_up = False
            self._asked_at = time.monotonic_ns()
            self._silent_since = self._silent_since or self._asked_at
            self._is_busy = True
            self._asked.ring()

    def take(self, late_at: int = 0) -> Sample | None:
        """The result since the last call: an answer, or the sample of a silent member.

        None while the member still has time to answer: until it has missed two probes, each with the probe's timeout.
        After that, each call returns the sample of a silent member until the member answers. ``late_at``: when this
        process was last found to run late (``time.monotonic_ns()``). This process may itself have caused the silence
        before that time.
        """
        answer, self._answer = self._answer, None
        if answer is not None and self._is_answer(answer):
            self.heard_at = int(answer.asked_at + answer.latency * 1e9)
            # Another probe may have started since this answer.
            self._silent_since = self._asked_at if self._is_busy else None
            self._missed = 0
            self.is_late = False
            return answer
        if late_at > self._late_at:
            self._late_at, self._missed = late_at, 0
        now, timeout = time.monotonic_ns(), self._timeout
        if answer is not None:
            # One attempt may have taken as long as the timeouts of several probes.
            self._missed += max(1, int(answer.latency / timeout))
        elif self._is_busy:
            seconds = (now - max(self._asked_at, late_at)) / 1e9
            if seconds >= timeout and not self._given_up:
                # A result of this attempt would be too late: a member that times out must not count as healthy.
                self._given_up = True
                self._missed += 1
                self._hang_up()
            if seconds >= _MISSES * timeout:
                # Hanging up does not interrupt a driver that is still connecting.
                self._missed = max(self._missed, _MISSES)
        self.is_late = True
        return self.silent() if self._missed >= _MISSES else None

    def silence(self, late_at: int = 0) -> float:
        """How long a probe has been unanswered, in seconds; 0 if none is. ``late_at`` as for :meth:`take`."""
        if self._silent_since is None or self._answer is not None:
            return 0.0
        return (time.monotonic_ns() - max(self._silent_since, late_at)) / 1e9

    def silent(self) -> Sample:
        """The sample of a server that does not answer; the latency counts from its last answer."""
        now = time.monotonic_ns()
        since = self._silent_since or self._asked_at
        # The last answer also answers a probe that was sent before that answer.
        seconds = (now - min(since, self.heard_at or since)) / 1e9
        error = f"no answer for {seconds:.1f} s"
        return Sample(self.alias, "", False, None, self._asked_at, seconds, error, is_gone=True)

    def _is_answer(self, sample: Sample) -> bool:
        """Whether the server answered. A refusal is an answer; a connection attempt that took too long is not."""
        return not sample.is_gone or sample.latency < self._timeout

    def stop(self) -> None:
        """Tell the thread to end. Does not wait."""
        self._stopping = True
        if self._is_busy:
            self._hang_up()
        self._asked.ring()

    def _hang_up(self) -> None:
        """Shut the socket down: a driver that waits on it gets an error at once."""
        with self._socket_lock:
            if self._socket is not None:
                shut_down(self._socket)

    # The methods below run on the prober's thread.

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
        except Exception as error:  # a third-party engine may raise anything
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
        """Probe, and reconnect once after an error on an old connection: the error only means that this one ended."""
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
                # A primary that is read-only at present. Its applied position says nothing about what it wrote.
                sample = sample._replace(position=engine.ask_position(connection) or sample.position)
        if self._timelines is not None:
            sample = self._timelines.completed(connection, sample, is_primary=self._is_primary(self.alias))
        return sample

    def _connect(self) -> BaseDatabaseWrapper:
        """Open a connection for this prober alone: not Django's for this thread, not tracked, not guarded, not pooled.

        ``connect()`` is not called, because it sends ``connection_created`` to every receiver.
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
                # The thread that called stop() found no socket to shut down.
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
            # The driver's close(), because Django's close() also handles the end of a transaction.
            with contextlib.suppress(Exception):
                connection.connection.close()

    def _says_gone(self, error: Exception) -> bool:
        # The error is from a new connection: after an error on an older connection, the probe was repeated.
        backend = load_backend(self.settings["ENGINE"])
        engine = engine_of(backend.DatabaseWrapper)
        return isinstance(error, OSError) or engine.is_gone(error)
