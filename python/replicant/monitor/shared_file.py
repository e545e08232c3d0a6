"""The samples of a host's one prober, in a small file in memory that the other processes read.

There is one file for each cluster and configuration. The process that holds the kernel's lock on the file (``flock``)
is the prober and the only writer; a process that dies, by any signal, loses the lock. No process waits for another: a
reader takes the content and checks it, because the writer may be in the middle of replacing it.

The file is read and written, not mapped: if a mapped file is truncated, every process that reads it is killed (SIGBUS).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import re
import struct
import time
from collections.abc import Sequence
from typing import Any, NamedTuple

from replicant import private_folder
from replicant._core import Position
from replicant.engines.sample import Sample
from replicant.monitor.topology import View
from replicant.private_folder import CannotShare, sharing

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

#: Must be raised with every change of the content: processes with different formats do not share a file.
FORMAT = 6
_MAGIC = b"replicnt"
#: The magic, the format, the length of the body, and the SHA-256 of these three and the body.
_HEADER = struct.Struct("<8sII")
_DIGEST = 32
#: The size of the first read; positions with more than some hundred intervals need a second read.
_PAGE = 64 * 1024
#: Far more than 100 members with the longest positions the core takes; a larger length is damage.
_LARGEST = 128 * 1024 * 1024
_TORN_READS = 5
#: Two estimates of the time of one boot differ by less. The monotonic clock restarts with each boot, but a file on disk
#: survives it: samples from another boot would seem to come from the future.
_SAME_BOOT_NS = 10 * 10**9


#: The names of these files: the result of :func:`name_of`, and the format.
_NAME = re.compile(r"[0-9a-f]{32}-[0-9]+")
#: A file that was not written for this long is abandoned: a file in use is written with every probe.
_ABANDONED_SECONDS = 24 * 3600.0


_NONE = type(None)
#: The permitted types of each field of a sample, except its position.
_KINDS: dict[str, tuple[type, ...]] = {
    "alias": (str,),
    "server": (str,),
    "is_writable": (bool,),
    "asked_at": (int,),
    "latency": (int, float),
    "error": (str, _NONE),
    "is_gone": (bool,),
    "replicates": (bool, _NONE),
    "reported_lag": (int, float, _NONE),
    "configured_delay": (int, float, _NONE),
}

logger = logging.getLogger("replicant")


class Published(NamedTuple):
    """The results that the prober published."""

    at: int
    """``time.monotonic_ns()`` at the time of writing."""
    samples: list[Sample]
    """One for each server: the alias of a sample is the alias whose settings the probe connected with."""
    is_decided: bool = True
    """Whether the prober has judged which server is the primary, and has no doubt. The placement itself is in
    :mod:`replicant.connections.shared_placement`: processes with other settings share it, too."""
    view: View | None = None
    """The members that discovery found."""


def name_of(key: bytes, described: object) -> str:
    """The name of the file for a probed cluster: processes that probe the same servers in the same way share the file.

    ``described`` consists of mappings, sequences and plain values, and may contain passwords. Other users may see the
    name, so it is a hash under ``key``, a secret of the site.
    """
    text = json.dumps(_plain(described), sort_keys=True)
    return hashlib.blake2b(text.encode(), key=hashlib.sha256(key).digest(), digest_size=16).hexdigest()


def _plain(value: Any) -> Any:
    """The value in a form that is the same in every process: no memory addresses, no order that varies by process."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(json.dumps(_plain(item), sort_keys=True) for item in value)
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, (bytes, os.PathLike)):
        return os.fsdecode(value)
    kind = value if isinstance(value, type) or callable(value) else type(value)
    return f"{getattr(kind, '__module__', '')}.{getattr(kind, '__qualname__', type(kind).__qualname__)}"


