"""MySQL servers."""

from __future__ import annotations

import contextlib
from pathlib import Path

from .binlog import BinlogNode, account_statements, replication_statements, server_command
from .install import Installation
from .machine import run
from .node import REPLICATION, REPLICATION_PASSWORD, START_SECONDS, Node

_OPTIONS = {
    "gtid-mode": "ON",
    "enforce-gtid-consistency": "ON",
    "log-replica-updates": "ON",
    "replica-net-timeout": "10",
    "innodb-redo-log-capacity": "16M",
    "mysqlx": "OFF",
    "binlog-expire-logs-seconds": "0",
    "secure-file-priv": "",
}


class MySQLNode(BinlogNode):
    """A MySQL server (8.4 or later)."""

    grants = account_statements("REPLICATION CLIENT")

    def _command(self) -> list[str]:
        options = {**self._options(), **_OPTIONS, **_layout(self._installation), "datadir": str(self.data)}
        return server_command(self._installation, options)

    def stop(self) -> None:
        if self.running and not self.suspended:
            with contextlib.suppress(OSError):
                # It would wait up to eight seconds for the threads that feed the replicas, and serve nobody
                # meanwhile.
                for row in self.query("SHOW PROCESSLIST"):
                    if row[4].startswith("Binlog Dump"):
                        self.query(f"KILL {row[0]}")
        super().stop()

    stop.__doc__ = Node.stop.__doc__

    def position(self) -> str:
        return self.value("SELECT @@GLOBAL.gtid_executed").replace("\n", "")

    def has_more_than(self, other: Node) -> bool:
        mine, theirs = self.position(), other.position()
        return self.value(f"SELECT GTID_SUBSET('{mine}', '{theirs}')") == "0"

    def replica_status(self) -> dict[str, str]:
        return self.record("SHOW REPLICA STATUS")

    def _thread(self, kind: str) -> str:
        return f"Replica_{kind}_Running"

    def _stop_threads(self, which: str = "") -> None:
        self.query(f"STOP REPLICA {which}")

    def _start_threads(self, which: str = "") -> None:
        self.query(f"START REPLICA {which}")

    def _point_to(self, source: Node) -> None:
        self.query(
            f"CHANGE REPLICATION SOURCE TO SOURCE_HOST='{source.host}', SOURCE_PORT={source.port}, "
            f"SOURCE_USER='{REPLICATION}', SOURCE_PASSWORD='{REPLICATION_PASSWORD}', SOURCE_AUTO_POSITION=1, "
            "GET_SOURCE_PUBLIC_KEY=1, SOURCE_CONNECT_RETRY=1, SOURCE_RETRY_COUNT=0"
        )

    def _forget_source(self) -> None:
        self.query("RESET REPLICA ALL")

    def _apply_the_rest(self) -> None:
        self._start_threads("SQL_THREAD")
        status = self.replica_status()
        self.await_position(status["Retrieved_Gtid_Set"].replace("\n", ""), START_SECONDS + float(status["SQL_Delay"]))

    def _set_delay(self, seconds: int) -> None:
        self.query(f"CHANGE REPLICATION SOURCE TO SOURCE_DELAY={seconds}")

    def _wait_statement(self, position: str, seconds: float) -> str:
        return f"SELECT WAIT_FOR_EXECUTED_GTID_SET('{position}', {seconds:.3f})"


def make_template(installation: Installation, folder: Path) -> None:
    """Make `folder`/data: a data directory with accounts and certificates and an empty binary log."""
    statements = folder / "accounts.sql"
    statements.write_text("".join(f"{line};\n" for line in [*MySQLNode.grants, *replication_statements()]))
    options = {
        **_layout(installation),
        "datadir": str(folder / "data"),
        "innodb-redo-log-capacity": _OPTIONS["innodb-redo-log-capacity"],
        "init-file": str(statements),
        "secure-file-priv": "",
        "disable-log-bin": "ON",
    }
    run([*server_command(installation, options), "--initialize-insecure"], folder / "log")
    (folder / "data" / "auto.cnf").unlink()  # each server must make its own identity


def _layout(installation: Installation) -> dict[str, str]:
    """Where an unpacked server finds its messages, character sets and plugins; an installed one knows."""
    if installation.root is None:
        return {}
    base = installation.root / "usr"
    return {
        "basedir": str(base),
        "lc-messages-dir": str(base / "share/mysql"),
        "character-sets-dir": str(base / "share/mysql/charsets"),
        "plugin-dir": str(base / "lib/mysql/plugin"),
    }
