"""MariaDB servers."""

from __future__ import annotations

from pathlib import Path

from .binlog import BinlogNode, account_statements, replication_statements, server_command
from .install import Installation
from .machine import run
from .node import REPLICATION, REPLICATION_PASSWORD, START_SECONDS, Node

_OPTIONS = {
    "innodb-log-file-size": "16M",
    "aria-pagecache-buffer-size": "1M",
    "aria-log-file-size": "8M",
    "log-slave-updates": "ON",
    "slave-net-timeout": "10",
}


class MariaDBNode(BinlogNode):
    """A MariaDB server (10.5 or later)."""

    grants = account_statements("SLAVE MONITOR")

    def _command(self) -> list[str]:
        # In a folder that they shared, one that starts would delete the temporary tables of all the others.
        folders = {"datadir": str(self.data), "tmpdir": str(self.data.parent)}
        return server_command(self._installation, {**self._options(), **_OPTIONS, **folders})

    def position(self) -> str:
        return self.value("SELECT @@GLOBAL.gtid_binlog_pos")

    def has_more_than(self, other: Node) -> bool:
        # Per domain and server id, since an old primary and its successor both count on from the same number.
        mine, theirs = (_by_origin(node.value("SELECT @@GLOBAL.gtid_binlog_state")) for node in (self, other))
        return any(number > theirs.get(origin, 0) for origin, number in mine.items())

    def replica_status(self) -> dict[str, str]:
        return self.record("SHOW SLAVE STATUS")

    def _thread(self, kind: str) -> str:
        return f"Slave_{kind}_Running"

    def _stop_threads(self, which: str = "") -> None:
        self.query(f"STOP SLAVE {which}")

    def _start_threads(self, which: str = "") -> None:
        self.query(f"START SLAVE {which}")

    def _point_to(self, source: Node) -> None:
        # Where this server is: what it applied as a replica, or what it wrote as a primary.
        self.query("SET GLOBAL gtid_slave_pos = @@GLOBAL.gtid_binlog_pos")
        self.query(
            f"CHANGE MASTER TO MASTER_HOST='{source.host}', MASTER_PORT={source.port}, "
            f"MASTER_USER='{REPLICATION}', MASTER_PASSWORD='{REPLICATION_PASSWORD}', "
            "MASTER_USE_GTID=slave_pos, MASTER_CONNECT_RETRY=1"
        )

    def _forget_source(self) -> None:
        self.query("RESET SLAVE ALL")

    def _apply_the_rest(self) -> None:
        self._start_threads("SQL_THREAD")
        status = self.replica_status()
        self.await_position(status["Gtid_IO_Pos"], START_SECONDS + float(status["SQL_Delay"]))

    def _set_delay(self, seconds: int) -> None:
        self.query(f"CHANGE MASTER TO MASTER_DELAY={seconds}")

    def _wait_statement(self, position: str, seconds: float) -> str:
        return f"SELECT MASTER_GTID_WAIT('{position}', {seconds:.3f})"


def make_template(installation: Installation, folder: Path) -> None:
    """Make `folder`/data: a data directory with the accounts and an empty binary log."""
    options = {"datadir": str(folder / "data"), "innodb-log-file-size": _OPTIONS["innodb-log-file-size"]}
    server = server_command(installation, options)
    install = [str(installation.tool("mariadb-install-db")), *server[1:]]
    run(
        [*install, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
        folder / "log",
    )
    statements = ["USE mysql", "FLUSH PRIVILEGES", *MariaDBNode.grants, *replication_statements()]
    script = "".join(f"{statement};\n" for statement in statements)
    run([*server, "--bootstrap", "--skip-log-bin"], folder / "log", script)


def _by_origin(state: str) -> dict[str, int]:
    """The highest sequence number per "domain-server" of a MariaDB position with every origin in it."""
    numbers: dict[str, int] = {}
    for gtid in filter(None, (part.strip() for part in state.split(","))):
        origin, _, number = gtid.rpartition("-")
        numbers[origin] = max(numbers.get(origin, 0), int(number))
    return numbers
