"""PostgreSQL servers."""

from __future__ import annotations

import signal
import time
from pathlib import Path

from .install import Installation
from .machine import HOST, account, give, run, wait_until
from .node import APPLICATION, APPLICATION_PASSWORD, START_SECONDS, Node, ServerError
from .watchdog import remove_shared_memory
from .wire import Connection, Row
from .wire_postgresql import ADMINISTRATOR, PostgreSQLConnection

ACCOUNTS = [f"CREATE ROLE {APPLICATION} LOGIN CREATEDB PASSWORD '{APPLICATION_PASSWORD}'"]
_POLL_SECONDS = 0.005
_PAGE = 8192
_SEGMENT = 1024 * 1024
_SHORT_HEADER, _LONG_HEADER = 24, 40

# What is changed while a server runs (the source, the delay, the fence) must not stand here: the command line
# would win.
_OPTIONS = {
    "listen_addresses": HOST,
    "shared_buffers": "16MB",
    "dynamic_shared_memory_type": "mmap",  # files among the data: nothing is left after a kill
    "max_connections": "100",
    "wal_level": "replica",
    "wal_keep_size": "256MB",
    "min_wal_size": "8MB",
    "hot_standby": "on",
    "fsync": "off",
    "wal_writer_delay": "10ms",
    "wal_retrieve_retry_interval": "50ms",
    "wal_receiver_status_interval": "1s",
    "shared_preload_libraries": "pg_stat_statements",
    "pg_stat_statements.max": "50000",  # every savepoint's name makes a statement of its own
    "pg_stat_statements.track": "top",
    "pg_stat_statements.track_utility": "on",
    "pg_stat_statements.save": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "update_process_title": "off",
}

# Texts are kept with their leading comments. DECLARE stands for what its cursor selects: FETCH counts
# nothing.
_COUNT = rf"""
SELECT coalesce(sum(calls), 0), (SELECT dealloc FROM pg_stat_statements_info)
FROM pg_stat_statements JOIN pg_roles ON pg_roles.oid = userid
WHERE rolname <> '{ADMINISTRATOR}'
  AND query ~* '^(\s|\(|/\*([^*]|\*+[^*/])*\*+/|--[^\n]*\n)*(select|with|values|table|declare)\M'
"""


