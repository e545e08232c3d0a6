"""The engines by name: what the cluster needs to know of each before there is a server."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from . import binlog, mariadb, mysql, postgresql
from .install import Installation
from .machine import CACHE, build_once, copy, give, temporary_folder
from .node import Node


@dataclass(frozen=True)
class Engine:
    """One engine.

    name          as in `start(name)`
    django        its stock Django engine
    node          the class of its servers
    make_template fills a folder with `data`, an initialised data directory: (installation, folder)
    accounts      the statements that made the application's account, in every template
    database      the statements that make a database for the application, by its name
    user          gives the account to run the servers as; None for our own
    """

    name: str
    django: str
    node: type[Node]
    make_template: Callable[[Installation, Path], None]
    accounts: list[str]
    database: Callable[[str], list[str]]
    user: Callable[[], str | None] = lambda: None

    def template(self, installation: Installation) -> Path:
        """An initialised data directory to copy from, made once per version of the server and this code."""
        source = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
        digest = hashlib.sha256(source + str(installation.server).encode()).hexdigest()[:12]
        target = CACHE / f"template-{self.name}-{installation.version}-{digest}"
        build_once(target, lambda unfinished: self._make(installation, unfinished))
        for stale in CACHE.glob(f"template-{self.name}-*"):
            if not stale.name.startswith(target.name):
                shutil.rmtree(stale, ignore_errors=True) if stale.is_dir() else stale.unlink(missing_ok=True)
        return target / "data"

    def _make(self, installation: Installation, target: Path) -> None:
        # In a temporary folder first: the account that runs the server may not be let into the repository.
        folder = temporary_folder(self.name)
        try:
            give(folder, self.user())
            self.make_template(installation, folder)
            copy(folder / "data", target / "data")
        finally:
            shutil.rmtree(folder)


ENGINES_BY_NAME = {
    engine.name: engine
    for engine in (
        Engine(
            "mysql",
            "django.db.backends.mysql",
            mysql.MySQLNode,
            mysql.make_template,
            mysql.MySQLNode.grants,
            binlog.database_statements,
        ),
        Engine(
            "mariadb",
            "django.db.backends.mysql",
            mariadb.MariaDBNode,
            mariadb.make_template,
            mariadb.MariaDBNode.grants,
            binlog.database_statements,
        ),
        Engine(
            "postgresql",
            "django.db.backends.postgresql",
            postgresql.PostgreSQLNode,
            postgresql.make_template,
            postgresql.ACCOUNTS,
            postgresql.database_statements,
            postgresql.run_as,
        ),
    )
}
