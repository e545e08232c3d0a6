"""The file that one process writes and the others read."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from replicant import private_folder
from replicant._core import Position
from replicant.engines import Sample
from replicant.monitor import shared_file
from replicant.monitor.shared_file import Samples, name_of
from replicant.monitor.topology import View
from replicant.private_folder import FOLDER_VARIABLE, CannotShare

FOUND = [
    Sample("default", "one", True, Position("postgresql", "1:0/16B3748"), 1, 0.25),
    Sample("replica1", "two", False, Position("mysql", "3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5"), 2, 0.5),
    Sample("replica2", "", False, None, 3, 1.0, "OperationalError: gone"),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the files of this test are, instead of where those of all processes are."""
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path))
    return tmp_path / f"replicant-{os.geteuid()}"


@pytest.fixture
def prober(folder: Path) -> Iterator[Samples]:
    held = Samples("a")
    assert held.elect()
    yield held
    held.close()


@pytest.fixture
def reader(prober: Samples) -> Iterator[Samples]:
    held = Samples("a")
    yield held
    held.abandon()


def file_in(folder: Path) -> Path:
    (file,) = folder.iterdir()
    return file


def test_what_one_publishes_others_read(prober: Samples, reader: Samples):
    assert reader.read() is None
    before = time.monotonic_ns()
    prober.publish(FOUND)
    published_at, found, is_decided, view = reader.read() or pytest.fail("nothing to read")
    assert (found, is_decided, view) == (FOUND, True, None)
    assert before <= published_at <= time.monotonic_ns()
    prober.publish(FOUND[:1])
    assert (reader.read() or pytest.fail("nothing to read"))[1] == FOUND[:1]


@pytest.mark.parametrize("present", [None, frozenset({"replica1"}), frozenset()])
def test_who_was_found_is_published_too(present: frozenset[str] | None, prober: Samples, reader: Samples):
    view = View({"default@::1:3306": ("::1", "3306")}, present, frozenset({"default", "replica1"}))
    prober.publish(FOUND, False, view)
    assert not (reader.read() or pytest.fail("nothing to read")).is_decided
    assert (reader.read() or pytest.fail("nothing to read")).view == view


def test_positions_of_any_length_go_through(prober: Samples, reader: Samples):
    ones = ":".join(str(number) for number in range(1, 16000, 2))
    long = [FOUND[0]._replace(position=Position("mysql", f"3e11fa47-71ca-11e1-9e33-c80aa9429562:{ones}"))] * 3
    prober.publish(long)
    assert (reader.read() or pytest.fail("nothing to read"))[1] == long


def test_nobody_else_may_look_at_it(prober: Samples, folder: Path):
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE(file_in(folder).stat().st_mode) == 0o600


def test_one_is_elected_and_the_next_when_it_lets_go(prober: Samples, reader: Samples, folder: Path):
    assert prober.elect()
    assert not reader.elect()
    prober.close()
    assert not list(folder.iterdir())
    # What it has open is nobody's meeting point any more.
    with pytest.raises(CannotShare):
        reader.elect()
    successor = Samples("a")
    assert successor.elect()
    successor.close()


def test_a_file_that_was_removed_under_the_prober_is_noticed(prober: Samples, folder: Path):
    file_in(folder).unlink()
    with pytest.raises(CannotShare):
        prober.elect()


@pytest.mark.parametrize("swept", [False, True])
def test_of_several_that_want_it_one_gets_it(folder: Path, monkeypatch: pytest.MonkeyPatch, swept: bool):
    """Also while the one before removes the file, and while others take it for abandoned."""
    if swept:
        monkeypatch.setattr(shared_file, "_ABANDONED_SECONDS", -1.0)
        monkeypatch.setattr(shared_file, "_NAME", re.compile("[ab]-.*"))
    for _ in range(50):
        sweeper = Samples("b")
        first = Samples("a")
        assert first.elect()
        rest = [Samples("a") for _ in range(3)]
        elected: list[Samples] = []

        def run_for_it(one: Samples, elected: list[Samples] = elected) -> None:
            while not elected:
                try:
                    if one.elect():
                        elected.append(one)
                except CannotShare:
                    one.abandon()
                    one = Samples("a")
            if one not in elected:
                one.abandon()

        threads = [threading.Thread(target=run_for_it, args=(one,)) for one in rest]
        for thread in threads:
            thread.start()
        first.close()
        with suppress(CannotShare):  # the others sweep, too
            sweeper.elect()
        for thread in threads:
            thread.join()
        sweeper.close()
        # Whoever was elected holds the file that others find; a second one would hold another.
        assert sum(one._is_in_place() for one in elected) == 1
        for one in elected:
            one.close()


