"""Who is a member at run time: what views say together, who is who in them, and who may be given credentials."""

from __future__ import annotations

import contextvars
import logging
from pathlib import Path
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.test import override_settings

from replicant import _core, conf, explain, reload, status, use_replica
from replicant.connections import server_map
from replicant.connections.placement import Placement
from replicant.engines import Sample
from replicant.monitor import topology
from replicant.monitor.discovery import Member
from replicant.monitor.discovery.poller import Looks
from replicant.monitor.topology import View, is_allowed, settings_of
from tests.app.models import Item
from tests.databases import use_databases
from tests.monitor.topology import DATABASES, FOLLOWING, A, B, C, following, found, put
from tests.monitor.topology import cluster as cluster


def servers(*names: str) -> frozenset[str]:
    return frozenset(names)


# Two looks.


def test_who_is_new_in_a_view_is_there_at_once():
    assert Looks().settled(servers(A), servers(A, B)) == {A, B}


def test_who_is_missing_is_gone_when_two_views_in_a_row_lack_it():
    looks = Looks()
    assert looks.settled(servers(A, B), servers(A)) == {A, B}
    assert looks.settled(servers(A, B), servers(A)) == {A}


def test_who_is_missing_now_and_then_stays():
    looks = Looks()
    for seen in (servers(A), servers(A, B), servers(A), servers(A, B)):
        assert looks.settled(servers(A, B), seen) == {A, B}


def test_two_views_with_a_failure_between_them_are_not_in_a_row():
    looks = Looks()
    assert looks.settled(servers(A, B), servers(A)) == {A, B}
    looks.interrupted()
    assert looks.settled(servers(A, B), servers(A)) == {A, B}


# Who is who.


def test_a_member_is_recognised_by_host_and_port_as_they_are_written_or_by_default(cluster: conf.Cluster):
    assert found(cluster, Member("10.0.0.2", None)) == ({"replica1"}, {}, [])
    assert found(cluster, Member("10.0.0.2", 3307))[1] == {"default@10.0.0.2:3307": ("10.0.0.2", "3307")}


def test_a_member_behind_a_pooler_is_recognised_by_where_the_monitor_finds_it(cluster: conf.Cluster):
    assert found(cluster, Member("DB3.example.com", 3306))[0] == {"replica2"}


def test_a_member_under_another_name_is_recognised_by_its_identity(cluster: conf.Cluster):
    samples = {"replica1": Sample("replica1", "uuid-1", False, None, 1, 0.1)}
    assert found(cluster, Member("elsewhere", 3306, "uuid-1"), samples=samples) == ({"replica1"}, {}, [])
    # One that did not answer says nothing, and no identity is none in common.
    samples["replica1"] = samples["replica1"]._replace(error="gone", server="")
    assert found(cluster, Member("elsewhere", 3306), samples=samples)[2] == ["elsewhere"]


def test_the_primary_is_no_replica_whichever_server_it_is(cluster: conf.Cluster):
    both = Member("10.0.0.1", 3306), Member("10.0.0.2", 3306)
    assert found(cluster, *both)[0] == {"replica1"}
    assert found(cluster, *both, primary="replica1")[0] == {"default"}


def test_another_member_is_given_an_alias_by_which_it_is_found_each_time(cluster: conf.Cluster):
    assert found(cluster, Member("10.0.0.9", None)) == ({C}, {C: ("10.0.0.9", "3306")}, [])
    topology.put(cluster, View({C: ("10.0.0.9", "3306")}))
    assert found(cluster, Member("10.0.0.9", 3306)) == ({C}, {}, [])


def test_it_has_the_templates_settings_but_for_where_it_is():
    settings = settings_of(
        {**DATABASES["replica1"], "PROBE": {"HOST": "x", "USER": "m"}}, "default", "10.0.0.9", "3306"
    )
    assert (settings["HOST"], settings["PORT"]) == ("10.0.0.9", "3306")
    assert (settings["USER"], settings["PASSWORD"], settings["NAME"]) == ("application", "secret", "site")
    assert settings["OPTIONS"] == {"charset": "utf8mb4"}
    assert settings["TEST"]["MIRROR"] == "default"
    assert settings["PROBE"] == {"USER": "m", "OPTIONS": {}}


# Who may be given credentials.


@pytest.mark.parametrize("host", ["10.0.0.77", "DB9.example.com"])
def test_a_host_that_allow_matches_is_allowed(host: str):
    assert is_allowed(host, FOLLOWING["ALLOW"], ())


@pytest.mark.parametrize("host", ["10.0.1.77", "db9.example.com.evil.org", "10.0.0.77.evil.org", "", "::1"])
def test_any_other_host_is_refused(host: str, cluster: conf.Cluster):
    assert not is_allowed(host, FOLLOWING["ALLOW"], ())
    assert found(cluster, Member(host, 3306)) == (frozenset(), {}, [host])


