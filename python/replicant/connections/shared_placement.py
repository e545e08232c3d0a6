"""The placement that all processes of a host agree on, in files that outlive each of them.

One process decides that another server is the primary, and all follow. Without an order of these decisions, a process
that was stopped for a while would publish what it knew before, and take the whole host back to a former primary. And
without a memory that outlives the processes, one that starts after a failover would begin with the primary of its
settings.

Every placement therefore has a generation, which only grows. The placements of all clusters are in one file with a
numbered name. A change writes a complete file and links it under the next number. The kernel lets only one process
create that link: if two processes decide at the same time, the later one gets an error and adopts the decision of the
other one. No lock is held, so that a process that is stopped in the middle of a change does not delay another one. When
it goes on, it finds its number taken.

The obvious alternative, one file per configuration, does not help a process with settings that differ in a replica or
in OPTIONS, and a rolling deploy has such processes. Servers are therefore named by their addresses, and a cluster finds
its record by any server that it shares with the record.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import stat
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from replicant import private_folder
from replicant.private_folder import CannotShare, sharing

#: Must be raised with every change of the content: processes of different formats do not see each other's decisions.
FORMAT = 1
_FILE = re.compile(rf"placements-{FORMAT}-([0-9]+)")
_UNFINISHED = "unfinished-"
_DIGEST_LETTERS = 64
#: A change is tried again when another process was first. Each attempt means that another change was made.
_ATTEMPTS = 100
#: The unfinished file of a process that was killed while it wrote is removed after this many seconds.
_ABANDONED_SECONDS = 3600.0
#: With more records than this, the ones that were changed least recently are dropped: nothing else limits their number.
_MOST_RECORDS = 500
_LARGEST = 16 * 1024 * 1024


class Record(NamedTuple):
    """The shared knowledge of one cluster. Servers are named by their addresses, as :func:`address` writes them."""

    servers: frozenset[str]
    """The servers that any process has listed together."""
    generation: int = 0
    primary: str | None = None
    """The server that is the primary; None if the primary never changed, and settings name it."""
    origin: str | None = None
    """The primary in the settings of the process that decided. ``seats`` are valid for processes that agree on it."""
    seats: Mapping[str, str] = {}
    """For each server to which the settings of an alias lead, the server behind that alias."""
    outsiders: frozenset[str] = frozenset()
    """The servers that were the primary, and are not known to replicate from the present one."""
    read_only: frozenset[str] = frozenset()
    """The servers that were seen to be read-only: a user without privileges recognises a replica only by that."""

    def packed(self) -> list[Any]:
        sets = [sorted(each) for each in (self.servers, self.outsiders, self.read_only)]
        return [self.generation, self.primary, self.origin, dict(self.seats), *sets]

    @classmethod
    def unpacked(cls, packed: list[Any]) -> Record:
        generation, primary, origin, seats, *sets = packed
        servers, outsiders, read_only = (frozenset(map(str, each)) for each in sets)
        seats = dict(seats)
        if type(generation) is not int or not all(
            isinstance(each, str) for each in (primary or "", origin or "", *seats, *seats.values())
        ):
            raise TypeError("a server is not an address, or a generation is not a number")
        return cls(servers, generation, primary, origin, seats, outsiders, read_only)


#: Returns the record that replaces the present one, or None to leave that as it is. The argument is None if there is no
#: record.
Change = Callable[["Record | None"], "Record | None"]

#: The identity of the last file that was read, and its records.
_read: tuple[tuple[int, ...], list[Record]] | None = None
logger = logging.getLogger("replicant")

#: The files with malformed content that the log has named.
_malformed: set[str] = set()


def record(servers: Iterable[str], primary: str) -> Record | None:
    """The record of the cluster of ``servers``, whose settings name ``primary``. Raises :class:`CannotShare`."""
    with _folder() as folder:
        _, records = _latest(folder)
        return _found(records, frozenset(servers), primary)


def change(servers: Iterable[str], primary: str, change: Change) -> Record | None:
    """Change the record of a cluster. If another process makes a change at the same time, ``change`` is called again.

    Returns the record after that. Raises :class:`CannotShare`.
    """
    keys = frozenset(servers)
    with _folder() as folder:
        for _ in range(_ATTEMPTS):
            number, records = _latest(folder)
            before = _found(records, keys, primary)
            after = change(before)
            if after is None or after == before:
                return before
            after = after._replace(servers=after.servers | keys | (before.servers if before else frozenset()))
            # The record that was changed last is the last one in the file.
            others = [each for each in records if each is not before][-_MOST_RECORDS + 1 :]
            if _write(folder, number + 1, [*others, after]):
                return after
    raise CannotShare("other processes changed the placements during every attempt")


def pattern() -> str:
    """The pattern of the files' paths, for messages."""
    return str(private_folder.path() / f"placements-{FORMAT}-*")


def _found(records: list[Record], servers: frozenset[str], primary: str) -> Record | None:
    """The record that has any of the servers; of several, one with the settings' primary, and of those the newest."""
    sharing = [each for each in records if each.servers & servers]
    return max(sharing, key=lambda each: (primary in each.servers, each.generation), default=None)


