"""One server: its process, the administrator's connection to it, and what every engine must be able to do."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from .install import Installation
from .machine import HOST, children, copy, give, primary_group, signal_tree, wait_until
from .wire import Connection, QueryError, Row

Role = Literal["primary", "replica", "former"]
"""`former`: was the primary before a promotion and has not rejoined; it starts read-only."""

START_SECONDS = 30.0
STOP_SECONDS = 30.0
_LOG_LINES = 15

# The application's account, the same on every throw-away server: it is reachable over loopback only.
APPLICATION = "application"
APPLICATION_PASSWORD = "application-password"
REPLICATION = "replication"
REPLICATION_PASSWORD = "replication-password"


class ServerError(RuntimeError):
    """A server did not do what it was told; the message ends with the tail of its log."""


class Node(ABC):
    """One server of a cluster. Made by `start()`; every method returns when what it did is done.

    name         "node1", "node2", ...: stays with the server whatever its role
    host, port   where the application connects; the port stays the same over restarts
    role         "primary", "replica" or "former" (was the primary, has not rejoined)
    folder       its data, log and socket
    source       the server it replicates from, None for a primary
    answer_seconds  longest wait for an answer to the administrator, from the next connection on
    suspended    True between `suspend()` and `resume()`
    """

    stop_signal = signal.SIGTERM
    answer_seconds = 30.0
    starts_before_replicas = False

    def __init__(self, number: int, folder: Path, installation: Installation, user: str | None) -> None:
        self.name = f"node{number}"
        self.number = number
        self.host = HOST
        self.port = 0
        self.role: Role = "primary" if number == 1 else "replica"
        self.folder = folder / self.name
        self.data = self.folder / "data"
        self.log = self.folder / "log"
        self._installation = installation
        self._user = user
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None
        self._connection_owner = 0
        self._lock = threading.RLock()
        self.source: Node | None = None
        self.suspended = False
        self.on_restart: Callable[[Node], None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name} {self.role} {self.host}:{self.port}>"

    # The process

    @property
    def pid(self) -> int:
        """The server's process id; 0 when it does not run."""
        return self._process.pid if self._process is not None and self._process.poll() is None else 0

    @property
    def running(self) -> bool:
        """True while the process exists, suspended or not."""
        return self.pid != 0

    def stop(self) -> None:
        """Shut the server down in an orderly way. Does nothing when it does not run."""
        if self._process is None or not self.running:
            return
        self.resume()
        self.disconnect()  # MySQL gives its clients two seconds to leave
        self._process.send_signal(self.stop_signal)
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            raise ServerError(f"{self.name} did not stop within {STOP_SECONDS:g} s\n{self._log_tail()}") from None
        finally:
            self.disconnect()

    def kill(self) -> None:
        """SIGKILL the server and whatever it forked, as a crash would. Does nothing when it does not run."""
        if self._process is None or not self.running:
            return
        family = children(self.pid)
        signal_tree(self.pid, signal.SIGKILL)
        self._process.wait()
        self.disconnect()
        wait_until(lambda: not any(_exists(pid) for pid in family), STOP_SECONDS, f"{self.name}'s children end")

    def restart(self) -> None:
        """Start the server again (after an orderly stop if it runs) on the same port and data.

        Returns when it answers, and, for a replica whose source runs, when it replicates. A pause ends with
        the restart, a delay does not. Raises ServerError, with the tail of the log, if it does not come up.
        """
        self.stop()
        self.launch()
        self.wait_until_ready()
        if self.on_restart is not None:
            self.on_restart(self)

    def suspend(self) -> None:
        """SIGSTOP the server and whatever it forked: it accepts connections and never answers."""
        signal_tree(self._running_pid(), signal.SIGSTOP)
        self.suspended = True

    def resume(self) -> None:
        """SIGCONT after `suspend()`; harmless without."""
        signal_tree(self._running_pid(), signal.SIGCONT)
        self.suspended = False

    # The administrator's connection

    def query(self, sql: str, database: str | None = None) -> list[Row]:
        """Run `sql` as administrator; its rows as text, NULL as "NULL", of several statements the last ones.

        `database` becomes the default one for this call. Raises QueryError if the server refuses, OSError
        (TimeoutError after `answer_seconds` without an answer) if it cannot be asked. Statements run here are
        left out of `statements()`.
        """
        with self._lock, self._session(database) as connection:
            return connection.query(sql)

    def value(self, sql: str) -> str:
        """The first field of the first row of a query; "" when there is no row."""
        rows = self.query(sql)
        return rows[0][0] if rows else ""

    def disconnect(self) -> None:
        """Drop the administrator's connection; the next query opens another one."""
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    @contextlib.contextmanager
    def _session(self, database: str | None) -> Iterator[Connection]:
        connection = self._connected()
        try:
            yield connection
        except OSError:
            self.disconnect()
            raise

    def _connected(self) -> Connection:
        if self._connection_owner != os.getpid():  # a fork must not share its parent's conversation
            self.disconnect()
        if self._connection is None:
            self._connection = self._connect(self.answer_seconds)
            self._connection_owner = os.getpid()
        return self._connection

    # Starting

    def create(self, template: Path) -> None:
        """Lay out the folder with a copy of the template's data."""
        self.folder.mkdir(exist_ok=True)
        shutil.rmtree(self.data, ignore_errors=True)
        copy(template, self.data)
        give(self.folder, self._user)

    def launch(self) -> None:
        """Start the process, without waiting for it to answer."""
        self.disconnect()
        self._remove_leftovers()
        self.suspended = False
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.folder,
                env=self._environment(),
                start_new_session=True,  # Ctrl-C in a terminal is for us, not for the servers
                user=self._user,
                group=primary_group(self._user),
                extra_groups=[] if self._user else None,
            )

    def wait_until_ready(self) -> None:
        """Wait until the server answers a query."""
        wait_until(self._answers, START_SECONDS, f"{self.name} answers")

    def port_was_taken(self) -> bool:
        """True if the last start failed because somebody took the port since we found it free."""
        return not self.running and "address already in use" in self._log_tail().lower()

    def _answers(self) -> bool:
        if not self.running:
            raise ServerError(f"{self.name} ended while starting\n{self._log_tail()}")
        try:
            self.query("SELECT 1")
        except (OSError, QueryError):
            return False
        return True

    def _environment(self) -> dict[str, str]:
        keep = ("PATH", "TMPDIR", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH")
        return {"LC_ALL": "C", "TZ": "UTC", **{name: os.environ[name] for name in keep if name in os.environ}}

    def _running_pid(self) -> int:
        pid = self.pid
        if not pid:
            raise ServerError(f"{self.name} does not run")
        return pid

    def _log_tail(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        return "\n".join(lines[-_LOG_LINES:])

    # What each engine does its own way

    @abstractmethod
    def _command(self) -> list[str]:
        """The server's command line for the present role."""

    @abstractmethod
    def _connect(self, timeout: float) -> Connection:
        """Open an administrator's connection whose answers take at most `timeout` seconds."""

    @abstractmethod
    def _remove_leftovers(self) -> None:
        """Delete what a killed server left behind and would make the next one refuse to start."""

    def prepare_to_follow(self, source: Node) -> None:
        """Write what a replica needs on disk before its first start."""
        self.source = source

    @abstractmethod
    def follow(self, source: Node) -> None:
        """Make this running server a read-only replica of `source` from where it is."""

    @abstractmethod
    def become_primary(self) -> None:
        """Apply what was received, end replication for good and accept writes."""

    @abstractmethod
    def fence(self) -> None:
        """Refuse the application's writes from now on."""

    @abstractmethod
    def has_more_than(self, other: Node) -> bool:
        """True if this server has changes that `other` lacks."""

    @abstractmethod
    def rebuild(self, source: Node, template: Path) -> None:
        """Throw the data away and come back as a replica of `source`."""

    @abstractmethod
    def replicating(self) -> bool:
        """True when a replica is connected to its source and applies; with the source down, when it would."""

    def wait_until_replicating(self) -> None:
        """Wait for `replicating()`."""
        wait_until(self.replicating, START_SECONDS, f"{self.name} replicates")

    @abstractmethod
    def reconnect(self) -> None:
        """Have a replica look for its source at once, rather than at the end of its retry interval."""

    @abstractmethod
    def position(self) -> str:
        """How far a primary has written: a GTID set or position, or an LSN."""

    @abstractmethod
    def reached(self, position: str, timeout: float) -> bool:
        """Wait up to `timeout` seconds for a replica to have applied `position`; False if it has not."""

    @abstractmethod
    def pause_replication(self) -> None:
        """Stop applying changes: the replica's position and data freeze, while it goes on receiving."""

    @abstractmethod
    def resume_replication(self) -> None:
        """Apply changes again after `pause_replication()`; harmless without."""

    @abstractmethod
    def delay(self, seconds: float) -> None:
        """Apply every change only `seconds` after its commit; 0 ends that at once. MySQL, MariaDB: whole
        seconds."""

    @abstractmethod
    def statements(self) -> int:
        """How many SELECT statements others than the administrator have run, by the server's own count."""


def _exists(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False