def left_behind(folder: Path, number: int, *, days: float) -> Path:
    """The file of a configuration that a prober was killed with, so long ago."""
    file = folder / f"{number:032x}-{shared_file.FORMAT}"
    file.touch(mode=0o600)
    moment = time.time() - days * 24 * 3600
    os.utime(file, (moment, moment))
    return file


def test_who_is_elected_clears_away_what_nobody_uses_any_more(folder: Path):
    folder.mkdir(mode=0o700)
    recent, old, locked = (left_behind(folder, number, days=days) for number, days in enumerate((0.5, 2, 2)))
    other = folder / "of somebody else's"
    other.touch()
    os.utime(other, (0, 0))
    held = Samples(locked.name.partition("-")[0])
    assert held.elect()
    assert not old.exists()
    old = left_behind(folder, 1, days=2)
    os.utime(locked, (0, 0))
    new = Samples("a")
    assert new.elect()
    assert {file.name for file in folder.iterdir()} == {recent.name, locked.name, other.name, f"a-{shared_file.FORMAT}"}
    assert held.elect()
    new.close()
    held.close()


def test_a_file_cleared_away_under_who_has_just_opened_it_is_made_anew(folder: Path):
    folder.mkdir(mode=0o700)
    file = left_behind(folder, 1, days=2)
    name = file.name.partition("-")[0]
    late, other = Samples(name), Samples("a")
    assert other.elect()
    assert not file.exists()
    with pytest.raises(CannotShare, match="removed"):
        late.elect()
    late.abandon()
    again = Samples(name)
    assert again.elect()
    again.close()
    other.close()


PROBER = """
import os, sys, time
os.environ["REPLICANT_FOLDER"] = sys.argv[1]
from replicant.monitor import shared_file as samples
held = samples.Samples("a")
assert held.elect()
print("elected", flush=True)
time.sleep(60)
"""


def test_the_kernel_takes_the_office_from_the_dead(folder: Path):
    process = subprocess.Popen([sys.executable, "-c", PROBER, str(folder.parent)], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        assert process.stdout.readline() == "elected\n"
        heir = Samples("a")
        assert not heir.elect()
        process.send_signal(signal.SIGKILL)
    assert heir.elect()
    heir.close()


WRITER = """
import os, sys
os.environ["REPLICANT_FOLDER"] = sys.argv[1]
from replicant.monitor import shared_file as samples
from replicant.engines import Sample
held = samples.Samples("a")
assert held.elect()
number = 0
while True:
    number += 1
    alias = f"{number} " * (1 + number % 5000)
    held.publish([Sample(alias, alias, True, None, number, 0.0)])
"""


def test_what_is_read_while_it_is_written_is_whole_or_not_there(folder: Path):
    process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder.parent)])
    try:
        while not (folder.exists() and list(folder.iterdir())):
            assert process.poll() is None
        reader = Samples("a")
        seen = set()
        while len(seen) < 300:
            assert process.poll() is None
            news = reader.read()
            if news is None:
                continue
            (sample,) = news[1]
            number = sample.asked_at
            assert sample.alias == sample.server == f"{number} " * (1 + number % 5000)
            seen.add(number)
        reader.abandon()
    finally:
        process.kill()
        process.wait()


def test_a_damaged_byte_anywhere_is_no_sample(prober: Samples, reader: Samples, folder: Path):
    prober.publish(FOUND)
    whole = file_in(folder).read_bytes()
    for place in range(len(whole)):
        damaged = bytearray(whole)
        damaged[place] ^= 0x55
        file_in(folder).write_bytes(damaged)
        assert reader.read() is None, place
    for length in range(0, len(whole), 7):
        file_in(folder).write_bytes(whole[:length])
        assert reader.read() is None, length
    file_in(folder).write_bytes(whole + b"left over from a longer one")
    assert reader.read() is not None


def test_the_next_publication_mends_what_is_damaged(prober: Samples, reader: Samples, folder: Path):
    file_in(folder).write_bytes(os.urandom(5000))
    assert reader.read() is None
    prober.publish(FOUND)
    assert (reader.read() or pytest.fail("nothing to read"))[1] == FOUND


