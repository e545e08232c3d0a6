"""What the servers ask of the machine: a folder, free ports, an account, signals to a tree of processes."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from .watchdog import processes

REPOSITORY = Path(__file__).resolve().parents[2]
CACHE = REPOSITORY / ".venv" / "servers"
"""What outlives a run: template data directories and MySQL's own binaries. `rm -rf .venv` resets it."""

HOST = "127.0.0.1"
_POLL_SECONDS = 0.005
_ROOM_BYTES = 2 * 1024**3  # a cluster of three takes 0.1 to 0.4 GiB, and a test may write
_LONGEST_FOLDER = 60  # a Unix socket's path ends at 107 (Linux) or 103 bytes, and ours adds up to 30


def temporary_folder(engine: str) -> Path:
    """Make a private folder, in memory where the machine has room there."""
    candidates = [Path("/dev/shm"), Path(tempfile.gettempdir()), Path("/tmp")]
    for base in candidates:
        if not os.access(base, os.W_OK | os.X_OK) or len(str(base)) > _LONGEST_FOLDER:
            continue
        if base != candidates[-1] and shutil.disk_usage(base).free < _ROOM_BYTES:
            continue
        return Path(tempfile.mkdtemp(prefix=f"replicant-{engine}-", dir=base))
    raise OSError("no writable temporary folder")


def free_ports(count: int) -> list[int]:
    """Find `count` ports that nobody listens on, all different.

    Outside the range the kernel takes client ports from: a client that keeps knocking at the port of a server
    that is down would sooner or later be given that very port for its own end, connect to itself and keep the
    server from coming back.
    """
    low, high = _ephemeral_range()
    pool = [port for port in range(10240, 65000) if not low <= port <= high]
    ports: list[int] = []
    for port in random.sample(pool, len(pool)):
        with socket.socket() as probe:
            try:
                probe.bind((HOST, port))
            except OSError:
                continue
        ports.append(port)
        if len(ports) == count:
            return ports
    raise OSError(f"no {count} free ports on {HOST}")


def _ephemeral_range() -> tuple[int, int]:
    try:
        low, high = Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()
    except OSError:
        return 49152, 65535  # IANA's, which the BSDs and macOS use
    return int(low), int(high)


def account(*names: str) -> str | None:
    """As root, the first of the accounts `names` that exists; None when we are not root. Raises OSError."""
    if os.geteuid() != 0:
        return None
    for name in names:
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise OSError(f"none of the accounts {', '.join(names)} exists to run a server as")


def primary_group(user: str | None) -> int | None:
    """The group that goes with an account (`nobody`'s is not called nobody)."""
    return pwd.getpwnam(user).pw_gid if user else None


def give(folder: Path, user: str | None) -> None:
    """Make `user` (None: leave it) the owner of `folder` and all that is in it."""
    if user is not None:
        subprocess.run(["chown", "-R", f"{user}:", str(folder)], check=True)


def copy(source: Path, target: Path) -> None:
    """Copy a folder, holes and all (`cp` is several times faster than Python here)."""
    gnu = ["--reflink=auto", "--sparse=always"] if Path("/proc/self").is_dir() else []
    subprocess.run(["cp", "-a", *gnu, str(source), str(target)], check=True)


def run(command: list[str], log: Path, script: str = "", user: str | None = None) -> None:
    """Run a program to its end as `user`, with `script` as input and what it says in `log`; OSError if it
    fails."""
    groups: list[int] | None = [] if user else None
    with log.open("ab") as file:
        done = subprocess.run(
            command, input=script.encode(), stdout=file, stderr=file, check=False, cwd=log.parent,
            env={**os.environ, "LC_ALL": "C"}, user=user, group=primary_group(user), extra_groups=groups,
        )  # fmt: skip
    if done.returncode:
        raise OSError(f"{command[0]} failed ({done.returncode}):\n{log.read_text(errors='replace')[-2000:]}")


def wait_until(condition: Callable[[], bool], timeout: float, what: str) -> None:
    """Wait until `condition` holds; after `timeout` seconds TimeoutError, saying `what` was waited for."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not within {timeout:g} s: {what}")
        time.sleep(_POLL_SECONDS)


def children(pid: int) -> list[int]:
    """The processes that `pid` has forked and that still run."""
    return [child for child, (parent, _) in processes().items() if parent == pid]


def signal_tree(pid: int, number: signal.Signals) -> None:
    """Send a signal to `pid` and then to its children (a stopped parent forks no more)."""
    found = children(pid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
    for child in {*found, *children(pid)}:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`: two runs that build the same thing do it one after the other."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def build_once(target: Path, build: Callable[[Path], None]) -> Path:
    """Return the folder `target`, having it made by `build(empty folder)` first if it is not there, all or
    nothing."""
    if target.is_dir():
        return target
    with locked(target.with_name(f"{target.name}.lock")):
        if target.is_dir():
            return target
        unfinished = target.with_name(f"{target.name}.unfinished")
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(parents=True)
        build(unfinished)
        unfinished.rename(target)
    return target
