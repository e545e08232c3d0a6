"""The folder for the files that the processes of one user on one host share; no other user can read or write it.

The folder is in memory (``/dev/shm``) if possible, otherwise beside the temporary files. The environment variable
``REPLICANT_FOLDER`` names another base: test runs at the same time, or one after the other on the same ports, must not
find each other's files. Processes that share files need the same value.
"""

from __future__ import annotations

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: The environment variable that names another base for the folder.
FOLDER_VARIABLE = "REPLICANT_FOLDER"


class CannotShare(Exception):
    """No shared file can be opened or used: each process must probe the servers, and judge promotions, itself."""


@contextlib.contextmanager
def sharing() -> Iterator[None]:
    if fcntl is None or not hasattr(os, "pwrite"):
        raise CannotShare("this system has no flock")
    try:
        yield
    except OSError as error:
        raise CannotShare(str(error)) from error


def open_with(open_file: Callable[[int], int]) -> tuple[int, int]:
    """Open the first folder in which ``open_file(folder)`` succeeds, and that file. Raises ``OSError``."""
    failure: OSError = FileNotFoundError("no folder for temporary files")
    for base in _bases():
        try:
            folder = _private_folder(base / f"replicant-{os.geteuid()}")
            try:
                return folder, open_file(folder)
            except BaseException:
                os.close(folder)
                raise
        except OSError as error:
            failure = error
    raise failure


def open_folder() -> int:
    """Open this user's own folder, in memory if possible. Raises ``OSError``."""
    failure: OSError = FileNotFoundError("no folder for temporary files")
    for base in _bases():
        try:
            return _private_folder(base / f"replicant-{os.geteuid()}")
        except OSError as error:
            failure = error
    raise failure


def path() -> Path:
    """The path of the folder, for people."""
    folders = [base / f"replicant-{os.geteuid()}" for base in _bases()]
    return next((folder for folder in folders if folder.exists()), folders[0])


def _bases() -> tuple[Path, ...]:
    if chosen := os.environ.get(FOLDER_VARIABLE):
        # No fallback: in another folder, this process would not find the files of the site's other processes.
        return (Path(chosen),)
    return Path("/dev/shm"), Path(tempfile.gettempdir())


def _private_folder(path: Path) -> int:
    """A folder into which no other user can put links, or files that imitate this package's files."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    return owned(os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC), str(path), stat.S_ISDIR)


def open_file(name: str, folder: int) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    return owned(os.open(name, flags, 0o600, dir_fd=folder), name, stat.S_ISREG)


def owned(descriptor: int, name: str, is_right_kind: Callable[[int], bool]) -> int:
    found = os.fstat(descriptor)
    if is_right_kind(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077:
        return descriptor
    os.close(descriptor)
    raise PermissionError(f"{name} is not this user's alone")