def test_another_version_is_no_sample_and_has_another_file(
    prober: Samples, reader: Samples, folder: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(shared_file, "FORMAT", shared_file.FORMAT + 1)
    prober.publish(FOUND)
    monkeypatch.undo()
    assert reader.read() is None
    monkeypatch.setenv(FOLDER_VARIABLE, str(folder.parent))
    monkeypatch.setattr(shared_file, "FORMAT", shared_file.FORMAT + 1)
    other = Samples("a")
    assert other.elect()
    other.close()


def test_samples_from_before_a_restart_of_the_machine_are_none(
    prober: Samples, reader: Samples, monkeypatch: pytest.MonkeyPatch
):
    prober.publish(FOUND)
    now = time.monotonic_ns()
    # The monotonic clock began anew, a day later.
    monkeypatch.setattr(time, "monotonic_ns", lambda: now - 60 * 10**9)
    assert reader.read() is None
    monkeypatch.setattr(time, "monotonic_ns", lambda: now + 3600 * 10**9)
    assert reader.read() is None


def test_a_link_that_somebody_laid_is_not_followed(folder: Path, tmp_path: Path):
    target = tmp_path / "target"
    target.write_text("precious")
    folder.mkdir(mode=0o700)
    (folder / f"a-{shared_file.FORMAT}").symlink_to(target)
    with pytest.raises(CannotShare):
        Samples("a")
    assert target.read_text() == "precious"


def test_a_folder_that_is_a_link_is_not_followed(folder: Path, tmp_path: Path):
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    with pytest.raises(CannotShare):
        Samples("a")
    assert not list((tmp_path / "theirs").iterdir())


def test_a_folder_that_others_may_write_to_is_not_used(folder: Path):
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(CannotShare, match="not this user's alone"):
        Samples("a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_not_used(folder: Path):
    folder.mkdir(mode=0o700)
    os.chown(folder, 12345, 12345)
    with pytest.raises(CannotShare, match="not this user's alone"):
        Samples("a")


def test_something_else_than_a_file_is_not_waited_for(folder: Path):
    folder.mkdir(mode=0o700)
    os.mkfifo(folder / f"a-{shared_file.FORMAT}", 0o600)
    with pytest.raises(CannotShare, match="not this user's alone"):
        Samples("a")


def test_the_temporary_folder_does_where_there_is_none_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(private_folder, "_bases", lambda: (tmp_path / "missing", tmp_path))
    held = Samples("a")
    assert held.elect()
    held.close()
    monkeypatch.setattr(private_folder, "_bases", lambda: (tmp_path / "missing",))
    with pytest.raises(CannotShare, match="missing"):
        Samples("a")


def test_a_system_without_flock_cannot_share(folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(private_folder, "fcntl", None)
    with pytest.raises(CannotShare, match="flock"):
        Samples("a")


FULL = """
import os, resource, sys
os.environ["REPLICANT_FOLDER"] = sys.argv[1]
from replicant.monitor import shared_file as samples
from replicant.engines import Sample
held = samples.Samples("a")
assert held.elect()
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
try:
    held.publish([Sample("default", "x" * 1000, True, None, 1, 0.0)])
except samples.CannotShare:
    print("refused")
"""


def test_want_of_room_is_told(folder: Path):
    done = subprocess.run(
        [sys.executable, "-c", FULL, str(folder.parent)], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout == "refused\n"


def test_nothing_is_left_open(folder: Path):
    def descriptors() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    before = descriptors()
    for _ in range(100):
        held = Samples(uuid.uuid4().hex)
        held.elect()
        held.publish(FOUND)
        held.close()
    folder.chmod(0o777)
    for _ in range(100):
        with pytest.raises(CannotShare):
            Samples("a")
    assert descriptors() == before


def test_the_name_is_the_same_for_the_same_thing_and_tells_nothing():
    class Custom:
        pass

    settings = {"HOST": "db", "PASSWORD": "hunter2", "OPTIONS": {"b": (1, 2), "a": {"z", "y"}, "factory": Custom}}
    same = {"OPTIONS": {"factory": Custom, "a": {"y", "z"}, "b": [1, 2]}, "PASSWORD": "hunter2", "HOST": "db"}
    name = name_of(b"secret", settings)
    assert name_of(b"secret", same) == name
    assert "hunter2" not in name
    others = [
        name_of(b"another", settings),
        name_of(b"secret", {**settings, "HOST": "db2"}),
        name_of(b"secret", {**settings, "PASSWORD": "hunter3"}),
        name_of(b"secret", {**settings, "OPTIONS": {}}),
    ]
    assert len({name, *others}) == 5
    objects = [name_of(b"secret", {"factory": Custom()}) for _ in range(2)]
    assert objects[0] == objects[1]


def test_a_name_does_not_depend_on_the_process():
    script = (
        "from replicant.monitor.shared_file import name_of; "
        "print(name_of(b'k', {'a': {'x', 'y', 'z'}, 'f': name_of, 'n': None}))"
    )
    names = {
        subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60).stdout
        for _ in range(3)
    }
    assert len(names) == 1