def test_without_allow_only_hosts_of_the_clusters_own_aliases_are_allowed():
    keys = following(TOPOLOGY={"METHOD": "mysql"})
    with use_databases(DATABASES, REPLICANT=keys):
        conf.load()
        (cluster,) = conf.in_force()
        assert found(cluster, Member("10.0.0.2", 3310))[1].keys() == {"default@10.0.0.2:3310"}
        assert found(cluster, Member("10.0.0.9", 3306))[2] == ["10.0.0.9"]


def test_who_was_found_while_its_alias_was_down_is_that_alias_once_it_answers(cluster: conf.Cluster):
    elsewhere = "default@10.0.0.12:3306"
    assert found(cluster, Member("10.0.0.12", 3306, "uuid-1"))[0] == {elsewhere}
    topology.put(cluster, View({elsewhere: ("10.0.0.12", "3306")}))
    samples = {"replica1": Sample("replica1", "uuid-1", False, None, 1, 0.1)}
    assert found(cluster, Member("10.0.0.12", 3306, "uuid-1"), samples=samples)[0] == {"replica1"}


# In force.


def eligible() -> set[str]:
    return set(explain(Item).eligible)


def member(alias: str) -> dict[str, Any]:
    (one,) = [each for each in status()["clusters"]["default"]["members"] if each["alias"] == alias]
    return one


def test_until_the_first_good_view_those_serve_that_the_settings_list(cluster: conf.Cluster):
    assert eligible() == {"replica1", "replica2"}
    topology.put(cluster, View({C: ("10.0.0.9", "3306")}))
    conf.load()
    assert eligible() == {"replica1", "replica2"}
    assert _core.role(C) == "replica"


def test_a_found_member_serves_with_the_templates_weight_and_is_a_replica_in_everything(cluster: conf.Cluster):
    put("replica1", "replica2", C)
    assert eligible() == {"replica1", "replica2", C}
    assert (member(C)["weight"], member(C)["found"], member(C)["role"]) == (2.0, True, "replica")
    assert connections[C].settings_dict["HOST"] == "10.0.0.9"
    assert not router.allow_migrate(C, "app")
    assert conf.is_guarded(C)
    with use_replica(C):
        assert router.db_for_read(Item) == C


def test_a_found_member_that_nobody_has_looked_at_serves_later(cluster: conf.Cluster):
    listed = frozenset({"default", "replica1", "replica2"})
    view = View({C: ("10.0.0.9", "3306")}, frozenset({"replica1", C}), listed)
    assert topology.put(cluster, view)
    conf.load()
    assert eligible() == {"replica1"}
    (cluster,) = conf.in_force()
    assert topology.put(cluster, view, answering=[C])
    conf.load()
    assert eligible() == {"replica1", C}


def test_a_view_that_was_good_stays_until_there_is_another(cluster: conf.Cluster):
    put("replica1", C)
    (cluster,) = conf.in_force()
    topology.put(cluster, View({}))
    conf.load()
    assert eligible() == {"replica1", C}


def test_nobody_at_all_is_never_applied(cluster: conf.Cluster):
    put("replica1", C)
    (cluster,) = conf.in_force()
    topology.put(
        cluster, View({}, frozenset({"default@10.0.0.10:3306"}), frozenset({"default", "replica1", "replica2"}))
    )
    conf.load()
    assert eligible() == {"replica1", C}


def test_who_the_view_lacks_stays_known_and_gets_no_reads(cluster: conf.Cluster):
    put("replica1", "replica2", C)
    put("replica1")
    assert eligible() == {"replica1"}
    for alias in ("replica2", C):
        with use_replica(alias):
            assert router.db_for_read(Item) == "replica1"
        assert (_core.role(alias), member(alias)["weight"], member(alias)["state"]) == ("replica", 0.0, "down")
    assert connections[C].alias == C


def test_who_comes_back_has_the_same_alias_and_what_was_counted(cluster: conf.Cluster):
    put(C)
    assert router.db_for_read(Item) == C
    put("replica1")
    assert router.db_for_read(Item) == "replica1"
    put(C)
    assert eligible() == {C}
    assert sum(member(C)["reads"].values()) == 1


def test_a_scope_stays_on_its_replica_while_others_come_and_go(cluster: conf.Cluster):
    with use_replica():
        first = router.db_for_read(Item)
        other = {"replica1", "replica2"} - {first}
        put(str(first), C)
        assert router.db_for_read(Item) == first
        put(str(first), *other)
        assert router.db_for_read(Item) == first
        put(*other)
        assert router.db_for_read(Item) in other


def test_a_promotion_is_not_undone_by_members_that_come_and_go(cluster: conf.Cluster):
    put("replica1", "replica2", C)
    (now,) = conf.in_force()
    before = server_map.begin(now)
    server_map.decide("default", before, before.promoting("default", "replica1"), gone=False)
    # The old primary is behind 'replica1', and the view of the new one has the rest.
    put("replica2", C, "default@10.0.0.10:3306", **{"default@10.0.0.10:3306": ("10.0.0.10", "3306")})
    (now,) = conf.in_force()
    assert server_map.begin(now).servers["default"] == "replica1"
    assert server_map.server_of("default") == "replica1"
    assert eligible() == {"replica2", C, "default@10.0.0.10:3306"}
    put("replica2", "default")
    assert eligible() == {"replica1", "replica2"}


