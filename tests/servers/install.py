"""Finds each engine's binaries, or gets them where that is allowed, or says in a line what to install.

Looked for, in this order: the environment (REPLICANT_MYSQLD and REPLICANT_MARIADBD, a server binary;
REPLICANT_PG_BIN, a folder with `postgres` and `initdb`), PATH and the usual places, and for MySQL the folder
it was unpacked into earlier. As root on Debian and Ubuntu what is missing is then installed, unless
REPLICANT_NO_INSTALL is set.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from . import apt
from .machine import CACHE

MYSQL_FOLDER = CACHE / "mysql"
_SYSTEM_FOLDERS = ("/usr/sbin", "/usr/local/sbin", "/usr/libexec", "/usr/local/bin", "/opt/homebrew/bin")
_MYSQL_FOLDERS = (
    *_SYSTEM_FOLDERS,
    "/usr/local/mysql/bin",
    "/opt/homebrew/opt/mysql/bin",
    "/usr/local/opt/mysql/bin",
)
_MARIADB_FOLDERS = (*_SYSTEM_FOLDERS, "/opt/homebrew/opt/mariadb/bin", "/usr/local/opt/mariadb/bin")
_POSTGRESQL_FOLDERS = (  # from the root; the highest version goes first
    "usr/lib/postgresql/*/bin",
    "usr/pgsql-*/bin",
    "opt/homebrew/opt/postgresql@*/bin",
    "usr/local/pgsql/bin",
)


class ServersUnavailable(RuntimeError):
    """An engine is not on this machine and may not be installed; one line that says what to install."""


@dataclass(frozen=True)
class Installation:
    """One engine's binaries.

    server    the server binary
    version   as it says itself, "9.7.4"
    root      the folder it was unpacked into with all its libraries; None for one that the system installed
    """

    server: Path
    version: str
    root: Path | None = None

    def command(self) -> list[str]:
        """How to call the server: through its own dynamic loader when it was unpacked."""
        return [*_loader(self.root), str(self.server)] if self.root else [str(self.server)]

    def tool(self, name: str) -> Path:
        """A program that belongs to the server. Raises ServersUnavailable when it is not there."""
        for folder in (
            self.server.parent,
            self.server.parent.parent / "bin",
            self.server.parent.parent / "scripts",
        ):
            if (folder / name).exists():
                return folder / name
        found = shutil.which(name)
        if found is None:
            raise ServersUnavailable(f"{self.server} is here, but not {name}: install the rest of the server's package")
        return Path(found)


def find(engine: str) -> Installation | None:
    """The engine's binaries, or None."""
    return _FINDERS[engine]()


def ensure(engine: str) -> Installation:
    """The engine's binaries, installed if need be. Raises ServersUnavailable."""
    found = find(engine)
    if found is None and apt.allowed():
        try:
            _INSTALLERS[engine]()
        except (OSError, subprocess.CalledProcessError) as error:
            raise ServersUnavailable(f"{missing(engine)} (installing it failed: {error})") from error
        found = find(engine)
    if found is None:
        raise ServersUnavailable(missing(engine))
    return found


def missing(engine: str) -> str:
    """One line: what to do to have the engine."""
    return _MISSING[engine]


def _mysql() -> Installation | None:
    for candidate in _candidates("REPLICANT_MYSQLD", ("mysqld",), _MYSQL_FOLDERS):
        if (version := _version([str(candidate)])) and "MariaDB" not in version[1]:
            return Installation(candidate, version[0])
    server = MYSQL_FOLDER / "usr/sbin/mysqld"
    if server.exists() and (version := _version([*_loader(MYSQL_FOLDER), str(server)])):
        return Installation(server, version[0], MYSQL_FOLDER)
    return None


def _mariadb() -> Installation | None:
    for candidate in _candidates("REPLICANT_MARIADBD", ("mariadbd", "mysqld"), _MARIADB_FOLDERS):
        if (version := _version([str(candidate)])) and "MariaDB" in version[1]:
            return Installation(candidate, version[0])
    return None


def _postgresql() -> Installation | None:
    given = os.environ.get("REPLICANT_PG_BIN")
    folders = [str(folder) for pattern in _POSTGRESQL_FOLDERS for folder in Path("/").glob(pattern)]
    folders.sort(key=lambda folder: [int(number) for number in re.findall(r"\d+", folder)], reverse=True)
    folders += os.environ.get("PATH", "").split(os.pathsep)
    for folder in [given] if given else folders:
        server = Path(folder, "postgres")
        if server.exists() and Path(folder, "initdb").exists() and (version := _version([str(server)])):
            return Installation(server.resolve(), version[0])
    return None


def _candidates(variable: str, names: tuple[str, ...], folders: tuple[str, ...]) -> Iterator[Path]:
    given = os.environ.get(variable)
    if given:
        yield Path(given)
        return
    for name in names:
        path = os.pathsep.join([os.environ.get("PATH", ""), *folders])
        for folder in path.split(os.pathsep):
            if folder and os.access(Path(folder, name), os.X_OK):
                yield Path(folder, name)


@functools.cache
def _version_of(command: tuple[str, ...]) -> tuple[str, str] | None:
    try:
        said = subprocess.run([*command, "--version"], capture_output=True, text=True, check=False).stdout
    except OSError:
        return None
    number = re.search(r"\d+(\.\d+)+", said.replace(command[-1], ""))
    return (number.group(), said) if number else None


def _version(command: list[str]) -> tuple[str, str] | None:
    """The number in what `command --version` says, and all that it says; None if it cannot be run."""
    return _version_of(tuple(command))


def _loader(root: Path) -> list[str]:
    loader = next(root.glob("usr/lib/*-linux-gnu*/ld-linux*.so.*"))
    return [str(loader), "--library-path", str(loader.parent)]


def _install_mysql() -> None:
    apt.unpack_mysql(MYSQL_FOLDER)


def _install_mariadb() -> None:
    apt.install(["mariadb-server-core", "mariadb-client-core"])


def _install_postgresql() -> None:
    with apt.no_service_cluster():
        apt.install(["postgresql"])


_FINDERS: dict[str, Callable[[], Installation | None]] = {
    "mysql": _mysql,
    "mariadb": _mariadb,
    "postgresql": _postgresql,
}
_INSTALLERS: dict[str, Callable[[], None]] = {
    "mysql": _install_mysql,
    "mariadb": _install_mariadb,
    "postgresql": _install_postgresql,
}
_MISSING = {
    "mysql": "MySQL is not here: install MySQL's server (mysqld), or name its binary in REPLICANT_MYSQLD",
    "mariadb": "MariaDB is not here: install mariadb-server-core, or name its binary in REPLICANT_MARIADBD",
    "postgresql": "PostgreSQL is not here: install postgresql, or name its bin folder in REPLICANT_PG_BIN",
}