class Samples:
    """One process's access to the file. Used by one thread."""

    def __init__(self, name: str) -> None:
        """Open the file, or create it. Raises :class:`CannotShare`."""
        self.is_prober = False
        self._has_complained = False
        self._name = f"{name}-{FORMAT}"
        with sharing():
            self._folder, self._file = _open(self._name)

    def elect(self) -> bool:
        """Become the prober if there is none; return whether this process is it. Raises :class:`CannotShare`."""
        with sharing():
            if not self._is_in_place():
                raise CannotShare(f"{self._name} was removed")
            if not self.is_prober:
                try:
                    fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    return False
                # The previous prober may have removed the file after this process opened it and before it was locked.
                if not self._is_in_place():
                    raise CannotShare(f"{self._name} was removed")
                self.is_prober = True
                self._sweep()
            return True

    def publish(self, samples: Sequence[Sample], is_decided: bool = True, view: View | None = None) -> None:
        """Replace the content of the file. Only the prober may call this. Raises :class:`CannotShare`, for example if
        there is no space left."""
        now = time.monotonic_ns()
        found = view and [dict(view.found), None if view.present is None else sorted(view.present), sorted(view.judged)]
        body = json.dumps(
            [now, time.time_ns() - now, is_decided, found, [_packed(sample) for sample in samples]]
        ).encode()
        head = _HEADER.pack(_MAGIC, FORMAT, len(body))
        content = head + hashlib.sha256(head + body).digest() + body
        with sharing():
            if os.pwrite(self._file, content, 0) != len(content):
                raise CannotShare("no room")

    def read(self) -> Published | None:
        """The prober's last published results.

        None if the file is unusable: it is empty, damaged, of another version, or from before a restart of the machine.
        """
        for _ in range(_TORN_READS):
            content = self._content()
            if content is None:
                return None
            body = _body(content)
            if body is not None:
                try:
                    return _unpacked(body)
                except Exception as error:
                    # The content is whole, so it was written malformed, and stays malformed until the next probe.
                    self._complain(error)
                    return None
        return None

    def _complain(self, error: Exception) -> None:
        if not self._has_complained:
            self._has_complained = True
            why = f"{type(error).__name__}: {error}"
            logger.warning("Ignored malformed probe results in the shared file %s (%s).", self._name, why)

    def close(self, *, leaves: bool = False) -> None:
        """Close the file. A prober also removes it: nothing is left behind, and the other processes create a new one.

        With ``leaves``, the file stays, as if the prober had been killed: the next prober begins with its content.
        """
        if self.is_prober:
            self.is_prober = False
            with contextlib.suppress(OSError):
                if not leaves and self._is_in_place():
                    os.unlink(self._name, dir_fd=self._folder)
        self.abandon()

    def abandon(self) -> None:
        """Close the file without changing it. For a forked child: the file belongs to the parent."""
        for descriptor in (self._file, self._folder):
            with contextlib.suppress(OSError):
                os.close(descriptor)
        self._file = self._folder = -1

    def _sweep(self) -> None:
        """Remove the files that probers of other configurations left when they were killed."""
        with contextlib.suppress(OSError):
            for name in os.listdir(self._folder):  # noqa: PTH208 - a descriptor
                if name != self._name and _NAME.fullmatch(name):
                    with contextlib.suppress(OSError):
                        _remove_if_abandoned(name, self._folder)

    def _is_in_place(self) -> bool:
        """Whether the open file is still the one that other processes find under its name."""
        return _is_in_place(self._file, self._name, self._folder)

    def _content(self) -> bytes | None:
        try:
            content = os.pread(self._file, _PAGE, 0)
            if len(content) < _HEADER.size:
                return None
            _, _, length = _HEADER.unpack_from(content)
            whole = _HEADER.size + _DIGEST + length
            if whole > len(content) and length <= _LARGEST:
                content = os.pread(self._file, whole, 0)
        except OSError:
            return None
        return content[:whole]


def _packed(sample: Sample) -> list[Any]:
    position = sample.position
    return [*sample._replace(position=None), position and [position.kind, str(position)]]


def _body(content: bytes) -> bytes | None:
    """The body if it is whole and of this version; None if it is torn, damaged or of another version."""
    magic, version, length = _HEADER.unpack_from(content)
    head, digest, body = content[: _HEADER.size], content[_HEADER.size :][:_DIGEST], content[_HEADER.size + _DIGEST :]
    if (magic, version, length) != (_MAGIC, FORMAT, len(body)) or hashlib.sha256(head + body).digest() != digest:
        return None
    return body


def _unpacked(body: bytes) -> Published | None:
    """The content of a body; None if it is from before the machine was started. Raises any error if it is malformed."""
    published_at, boot, is_decided, found, packed = json.loads(body)
    now = time.monotonic_ns()
    if published_at > now or abs(time.time_ns() - now - boot) > _SAME_BOOT_NS:
        return None
    samples = []
    for *fields, position in packed:
        sample = Sample(*fields)
        for name, kinds in _KINDS.items():
            if type(getattr(sample, name)) not in kinds:
                raise TypeError(f"{name} cannot be {getattr(sample, name)!r}")
        samples.append(sample._replace(position=position and Position(*position)))
    return Published(published_at, samples, bool(is_decided), found and _view(*found))


def _view(found: dict[str, Any], present: list[str] | None, judged: list[str]) -> View:
    if not all(isinstance(name, str) for name in (*(present or ()), *judged)):
        raise TypeError("a member is not an alias")
    places = {alias: (str(host), str(port)) for alias, (host, port) in found.items()}
    return View(places, None if present is None else frozenset(present), frozenset(judged))


def _open(name: str) -> tuple[int, int]:
    """Open this user's own folder, in memory where the system has a file system in memory, and the file in it."""
    return private_folder.open_with(lambda folder: private_folder.open_file(name, folder))


def _remove_if_abandoned(name: str, folder: int) -> None:
    """Remove a file that is old and not locked. Raises ``OSError``, for example if another process has it locked.

    The file is locked meanwhile, as by a prober that ends: a process that opened it earlier finds it removed, and
    creates another one.
    """
    file = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        is_old = time.time() - os.fstat(file).st_mtime > _ABANDONED_SECONDS
        if is_old and _is_in_place(file, name, folder):
            os.unlink(name, dir_fd=folder)
    finally:
        os.close(file)


def _is_in_place(file: int, name: str, folder: int) -> bool:
    try:
        found = os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(found, os.fstat(file))