class PostgreSQLNode(Node):
    """A PostgreSQL server (14 or later)."""

    stop_signal = signal.SIGINT  # "fast": ends the sessions instead of waiting for them
    starts_before_replicas = True  # one that finds no source may take its ten-second timeout to look again

    def _command(self) -> list[str]:
        options = {**_OPTIONS, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        settings = [argument for name, value in options.items() for argument in ("-c", f"{name}={value}")]
        return [*self._installation.command(), "-D", str(self.data), *settings]

    def _connect(self, timeout: float, database: str = "postgres") -> Connection:
        return PostgreSQLConnection(str(self.folder / f".s.PGSQL.{self.port}"), timeout, database)

    def query(self, sql: str, database: str | None = None) -> list[Row]:
        if database is None:
            return super().query(sql)
        # Not kept open: a session in a database keeps others from dropping or copying it.
        connection = self._connect(self.answer_seconds, database)
        try:
            return connection.query(sql)
        finally:
            connection.close()

    query.__doc__ = Node.query.__doc__

    def kill(self) -> None:
        super().kill()
        remove_shared_memory(self.data)

    kill.__doc__ = Node.kill.__doc__

    def _remove_leftovers(self) -> None:
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def statements(self) -> int:
        """The reads that pg_stat_statements has seen from others than the administrator.

        Counts SELECT, VALUES, TABLE and WITH (also one that modifies) that succeeded, and a server-side
        cursor once, when it is declared; the call itself adds nothing. A statement of the extended protocol
        inside a transaction counts only when the next one or the commit follows (Django's cursors bind on the
        client, use the simple protocol and count at once). Starts again at 0 with the server. Raises
        ServerError if the server had too many different statements to remember all.
        """
        count, forgotten = self.query(_COUNT)[0]
        if forgotten != "0":
            raise ServerError(f"{self.name} has forgotten statements: the count is no longer exact")
        return int(count)

    def prepare_to_follow(self, source: Node) -> None:
        super().prepare_to_follow(source)
        (self.data / "standby.signal").touch()
        with (self.data / "postgresql.auto.conf").open("a") as file:
            file.write(f"primary_conninfo = '{self._conninfo(source)}'\n")
        give(self.data, self._user)

    def follow(self, source: Node) -> None:
        if source is not self.source:
            self.source = source
            self._alter("primary_conninfo", self._conninfo(source))
        self.wait_until_replicating()

    def become_primary(self) -> None:
        self.delay(0)
        self.resume_replication()
        self.query("SELECT pg_promote(true, 60)")
        wait_until(lambda: self.value("SELECT pg_is_in_recovery()") == "f", START_SECONDS, f"{self.name} is promoted")
        self.source = None

    def fence(self) -> None:
        self._alter("default_transaction_read_only", "on")
        wait_until(
            lambda: self.value("SHOW default_transaction_read_only") == "on",
            START_SECONDS,
            f"{self.name} is fenced",
        )

    def has_more_than(self, other: Node) -> bool:
        # Also an old primary without a single change of its own has ended its timeline elsewhere than the new
        # one began.
        if self.role == "former":
            return True
        mine = _number(self.value("SELECT coalesce(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn())"))
        return mine > _number(other.value("SELECT pg_current_wal_flush_lsn()"))

    def rebuild(self, source: Node, template: Path) -> None:
        self.kill()
        fresh = self.folder / "fresh"
        command = [
            str(self._installation.tool("pg_basebackup")),
            "-D",
            str(fresh),
            "-c",
            "fast",
            "-X",
            "stream",
            "--no-sync",
        ]
        run([*command, "-d", _address(source)], self.log, user=self._user)
        self.create(fresh)
        run(["rm", "-rf", str(fresh)], self.log)
        (self.data / "postgresql.auto.conf").write_text("")
        self.prepare_to_follow(source)
        self.launch()
        self.wait_until_ready()
        self.wait_until_replicating()

    def replicating(self) -> bool:
        # A replica that holds changes back looks for its source only when it is done with them.
        if self.source is None or not self.source.running or self._held_back():
            return self.value("SELECT pg_is_in_recovery()") == "t"
        return self.value("SELECT status FROM pg_stat_wal_receiver") == "streaming"

    def _held_back(self) -> bool:
        paused = "pg_get_wal_replay_pause_state() <> 'not paused'"
        delayed = "current_setting('recovery_min_apply_delay') <> '0'"
        return self.value(f"SELECT pg_is_in_recovery() AND ({paused} OR {delayed})") == "t"

    def reconnect(self) -> None:
        self.wait_until_replicating()  # it looks every 50 ms by itself

    def position(self) -> str:
        return self.value("SELECT pg_current_wal_insert_lsn()")

    def reached(self, position: str, timeout: float) -> bool:
        target = end_of_record(_number(position))
        deadline = time.monotonic() + timeout
        while _number(self.value("SELECT coalesce(pg_last_wal_replay_lsn(), '0/0')")) < target:
            if time.monotonic() > deadline:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def pause_replication(self) -> None:
        self.query("SELECT pg_wal_replay_pause()")
        state = "SELECT pg_get_wal_replay_pause_state()"
        wait_until(lambda: self.value(state) == "paused", START_SECONDS, f"{self.name} pauses")

    def resume_replication(self) -> None:
        self.query("SELECT pg_wal_replay_resume()")

    def delay(self, seconds: float) -> None:
        value = f"{round(seconds * 1000)}ms"
        self._alter("recovery_min_apply_delay", value)
        setting = "SELECT setting FROM pg_settings WHERE name = 'recovery_min_apply_delay'"
        wait_until(lambda: f"{self.value(setting)}ms" == value, START_SECONDS, f"{self.name} takes the delay")

    def _conninfo(self, source: Node) -> str:
        # The source knows its replicas by name.
        return f"{_address(source)} application_name={self.name}"

    def _alter(self, name: str, value: str) -> None:
        self.query(f"ALTER SYSTEM SET {name} = '{value}'")
        self.query("SELECT pg_reload_conf()")


def run_as() -> str | None:
    """The account to run servers as when we are root, which PostgreSQL refuses; None for our own."""
    return account("postgres", "nobody")


def make_template(installation: Installation, folder: Path) -> None:
    """Make `folder`/data, a database cluster that never ran, with the accounts and the extension in it."""
    data, log = folder / "data", folder / "log"
    log.touch()
    user = run_as()
    give(folder, user)
    initialise = [str(installation.tool("initdb")), "-D", str(data), "--username", ADMINISTRATOR, "--no-sync"]
    layout = ["--encoding", "UTF8", "--locale", "C", f"--wal-segsize={_SEGMENT // 1024**2}"]
    run([*initialise, *layout, "--auth-local", "trust", "--auth-host", "scram-sha-256"], log, user=user)
    single = [*installation.command(), "--single", "-D", str(data), "-c", "fsync=off", "-j"]
    # In template1: every database is a copy of it, and what the administrator makes there is for the
    # application too.
    shared = [
        f"ALTER DEFAULT PRIVILEGES GRANT ALL ON {kind} TO {APPLICATION}"
        for kind in ("TABLES", "SEQUENCES", "FUNCTIONS")
    ]
    for database, statements in (
        ("postgres", [*ACCOUNTS, "CREATE EXTENSION pg_stat_statements"]),
        ("template1", shared),
    ):
        run([*single, database], log, "".join(f"{statement};\n\n" for statement in statements), user=user)


def database_statements(name: str) -> list[str]:
    """What makes an empty database that belongs to the application."""
    return [f"DROP DATABASE IF EXISTS {name} WITH (FORCE)", f"CREATE DATABASE {name} OWNER {APPLICATION}"]


def end_of_record(position: int) -> int:
    """Where the last record ends, given the insert position.

    At the start of a page the insert position stands *behind* the page's header. No replica replays up to
    there until something more is written: waiting for the position as given would hang once in about a
    thousand times.
    """
    header = _LONG_HEADER if position % _SEGMENT == _LONG_HEADER else _SHORT_HEADER
    return position - header if position % _PAGE == header else position


def _address(source: Node) -> str:
    return f"host={source.folder} port={source.port} user={ADMINISTRATOR}"


def _number(position: str) -> int:
    """An LSN ("0/3000060") as bytes since the beginning."""
    high, _, low = position.partition("/")
    return (int(high, 16) << 32) + int(low, 16)