def test_a_placement_of_more_or_fewer_members_is_one_of_the_same_servers():
    promoted = Placement({"default": "a", "a": "default", "b": "b"}, frozenset({"default"}))
    assert promoted.covering(["default", "a", "b", "c"]) == Placement(
        {"default": "a", "a": "default", "b": "b", "c": "c"}, frozenset({"default"})
    )
    assert promoted.covering(["default", "a"]) == Placement({"default": "a", "a": "default"}, frozenset({"default"}))
    assert promoted.covering(["default", "b"]) is None


def test_nothing_that_was_found_outlives_a_change_of_settings(cluster: conf.Cluster):
    put("replica1", C)
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1", "replica2"]}}):
        assert eligible() == {"replica1", "replica2"}
        assert _core.role(C) is None


def test_whoever_looks_through_the_aliases_meanwhile_is_not_disturbed(cluster: conf.Cluster):
    looking = iter(connections.settings)
    next(looking)
    topology.add({C: DATABASES["replica1"]})
    assert C in connections.settings
    assert C not in list(looking)


def test_a_line_in_the_log_says_who_joins_and_who_leaves(cluster: conf.Cluster, caplog):
    with caplog.at_level(logging.INFO, logger="replicant"):
        put("replica1", "replica2", C)
        put("replica1", C)
    assert f"The replica '{C}' of 'default' replicates and serves reads" in caplog.text
    assert "The replica 'replica2' of 'default' no longer replicates" in caplog.text
    assert "secret" not in caplog.text


# reload()


def test_a_reload_takes_effect_at_once_and_leaves_the_rest_as_the_settings_have_it(site: Path):
    keys = {"default": {"REPLICAS": ["replica1"], "MAX_LAG": None, "PRIMARY_WEIGHT": 1}}
    with override_settings(REPLICANT=keys):
        assert eligible() == {"replica1"}
        reload({"default": {"REPLICAS": ["replica1", "replica2"]}})
        assert eligible() == {"replica1", "replica2"}
        assert member("default")["weight"] == 1.0
        reload()
        assert eligible() == {"replica1"}
        assert _core.role("replica2") == "replica"


def test_what_a_reload_drops_gets_no_reads_and_stays_a_replica(site: Path):
    reload({"default": {"REPLICAS": {"replica2": 3}}})
    assert eligible() == {"replica2"}
    assert (_core.role("replica1"), member("replica1")["weight"]) == ("replica", 0.0)
    assert not router.allow_migrate("replica1", "app")
    with use_replica("replica1"):
        assert router.db_for_read(Item) == "replica2"


def test_a_reload_brings_the_settings_of_new_aliases(site: Path):
    third = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(site / "replica1.sqlite3")}
    reload({"default": {"REPLICAS": ["replica3"]}}, databases={"replica3": third})
    assert router.db_for_read(Item) == "replica3"
    # In a context of its own: what this thread reads, it remembers.
    assert contextvars.Context().run(Item.objects.count) == 0
    assert connections.settings["replica3"]["CONN_MAX_AGE"] == 0
    # The same again is no change.
    reload({"default": {"REPLICAS": ["replica1", "replica3"]}}, databases={"replica3": third})
    assert eligible() == {"replica1", "replica3"}


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], str]] = {
    "unknown replica": (({"default": {"REPLICAS": ["replica9"]}},), {}, "replicant.E003.*did you mean 'replica"),
    "unknown key": (({"default": {"REPLICA": ["replica1"]}},), {}, "replicant.E002.*did you mean 'REPLICAS'"),
    "unknown cluster": (({"defualt": {"READS": "primary"}},), {}, "replicant.E003"),
    "nothing": (({},), {}, r"call reload\(\) without clusters"),
    "no replicas": (({"default": {"REPLICAS": []}},), {}, "'default'.*give each replica the weight 0"),
    "no mapping": ((["replica1"],), {}, "in the shape of REPLICANT"),
    "other settings": ((), {"databases": {"replica1": {"ENGINE": "x"}}}, "other settings for 'replica1'"),
    "no settings": ((), {"databases": {"replica3": "mysql://user:password@host"}}, "in the shape of DATABASES"),
}


@pytest.mark.parametrize("case", WRONG)
def test_of_a_reload_that_is_wrong_nothing_is_applied(case: str, site: Path):
    arguments, keywords, words = WRONG[case]
    before, known = _core.snapshot(), connections.settings
    keywords.setdefault("databases", {"replica7": {"ENGINE": "django.db.backends.sqlite3", "NAME": "seven"}})
    with pytest.raises(ImproperlyConfigured, match=words) as caught:
        reload(*arguments, **keywords)
    assert "password" not in str(caught.value)
    assert _core.snapshot() == before
    assert connections.settings is known


def test_a_change_of_settings_ends_a_reload(site: Path):
    reload({"default": {"REPLICAS": ["replica2"]}})
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"]}}):
        assert eligible() == {"replica1"}
        assert _core.role("replica2") is None
    assert eligible() == {"replica1", "replica2"}