@contextlib.contextmanager
def _folder() -> Iterator[int]:
    """The folder that belongs to this user alone, as the folder of the samples does."""
    with sharing():
        folder = private_folder.open_folder()
        try:
            yield folder
        finally:
            os.close(folder)


def _name_of(number: int) -> str:
    return f"placements-{FORMAT}-{number}"


def _numbers(folder: int) -> list[int]:
    names = os.listdir(folder)
    return sorted((int(match[1]) for name in names if (match := _FILE.fullmatch(name))), reverse=True)


def _latest(folder: int) -> tuple[int, list[Record]]:
    """The number of the newest file, 0 if there is no file, and the records of the newest file that is whole."""
    global _read
    while True:
        numbers = _numbers(folder)
        if not numbers:
            return 0, []
        for number in numbers:
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(_name_of(number), dir_fd=folder, follow_symlinks=False)
                which = (numbers[0], number, found.st_dev, found.st_ino, found.st_mtime_ns)
                before = _read
                if before is not None and before[0] == which:
                    return numbers[0], before[1]
                records = _content(folder, number)
                if records is not None:
                    _read = (which, records)
                    return numbers[0], records
        if numbers == _numbers(folder):
            # No file is whole. The damaged one is not overwritten: the next file has a higher number.
            return numbers[0], []


def _content(folder: int, number: int) -> list[Record] | None:
    """The records of one file; None if it is damaged. Raises ``FileNotFoundError`` if it is gone by now."""
    name = _name_of(number)
    file = private_folder.owned(
        os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder), name, stat.S_ISREG
    )
    with os.fdopen(file, "rb") as stream:
        text = stream.read(_LARGEST).decode(errors="replace")
    digest, body = text[:_DIGEST_LETTERS], text[_DIGEST_LETTERS:]
    if hashlib.sha256(body.encode()).hexdigest() != digest:
        return None
    try:
        return [Record.unpacked(packed) for packed in json.loads(body)]
    except Exception as error:
        # The file is whole, so it was written malformed. Every later cycle reads it again, so the log names it once.
        if name not in _malformed:
            _malformed.add(name)
            why = f"{type(error).__name__}: {error}"
            logger.warning("Ignored the malformed record of placements in the shared file %s (%s).", name, why)
    return None


def _write(folder: int, number: int, records: list[Record]) -> bool:
    """Create the file with this number; return False if another process has created it."""
    body = json.dumps([each.packed() for each in records])
    content = (hashlib.sha256(body.encode()).hexdigest() + body).encode()
    unfinished = f"{_UNFINISHED}{os.getpid()}-{os.urandom(8).hex()}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    file = os.open(unfinished, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(file, "wb") as stream:
            stream.write(content)
        try:
            os.link(unfinished, _name_of(number), src_dir_fd=folder, dst_dir_fd=folder)
        except FileExistsError:
            return False
    finally:
        os.unlink(unfinished, dir_fd=folder)
    if max(_numbers(folder)) != number:
        # This process was stopped for so long that other processes created and removed a file with this number.
        return False
    _sweep(folder, number)
    return True


def _sweep(folder: int, newest: int) -> None:
    """Remove old files, and the unfinished files of processes that were killed while they wrote.

    The last file before the newest one stays, because a process may be about to read it.
    """
    for number in _numbers(folder):
        if number < newest - 1:
            with contextlib.suppress(OSError):
                os.unlink(_name_of(number), dir_fd=folder)
    for name in os.listdir(folder):
        if name.startswith(_UNFINISHED):
            with contextlib.suppress(OSError):
                age = time.time() - os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime
                if age > _ABANDONED_SECONDS:
                    os.unlink(name, dir_fd=folder)


# The names of servers


_PORTS = {"mysql": "3306", "postgresql": "5432"}
_LOOPBACK = frozenset({"", "localhost", "127.0.0.1", "::1"})


def addresses(
    settings: Mapping[str, Mapping[str, Any]], vendor_of: Callable[[Mapping[str, Any]], str]
) -> dict[str, str]:
    """The address of the server of each alias, of one cluster, from Django's settings of these aliases.

    The name of the database, the user and the options are not part of an address: another process may have others. The
    name and the user are part of it where they lead to different servers, behind a pooler.
    """
    found = {alias: address(each, vendor_of(each)) for alias, each in settings.items()}
    places = list(found.values())
    return {
        alias: place
        if places.count(place) == 1
        else f"{place} {settings[alias].get('NAME') or ''} {settings[alias].get('USER') or ''}"
        for alias, place in found.items()
    }


def address(settings: Mapping[str, Any], vendor: str) -> str:
    """The address of a server: the kind of server, host and port; of a file, its path."""
    if vendor not in _PORTS:
        return f"{vendor} {Path(str(settings.get('NAME') or '')).absolute()}"
    options = settings.get("OPTIONS") or {}
    host = str(options.get("unix_socket") or options.get("hostaddr") or settings.get("HOST") or "").lower()
    port = str(settings.get("PORT") or _PORTS[vendor])
    service = options.get("service")
    return f"{vendor} {'localhost' if host in _LOOPBACK else host} {port}{f' {service}' if service else ''}"


def place_of(address: str) -> tuple[str, str] | None:
    """The host and the port in an address; None for a file."""
    vendor, *place = address.split(" ")
    return (place[0], place[1]) if vendor in _PORTS and len(place) > 1 else None
