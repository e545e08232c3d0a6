"""What MySQL and MariaDB share: a binary log, replicated by GTID, and the protocol of their clients."""

from __future__ import annotations

import math
import os
import time
from abc import abstractmethod
from pathlib import Path

from .install import Installation
from .machine import HOST, wait_until
from .node import (
    APPLICATION,
    APPLICATION_PASSWORD,
    REPLICATION,
    REPLICATION_PASSWORD,
    START_SECONDS,
    Node,
    ServerError,
)
from .wire import Connection, Row
from .wire_mysql import MySQLConnection

_NUMBERS = 1000  # a rebuilt server needs a new id: a replica ignores what a server with its own id once wrote
_WAIT_SLICE_SECONDS = 0.5  # a wait holds the connection; others get a turn between slices

# Small, quick and safe against a SIGKILL (not against a power cut). innodb_flush_log_at_trx_commit is 2 and
# not 0: with 0 a killed replica came back with its tables and its GTID position apart.
COMMON_OPTIONS = {
    "bind-address": HOST,
    "skip-name-resolve": "ON",
    "log-bin": "binlog",
    "relay-log": "relay",
    "binlog-format": "ROW",
    "sync-binlog": "0",
    "relay-log-recovery": "ON",
    "innodb-flush-log-at-trx-commit": "2",
    "innodb-buffer-pool-size": "24M",
    "innodb-log-buffer-size": "2M",
    "innodb-doublewrite": "OFF",
    "innodb-buffer-pool-dump-at-shutdown": "OFF",
    "innodb-buffer-pool-load-at-startup": "OFF",
    "key-buffer-size": "1M",
    "max-connections": "200",
    "character-set-server": "utf8mb4",
    "performance-schema": "OFF",
}


class BinlogNode(Node):
    """A MySQL or MariaDB server; the subclasses know the words."""

    _rebuilt = 0

    @property
    def socket(self) -> Path:
        """The administrator's way in."""
        return self.folder / "sock"

    def _options(self) -> dict[str, str]:
        return {
            **COMMON_OPTIONS,
            "port": str(self.port),
            "socket": str(self.socket),
            "pid-file": str(self.folder / "pid"),
            "server-id": str(self.number + self._rebuilt * _NUMBERS),
            "report-host": HOST,
            "report-port": str(self.port),
            "read-only": "OFF" if self.role == "primary" else "ON",
        }

    def _connect(self, timeout: float) -> Connection:
        return MySQLConnection(str(self.socket), timeout)

    def query(self, sql: str, database: str | None = None) -> list[Row]:
        if database is None:
            return super().query(sql)
        with self._lock, self._session(database) as connection:
            assert isinstance(connection, MySQLConnection)
            connection.use(database)
            try:
                return connection.query(sql)
            finally:
                connection.use("mysql")

    query.__doc__ = Node.query.__doc__

    def record(self, sql: str) -> dict[str, str]:
        """The first row of a query by column name; empty when there is no row."""
        with self._lock, self._session(None) as connection:
            assert isinstance(connection, MySQLConnection)
            rows = connection.query(sql)
            return dict(zip(connection.columns, rows[0], strict=True)) if rows else {}

    def _remove_leftovers(self) -> None:
        for name in ("sock", "sock.lock", "pid"):  # a lock whose owner is a zombie counts as held
            (self.folder / name).unlink(missing_ok=True)

    def statements(self) -> int:
        """Com_select of the whole server less that of the manager's own connection.

        Every SELECT counts, also `SELECT 1`, prepared ones and ones that fail; the call itself adds nothing.
        A replica that (re)connects runs a few on its primary. Starts again at 0 with the server.
        """
        name = "STATUS LIKE 'Com_select'"
        with self._lock:
            everyone = int(self.query(f"SHOW GLOBAL {name}")[0][1])
            return everyone - int(self.query(f"SHOW SESSION {name}")[0][1])

    def fence(self) -> None:
        self.query("SET GLOBAL read_only = ON")

    def follow(self, source: Node) -> None:
        self.source = source
        self.fence()
        self._stop_threads()
        self._point_to(source)
        self._start_threads()
        self.wait_until_replicating()

    def become_primary(self) -> None:
        self._stop_threads("IO_THREAD")
        self._apply_the_rest()
        self._stop_threads()
        self._forget_source()
        self.query("SET GLOBAL read_only = OFF")
        self.source = None

    def rebuild(self, source: Node, template: Path) -> None:
        self.kill()
        self._rebuilt += 1
        self.create(template)  # binary logs are never purged here, so GTIDs bring everything back
        self.launch()
        self.wait_until_ready()
        self.follow(source)

    def replicating(self) -> bool:
        status = self.replica_status()
        if not status:
            return False
        receiving = status[self._thread("IO")]
        reachable = self.source is not None and self.source.running
        return status[self._thread("SQL")] == "Yes" and (receiving == "Yes" or not reachable)

    def reconnect(self) -> None:
        def receiving() -> bool:
            return self.replica_status()[self._thread("IO")] == "Yes"

        if not receiving():
            self._stop_threads("IO_THREAD")
            self._start_threads("IO_THREAD")
            wait_until(receiving, START_SECONDS, f"{self.name} is connected to its source")

    def reached(self, position: str, timeout: float) -> bool:
        deadline = time.monotonic() + timeout
        while True:
            left = deadline - time.monotonic()
            if self.value(self._wait_statement(position, max(0.001, min(left, _WAIT_SLICE_SECONDS)))) == "0":
                return True
            if left <= 0:
                return False

    def await_position(self, position: str, timeout: float) -> None:
        """Wait until `position` has been applied here. Raises ServerError after `timeout` seconds."""
        if position and not self.reached(position, timeout):
            raise ServerError(f"{self.name} has not applied {position} within {timeout:g} s")

    def pause_replication(self) -> None:
        self._stop_threads("SQL_THREAD")

    def resume_replication(self) -> None:
        self._start_threads("SQL_THREAD")

    def delay(self, seconds: float) -> None:
        self._stop_threads()
        self._set_delay(math.ceil(seconds))
        self._start_threads()
        self.wait_until_replicating()

    @abstractmethod
    def replica_status(self) -> dict[str, str]:
        """The columns of the engine's replica status; empty when it is no replica."""

    @abstractmethod
    def _thread(self, kind: str) -> str:
        """The status column that tells whether the IO or the SQL thread runs."""

    @abstractmethod
    def _stop_threads(self, which: str = "") -> None: ...

    @abstractmethod
    def _start_threads(self, which: str = "") -> None: ...

    @abstractmethod
    def _point_to(self, source: Node) -> None: ...

    @abstractmethod
    def _forget_source(self) -> None: ...

    @abstractmethod
    def _apply_the_rest(self) -> None:
        """Wait until everything received has been applied."""

    @abstractmethod
    def _set_delay(self, seconds: int) -> None: ...

    @abstractmethod
    def _wait_statement(self, position: str, seconds: float) -> str:
        """A SELECT that waits for `position` and gives 0 when it was reached."""


