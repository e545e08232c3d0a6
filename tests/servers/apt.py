"""Getting servers on Debian and Ubuntu: by apt-get, or, for MySQL, unpacked into a folder beside MariaDB."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from .machine import build_once

_CREATECLUSTER = Path("/etc/postgresql-common/createcluster.d/replicant.conf")
_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_MYSQL_SUITE = "sid"  # the only one of Debian's with MySQL proper
# Dependencies of mysqld's packages that mysqld itself never loads.
_NOT_NEEDED = ("perl", "libperl", "gcc-", "mysql-client", "debconf", "dpkg", "tar", "adduser", "passwd")
_UNUSED_FOLDERS = (
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/lintian",
    "usr/share/bash-completion",
)


def allowed() -> bool:
    """True if we may install: root, a machine with apt-get, and REPLICANT_NO_INSTALL not set."""
    return not os.environ.get("REPLICANT_NO_INSTALL") and os.geteuid() == 0 and shutil.which("apt-get") is not None


def install(packages: list[str]) -> None:
    """apt-get install, after saying so. Raises CalledProcessError, with apt-get's own words on stderr."""
    _say(f"installing {' '.join(packages)} with apt-get")
    _apt(["update"])
    _apt(["install", "-y", "--no-install-recommends", *packages])


@contextlib.contextmanager
def no_service_cluster() -> Iterator[None]:
    """Have Debian's postgresql package create and start no cluster of its own while it is being installed."""
    _CREATECLUSTER.parent.mkdir(parents=True, exist_ok=True)
    _CREATECLUSTER.write_text("create_main_cluster = false\nstart_conf = manual\n")
    try:
        yield
    finally:
        _CREATECLUSTER.unlink()


def unpack_mysql(target: Path) -> None:
    """Download MySQL's server and all its libraries and unpack them into `target`: all of it or nothing."""
    build_once(target, _unpack_mysql)


def _unpack_mysql(folder: Path) -> None:
    with tempfile.TemporaryDirectory(prefix="replicant-apt-") as name:
        root = Path(name)
        options = _private_root(root)
        _say("downloading MySQL's server into the project's own folder (70 MB, not installed)")
        _apt(["update"], options)
        _apt(["install", "-y", "--download-only", "--no-install-recommends", _mysql_package(options)], options)
        for package in sorted((root / "cache/archives").glob("*.deb")):
            if not package.name.startswith(_NOT_NEEDED):
                subprocess.run(["dpkg-deb", "-x", str(package), str(folder)], check=True)
    for unused in _UNUSED_FOLDERS:
        shutil.rmtree(folder / unused, ignore_errors=True)


def _private_root(root: Path) -> list[str]:
    """Lay out an apt of its own under `root`, with nothing installed; returns the options to use it by."""
    for folder in ("lists/partial", "cache/archives/partial", "state", "empty"):
        (root / folder).mkdir(parents=True)
    (root / "status").touch()
    options = {
        "Dir::State": root / "state",
        "Dir::State::Lists": root / "lists",
        "Dir::State::Status": root / "status",
        "Dir::Cache": root / "cache",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": root / "empty",
        "Acquire::Languages": "none",
        "APT::Sandbox::User": "root",  # the usual account cannot write to a private temporary folder
    }
    if _is_debian():
        keyring = f"[signed-by={_DEBIAN_KEYRING}] " if _DEBIAN_KEYRING.exists() else ""
        (root / "sources.list").write_text(f"deb {keyring}{_mirror()} {_MYSQL_SUITE} main\n")
        options |= {"Dir::Etc::SourceList": root / "sources.list", "Dir::Etc::SourceParts": root / "empty"}
    return [argument for name, value in options.items() for argument in ("-o", f"{name}={value}")]


def _mysql_package(options: list[str]) -> str:
    """Debian has `mysql-server-core`, Ubuntu one with a version in its name: the highest."""
    search = ["apt-cache", *options, "search", "--names-only", "^mysql-server-core"]
    listing = subprocess.run(search, check=True, capture_output=True, text=True).stdout
    packages = [line.split()[0] for line in listing.splitlines()]
    if not packages:
        raise OSError("this machine's package archive has no MySQL server")
    return max(packages)


def _mirror() -> str:
    """Where this machine gets Debian itself from; apt reads its own configuration in either format."""
    codename = _os_release().get("VERSION_CODENAME", "")
    listing = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    mirrors = [line.split()[0] for line in listing.splitlines() if not codename or line.endswith(f" {codename}")]
    if not mirrors:
        raise OSError("apt's configuration names no Debian archive")
    return mirrors[0]


def _is_debian() -> bool:
    return _os_release().get("ID") == "debian"


def _os_release() -> dict[str, str]:
    with contextlib.suppress(OSError):
        lines = Path("/etc/os-release").read_text().splitlines()
        return {name: value.strip('"') for name, _, value in (line.partition("=") for line in lines)}
    return {}


def _apt(arguments: list[str], options: list[str] | None = None) -> None:
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-qq", *(options or []), *arguments]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=sys.stderr, env=environment)


def _say(line: str) -> None:
    sys.stderr.write(f"servers: {line}\n")
