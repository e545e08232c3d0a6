"""What found members are given, and what objects are that came from one: hosts, settings, names."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import connections, router
from django.test import override_settings

from replicant import conf, explain, reload
from replicant.monitor import topology
from replicant.monitor.discovery import Member, poller
from replicant.monitor.topology import is_allowed, settings_of
from replicant.threads import Wakeup
from tests.app.models import Item, Tag
from tests.monitor.topology import DATABASES, FOLLOWING, A, C, cluster, following, found, put

__all__ = ["cluster"]


# Who may be given credentials.


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("10.0.0.7.evil.org", "10.0.0.*"),
        ("10.0.0.com", "10.0.0.*"),
        ("10.evil.org", "10.*"),
        ("db-1.evil.org", "db-*"),
        ("db1.evil.org", "db?*"),
        ("db-1.evil.org.example.com.evil.org", "db-*.example.com"),
        ("evil.org,db1.example.com", "*.example.com"),
        ("/evil.example.com", "*.example.com"),
        ("evil.org\0.example.com", "*.example.com"),
        ("evil.org#.example.com", "*.example.com"),
        ("dead.beef", "*:*"),
        ("10.0.0.07", "10.0.0.0/24"),
        ("0x0a000007", "10.0.0.0/8"),
        ("::ffff:10.0.1.7", "10.0.0.0/24"),
        ("2001:db9::1", "2001:db8::*"),
    ],
)
def test_a_host_of_others_that_looks_like_ours_is_refused(host: str, pattern: str):
    assert not is_allowed(host, [pattern], ())


@pytest.mark.parametrize(
    ("host", "pattern"),
    [
        ("10.0.0.7", "10.0.0.*"),
        ("10.0.0.7", "10.*"),
        ("10.0.0.7", "10.0.0.?"),
        ("db-1", "db-*"),
        ("db-1.example.com", "db-*.example.com"),
        ("a.b.example.com", "*.example.com"),
        ("my_db.example.com", "*.example.com"),
        ("DB1.example.com.", "*.Example.com"),
        ("db1.example.com", "db[12].example.com"),
        ("anything.at.all", "*"),
        ("10.0.0.7", "*"),
        ("2001:db8::1", "2001:db8::*"),
        ("2001:DB8:0::1", "2001:db8::/32"),
        ("2001:DB8:0::1", "2001:db8::1"),
    ],
)
def test_a_host_is_ours_however_it_is_written(host: str, pattern: str):
    assert is_allowed(host, [pattern], ())


def test_who_was_found_before_is_refused_once_allow_no_longer_matches(cluster: conf.Cluster):
    put(C)
    reload({"default": {"TOPOLOGY": {**FOLLOWING, "ALLOW": ["10.1.0.0/16"]}}})
    (now,) = conf.in_force()
    assert found(now, Member("10.0.0.9", 3306)) == (frozenset(), {}, ["10.0.0.9"])


def test_who_was_dropped_by_a_reload_is_not_found_again_under_another_name(cluster: conf.Cluster):
    reload({"default": {"REPLICAS": ["replica1"]}})
    (now,) = conf.in_force()
    assert found(now, Member("db3.example.com", 3306)) == ({"replica2"}, {}, [])
    put("replica1", "replica2")
    assert explain(Item).eligible == ("replica1",)
    reload()
    put("replica1", "replica2")
    assert set(explain(Item).eligible) == {"replica1", "replica2"}


def test_an_address_is_the_same_however_it_is_written(cluster: conf.Cluster):
    with override_settings(REPLICANT=following(TOPOLOGY={"METHOD": "mysql", "ALLOW": ["::/0", "*"]})):
        conf.load()
        (now,) = conf.in_force()
        hosts = ("2001:db8::1", "2001:DB8:0:0::1", "db9.example.com.", "DB9.example.com")
        new = found(now, *(Member(host, 3306) for host in hosts))[1]
        assert new.keys() == {"default@2001:db8::1:3306", "default@db9.example.com:3306"}


def test_a_line_in_the_log_holds_what_hosts_call_themselves_on_one_line_that_has_an_end(
    cluster: conf.Cluster, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    hosts = ["forged\nERROR of others", *(f"host{number}.evil.org" for number in range(99))]
    members = [Member(host, 3306) for host in hosts]
    looking = poller.Scout(1.0, Wakeup())
    monkeypatch.setattr(looking, "_explorer", type("Found", (), {"take_members": lambda self: members})())
    looking.look(cluster, "default", {})
    (record,) = caplog.records
    assert "\n" not in record.getMessage()
    assert "forged" in record.getMessage()
    assert len(record.getMessage()) < 1000


# What it is given.


def test_a_view_is_not_wrapped_in_a_transaction_with_each_member_that_is_found():
    template = {**DATABASES["replica1"], "ATOMIC_REQUESTS": True}
    assert settings_of(template, "default", "10.0.0.9", "3306")["ATOMIC_REQUESTS"] is False


def test_a_member_that_calls_itself_localhost_is_not_reached_by_the_socket_of_whoever_is_here():
    assert settings_of(DATABASES["replica1"], "default", "localhost", "3307")["HOST"] == "127.0.0.1"


# What comes from one.


@pytest.mark.parametrize("alias", [C, "default@db.example.com:3306", "default@2001:db8::1:3306"])
def test_an_object_from_a_member_that_only_other_processes_have_found_is_one_of_the_clusters(
    cluster: conf.Cluster, alias: str
):
    # Out of a cache, say. Django would take the alias for the answer, and know no such connection.
    item, tag = Item(pk=1), Tag(pk=1)
    item._state.db, tag._state.db = alias, "default"
    assert alias not in connections.settings
    assert router.db_for_read(Tag, instance=item) in {"replica1", "replica2"}
    assert router.db_for_write(Item, instance=item) == "default"
    assert router.allow_relation(item, tag)


@pytest.mark.parametrize("alias", ["default@archive", "other@10.0.0.9:3306", "default2", "default@:1", "default@a:b"])
def test_any_other_alias_without_a_connection_is_of_the_cluster_of_the_model(cluster: conf.Cluster, alias: str):
    item = Item(pk=1)
    item._state.db = alias
    assert router.db_for_write(Item, instance=item) == "default"


# However many.


def test_thousands_that_came_and_went_do_not_slow_down_who_is_there(cluster: conf.Cluster):
    hosts: dict[str, Any] = {f"default@host{number}:3306": (f"host{number}", "3306") for number in range(1000)}
    put(A, **hosts)
    compared = 0

    class Counted(str):
        __slots__ = ()

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return str.__eq__(self, other)

        __hash__ = str.__hash__

    (now,) = conf.in_force()
    view = topology.view_of("default")
    topology._views["default"] = view._replace(found={Counted(alias): place for alias, place in view.found.items()})
    members = topology.followed(now, {"default", "replica1", "replica2"})
    assert len(members.later) == 1001
    assert compared < 20 * 1001