def account_statements(monitoring: str) -> list[str]:
    """What makes the application's account; `monitoring` is the privilege to read replication status."""
    who = f"'{APPLICATION}'@'{HOST}'"
    return [
        f"CREATE USER {who} IDENTIFIED BY '{APPLICATION_PASSWORD}'",
        f"GRANT {monitoring} ON *.* TO {who}",
    ]


def database_statements(name: str) -> list[str]:
    """What makes an empty database with the application's rights on it and on the test databases of Django.

    Nothing on `*.*` and nothing on `%`: the first would let the account write to a read_only replica
    (MariaDB), the second covers the `mysql` schema with everybody's passwords. `_` is a wildcard in a grant,
    hence escaped.
    """
    escaped = name.replace("_", "\\_")
    who = f"'{APPLICATION}'@'{HOST}'"
    return [
        f"DROP DATABASE IF EXISTS {name}",
        f"CREATE DATABASE {name}",
        f"GRANT ALL PRIVILEGES ON `{escaped}`.* TO {who}",
        f"GRANT ALL PRIVILEGES ON `test\\_{escaped}%`.* TO {who}",
    ]


def replication_statements() -> list[str]:
    """What makes the account that replicas log in with."""
    who = f"'{REPLICATION}'@'{HOST}'"
    return [
        f"CREATE USER {who} IDENTIFIED BY '{REPLICATION_PASSWORD}'",
        f"GRANT REPLICATION SLAVE ON *.* TO {who}",
    ]


def server_command(installation: Installation, options: dict[str, str]) -> list[str]:
    """The command line with these options and nothing from the machine's own option files."""
    if os.geteuid() == 0:
        options = {**options, "user": "root"}  # asked for in so many words, or they refuse root
    return [
        *installation.command(),
        "--no-defaults",
        *(f"--{name}={value}" for name, value in options.items()),
    ]
