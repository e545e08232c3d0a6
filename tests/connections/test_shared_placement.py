"""The files with which all processes of a host have the same placement."""

from __future__ import annotations

import os
import stat
import threading
from pathlib import Path
from typing import Any

import pytest

from replicant import conf
from replicant.connections import shared_placement
from replicant.connections.shared_placement import Record, addresses, change, place_of, record
from replicant.private_folder import FOLDER_VARIABLE, CannotShare

A, B, C, D = (f"mysql 10.0.0.{number} 3306" for number in range(4))


@pytest.fixture(autouse=True)
def folder(shared_folder: Path) -> Path:
    """Where the files of this test are."""
    return shared_folder / f"replicant-{os.geteuid()}"


def decided(generation: int, primary: str) -> shared_placement.Change:
    """A decision that comes too late if another one was made since the generation before."""

    def change(before: Record | None) -> Record | None:
        if before is not None and before.generation >= generation:
            return None
        return (before or Record(frozenset()))._replace(generation=generation, primary=primary)

    return change


def files(folder: Path) -> list[str]:
    return sorted(file.name for file in folder.iterdir())


def test_what_one_process_has_decided_another_one_finds_by_any_server_that_they_share():
    assert record([A, B], A) is None
    change([A, B], A, decided(1, B))
    for servers in ([A, B], [A, B, C], [B, D], [A]):
        found = record(servers, servers[0])
        assert found is not None
        assert (found.generation, found.primary) == (1, B)
    assert record([C, D], C) is None
    # The servers that any process has listed are of one cluster.
    change([B, C], B, decided(2, C))
    found = record([A], A)
    assert found is not None
    assert (found.primary, found.servers) == (C, {A, B, C})


def test_clusters_that_share_no_server_have_records_of_their_own():
    change([A, B], A, decided(1, B))
    change([C, D], C, decided(5, D))
    assert [found and found.generation for found in (record([A], A), record([D], D))] == [1, 5]
    # Of one that lists servers of both, its own primary's record counts.
    assert [found and found.generation for found in (record([A, C], A), record([A, C], C))] == [1, 5]


def test_a_decision_that_comes_too_late_changes_nothing():
    change([A, B, C], A, decided(1, B))
    late = change([A, B, C], A, decided(1, C))
    assert late is not None
    assert late.primary == B


def test_of_many_that_decide_at_the_same_time_one_has_its_way():
    threads, count = [], 8
    results: list[Record | None] = []
    barrier = threading.Barrier(count)

    def decide(number: int) -> None:
        barrier.wait()
        results.append(change([A, B], A, decided(1, f"mysql 10.0.1.{number} 3306")))

    for number in range(count):
        threads.append(threading.Thread(target=decide, args=(number,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    assert len({found and found.primary for found in results}) == 1


def test_no_change_of_many_processes_is_lost():
    def add(server: str) -> None:
        for number in range(10):
            name = f"{server} {number}"
            change([A], A, lambda before: (before or Record(frozenset()))._replace(
                read_only=(before.read_only if before else frozenset()) | {name}  # noqa: B023
            ))  # fmt: skip

    threads = [threading.Thread(target=add, args=(server,)) for server in (A, B, C)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = record([A], A)
    assert found is not None
    assert len(found.read_only) == 30


def test_one_that_was_stopped_before_its_number_came_and_went_is_not_heard(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    change([A, B], A, decided(1, B))
    link = os.link

    def linked_late(*args: Any, **kwargs: Any) -> None:
        monkeypatch.setattr(os, "link", link)
        for generation in (2, 3, 4, 5):
            change([A, B], A, decided(generation, C))
        link(*args, **kwargs)

    monkeypatch.setattr(os, "link", linked_late)
    late = change([A, B], A, decided(2, D))
    assert late is not None
    assert (late.generation, late.primary) == (5, C)
    assert record([A], A) == late


def test_old_files_go_and_what_a_killed_process_left_goes_when_it_is_old(folder: Path):
    change([A, B], A, decided(1, B))
    recent, old = folder / "unfinished-1", folder / "unfinished-2"
    for file in (recent, old):
        file.touch(mode=0o600)
    os.utime(old, (0, 0))
    for generation in range(2, 6):
        change([A, B], A, decided(generation, B))
    assert files(folder) == ["placements-1-4", "placements-1-5", "unfinished-1"]


def test_nobody_else_may_look_at_them_and_nobody_elses_are_read(folder: Path):
    change([A, B], A, decided(1, B))
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    shared_placement._read = None
    file.chmod(0o666)
    with pytest.raises(CannotShare, match="not this user's alone"):
        record([A], A)
    file.chmod(0o600)
    file.rename(folder / "elsewhere")
    file.symlink_to(folder / "elsewhere")
    with pytest.raises(CannotShare):
        record([A], A)


@pytest.mark.parametrize("damage", [b"", b"{}", b"\xff" * 200])
def test_a_damaged_file_is_passed_over_and_its_number_is_not_used_again(folder: Path, damage: bytes):
    change([A, B], A, decided(1, B))
    change([A, B], A, decided(2, C))
    shared_placement._read = None
    (folder / "placements-1-2").write_bytes(damage)
    found = record([A], A)
    assert found is not None
    assert found.generation == 1
    change([A, B], A, decided(3, D))
    assert "placements-1-3" in files(folder)
    found = record([A], A)
    assert found is not None
    assert (found.generation, found.primary) == (3, D)


def test_where_there_is_no_folder_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv(FOLDER_VARIABLE, str(tmp_path / "missing"))
    with pytest.raises(CannotShare):
        record([A], A)
    with pytest.raises(CannotShare):
        change([A], A, decided(1, A))


def database(**settings: Any) -> dict[str, Any]:
    return {"ENGINE": "replicant.backends.mysql", "HOST": "10.0.0.1", "PORT": "", "NAME": "site", **settings}


def test_a_server_is_known_by_host_and_port():
    alone = addresses({"default": database(OPTIONS={"connect_timeout": 7}, USER="one")}, conf.vendor_of)
    assert alone == {"default": "mysql 10.0.0.1 3306"}
    assert addresses({"other": database(NAME="other", PORT=3306)}, conf.vendor_of) == {"other": alone["default"]}
    assert place_of(alone["default"]) == ("10.0.0.1", "3306")
    loopback = [
        addresses({"default": database(HOST=host, PORT=3307)}, conf.vendor_of)["default"]
        for host in ("localhost", "127.0.0.1", "::1")
    ]
    assert set(loopback) == {"mysql localhost 3307"}
    sockets = [database(HOST="localhost", OPTIONS={"unix_socket": path}) for path in ("/a", "/b")]
    assert len({addresses({"default": each}, conf.vendor_of)["default"] for each in sockets}) == 2


def test_behind_one_pooler_servers_are_known_by_the_databases_name_and_the_user_too():
    found = addresses({"default": database(), "replica1": database(NAME="site_ro")}, conf.vendor_of)
    assert len(set(found.values())) == 2
    found = addresses({"default": database(USER="rw"), "replica1": database(USER="ro")}, conf.vendor_of)
    assert len(set(found.values())) == 2


def test_a_file_is_known_by_its_path():
    settings = {"ENGINE": "django.db.backends.sqlite3", "NAME": "/data/site.sqlite3"}
    assert addresses({"default": settings}, conf.vendor_of) == {"default": "sqlite /data/site.sqlite3"}
    assert place_of("sqlite /data/site.sqlite3") is None
