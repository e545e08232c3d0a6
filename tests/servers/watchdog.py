"""Ends a cluster's servers and removes its folder as soon as the process that started it is gone.

Run as a program: `python watchdog.py FOLDER PID`. A process of its own, because nothing inside the parent
runs after a SIGKILL. The kernel's "signal me when my parent dies" would not do: it fires when the *thread*
that forked ends. A pipe held open by the parent would not do either: every process the parent forks holds it
open too.

Servers are recognised by their command line, which names their folder: no list of pids that a crash could
leave stale.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

_POLL_SECONDS = 0.2  # only where the kernel has no pidfd
_IPC_RMID = 0
_LOOK_AGAIN_SECONDS = 0.05  # a server may just be between fork and exec when its parent dies


def processes() -> dict[int, tuple[int, str]]:
    """Every process that is not a zombie: pid -> (parent's pid, command line)."""
    found: dict[int, tuple[int, str]] = {}
    if not Path("/proc/self").is_dir():
        listing = subprocess.run(
            ["ps", "-axo", "pid=,ppid=,stat=,command="], capture_output=True, text=True, check=False
        )
        for line in listing.stdout.splitlines():
            fields = line.split(None, 3)
            if len(fields) == 4 and not fields[2].startswith("Z"):
                found[int(fields[0])] = (int(fields[1]), fields[3])
        return found
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            state, parent = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if state != "Z":
                found[int(entry.name)] = (int(parent), command)
    return found


def servers_in(folder: str) -> set[int]:
    """The servers whose data lie in `folder`, and their children (a stopped one would outlive its parent)."""
    running = processes()
    marks = (f"--datadir={folder}/", f"-D {folder}/")
    servers = {pid for pid, (_, command) in running.items() if any(mark in command for mark in marks)}
    return servers | {pid for pid, (parent, _) in running.items() if parent in servers}


def remove_shared_memory(data: Path) -> None:
    """Remove the System V segment that a killed PostgreSQL leaves; its id is on line 7 of postmaster.pid."""
    with contextlib.suppress(OSError, IndexError, ValueError):
        identifier = int((data / "postmaster.pid").read_text().splitlines()[6].split()[1])
        ctypes.CDLL(None).shmctl(identifier, _IPC_RMID, None)


def end_servers(folder: str) -> None:
    """SIGKILL the servers of `folder` until there are none, then remove the folder."""
    quiet = 0
    while quiet < 2:
        servers = servers_in(folder)
        quiet = 0 if servers else quiet + 1
        for pid in servers:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(_LOOK_AGAIN_SECONDS)
    for data in Path(folder).glob("*/data"):
        remove_shared_memory(data)
    shutil.rmtree(folder, ignore_errors=True)


def wait_for_end(pid: int) -> None:
    """Return when process `pid`, our parent, has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except (AttributeError, OSError):
        while os.getppid() == pid:
            time.sleep(_POLL_SECONDS)
        return
    if os.getppid() == pid:  # else it ended, and the number may belong to somebody else by now
        select.select([descriptor], [], [])


def main() -> None:
    folder, parent = sys.argv[1], int(sys.argv[2])
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # Ctrl-C reaches the whole terminal; the parent decides
    wait_for_end(parent)
    end_servers(folder)


if __name__ == "__main__":
    main()
