"""Settings that are wrong, or work and hurt: one test for each check."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.core.cache.backends.base import BaseCache
from django.core.checks import run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, router
from django.test import Client, override_settings

from replicant import ReplicaRouter, conf, explain
from replicant.checks import check_settings
from tests.app.models import Item

pytestmark = pytest.mark.usefixtures("site")

README = Path(__file__).parents[2] / "README.md"


def found(replicant=None, **settings) -> dict[str, str]:
    """The checks' messages and hints by id, under the settings given."""
    if replicant is not None:
        settings["REPLICANT"] = replicant
    with override_settings(**settings):
        return {
            message.id.removeprefix("replicant."): f"{message.msg} {message.hint}"
            for message in run_checks()
            if message.id.startswith("replicant.")
        }


def cluster(**keys):
    return {"default": {"REPLICAS": ["replica1"], **keys}}


def test_good_settings_say_nothing():
    assert found({"default": {"REPLICAS": {"replica1": 2, "replica2": 0.5}}}) == {}
    assert found({"default": {"REPLICAS": []}}) == {}


WRONG = {
    "not a dictionary": (["replica1"], "E001", "must be a dictionary of clusters"),
    "cluster not a dictionary": ({"default": ["replica1"]}, "E001", "REPLICANT['default'] must be a dictionary"),
    "unknown key": (cluster(READ="primary"), "E002", "'READ'. Remove it (did you mean 'READS'?)"),
    "unknown key in small letters": (cluster(sticky=True), "E002", "did you mean 'STICKY'"),
    "unlike any key": (cluster(XYZZY=1), "E002", "Known keys are REPLICAS, READS,"),
    "unknown replica": ({"default": {"REPLICAS": ["replica3"]}}, "E003", "did you mean 'replica"),
    "unknown primary": ({"defualt": {"REPLICAS": []}}, "E003", "did you mean 'default'"),
    "no replicas": ({"default": {}}, "E004", "has no REPLICAS"),
    "replicas not a list": ({"default": {"REPLICAS": "replica1"}}, "E004", "a list of aliases"),
    "negative weight": ({"default": {"REPLICAS": {"replica1": -1}}}, "E004", "the weight of 'replica1' cannot be -1"),
    "weight not a number": ({"default": {"REPLICAS": {"replica1": "2"}}}, "E004", "a number from 0 to 1e+09"),
    "weight true": ({"default": {"REPLICAS": {"replica1": True}}}, "E004", "a number from 0 to 1e+09"),
    "endless weight": ({"default": {"REPLICAS": {"replica1": float("inf")}}}, "E004", "a number from 0 to 1e+09"),
    "unknown choice": (cluster(READS="replicas"), "E005", "'replica' or 'primary' (did you mean 'replica'?)"),
    "negative primary weight": (cluster(PRIMARY_WEIGHT=-1), "E005", "PRIMARY_WEIGHT"),
    "negative pin": (cluster(PIN_SECONDS=-1), "E005", "a number from 0 to 1e+09"),
    "pin not a number": (cluster(PIN_SECONDS=None), "E005", "a number from 0 to 1e+09"),
    "an astronomical pin": (cluster(PIN_SECONDS=10**400), "E005", "a number from 0 to 1e+09"),
    "a weight beyond floats": ({"default": {"REPLICAS": {"replica1": 10**400}}}, "E004", "a number from 0 to 1e+09"),
    "no lag at all": (cluster(MAX_LAG=0), "E005", "a number above 0, up to 1e+09 or None"),
    "spill above 1": (cluster(PRIMARY_SPILL=2), "E005", "a number from 0 to 1"),
    "not a boolean": (cluster(STICKY="yes"), "E005", "True or False"),
    "settings not names": (cluster(SESSION_STATE=["a; b"]), "E005", "a list of names of session settings"),
    "names not a list": (cluster(PRIMARY_ONLY="auth"), "E005", "a list of app labels"),
    "topology without a method": (cluster(TOPOLOGY={"HOSTS": {}}), "E005", "with a METHOD"),
    "topology of a method unknown": (cluster(TOPOLOGY={"METHOD": "mysq"}), "E005", "did you mean 'mysql'"),
    "topology whose hosts are no strings": (
        cluster(TOPOLOGY={"METHOD": "mysql", "HOSTS": {"db2": 3306}}),
        "E005",
        "HOSTS map the servers' names",
    ),
    "topology that allows a text": (
        cluster(TOPOLOGY={"METHOD": "dns", "ALLOW": "10.0.0.1"}),
        "E005",
        "ALLOW is a list",
    ),
    "topology that allows no network": (
        cluster(TOPOLOGY={"METHOD": "dns", "ALLOW": ["10.0.0.0/33"]}),
        "E005",
        "'10.0.0.0/33' is no network",
    ),
    "topology with an unknown template": (
        cluster(TOPOLOGY={"METHOD": "dns", "TEMPLATE": "replica3"}),
        "E003",
        "The TEMPLATE of REPLICANT['default']['TOPOLOGY'] is not in DATABASES: 'replica3'",
    ),
    "topology of another engine": (cluster(TOPOLOGY={"METHOD": "mysql"}), "E014", "(sqlite) does not support"),
    "topology that nobody follows": (
        cluster(TOPOLOGY={"METHOD": "dns"}, PROBE_SECONDS=None),
        "E014",
        "PROBE_SECONDS None disables the monitor",
    ),
    "unknown app": (cluster(PRIMARY_ONLY=["oauth"]), "E006", "an app that is not installed: 'oauth'. There is no app"),
    "unknown model": (
        cluster(PRIMARY_ONLY=["app.Acount"]),
        "E006",
        "'app' has no such model (did you mean 'Account'?)",
    ),
    "own primary": ({"default": {"REPLICAS": ["default"]}}, "E007", "set PRIMARY_WEIGHT"),
    "twice": (
        {"default": {"REPLICAS": ["replica1", "replica1"]}},
        "E008",
        "is already a replica of REPLICANT['default']",
    ),
    "in two clusters": (
        {"default": {"REPLICAS": ["replica1"]}, "other": {"REPLICAS": ["replica1"], "MODELS": ["auth"]}},
        "E008",
        "'replica1' cannot be a replica of REPLICANT['other']",
    ),
    "a primary as a replica": (
        {"default": {"REPLICAS": ["other"]}, "other": {"REPLICAS": [], "MODELS": ["auth"]}},
        "E008",
        "is already the primary of REPLICANT['other']",
    ),
    "models on default": (cluster(MODELS=["auth"]), "E009", "'default' takes every model"),
    "models on two clusters": (
        {
            "other": {"REPLICAS": [], "MODELS": ["app.Item"]},
            "replica1": {"REPLICAS": [], "MODELS": ["app.item"]},
        },
        "E009",
        "A model lives on one cluster",
    ),
}


WRONG_TOKEN = {
    "not a dictionary": ("cookie", "E010", "must be a dictionary, not 'cookie'"),
    "unknown key": ({"STOER": "cookie"}, "E011", "'STOER'. Remove it (did you mean 'STORE'?)"),
    "unlike any key": ({"XYZZY": 1}, "E011", "Known keys are STORE, NAME,"),
    "unknown store": ({"STORE": "cookies"}, "E012", "None or 'cookie' or 'header' or 'cache' (did you mean 'cookie'?)"),
    "not a name": ({"NAME": "a token"}, "E012", "letters, digits, '-' and '_'"),
    "no domain": ({"DOMAIN": ""}, "E012", "a domain or None"),
    "no path": ({"PATH": None}, "E012", "It takes text"),
    "unknown samesite": ({"SAMESITE": "lax"}, "E012", "None or 'Lax' or 'Strict' or 'None' (did you mean 'Lax'?)"),
    "secure or not": ({"SECURE": "yes"}, "E012", "True, False, or None (the same as the request)"),
    "no age at all": ({"MAX_AGE": 0}, "E012", "a number from 1 to 1e+09"),
}


@pytest.mark.parametrize("case", WRONG_TOKEN)
def test_an_error_in_the_tokens_settings_names_what_is_wrong_and_the_way_out(case: str):
    value, id, words = WRONG_TOKEN[case]
    told = found(REPLICANT_TOKEN=value)
    assert words in told[id]
    with (
        override_settings(REPLICANT_TOKEN=value),
        pytest.raises(ImproperlyConfigured, match=f"replicant.{id}.*{re.escape(words)}"),
    ):
        Client().get("/read/")


@pytest.mark.parametrize("case", WRONG)
def test_an_error_names_what_is_wrong_and_the_way_out(case: str):
    value, id, words = WRONG[case]
    told = found(value)
    assert words in told[id]
    # And the router says the same to whoever uses it all the same.
    with override_settings(REPLICANT=value):
        with pytest.raises(ImproperlyConfigured, match=f"replicant.{id}.*{re.escape(words)}"):
            router.db_for_read(Item)
        with pytest.raises(ImproperlyConfigured):
            explain(Item)


def test_wrong_settings_do_not_keep_the_checks_from_running_and_still_protect_replicas():
    with override_settings(REPLICANT={"default": {"REPLICAS": ["replica1"], "READ": "primary"}}):
        assert "E002" in {
            message.id.removeprefix("replicant.") for message in run_checks(databases=["default", "replica1"])
        }
        assert ReplicaRouter().allow_migrate("replica1", "app", model_name="item") is False
        assert ReplicaRouter().allow_migrate("default", "app", model_name="item") is None


def test_every_problem_is_told_at_once():
    value = {"default": {"REPLICAS": ["nowhere"], "READ": 1, "STICKY": 2}}
    assert {"E002", "E003", "E005"} <= set(found(value))


@pytest.mark.parametrize(
    ("probe", "message"),
    [
        ("mysql://user:hunter2@db1/", "or its OPTIONS, is not a dictionary. It takes the keys HOST, PORT, USER"),
        ({"OPTIONS": "hunter2"}, "or its OPTIONS, is not a dictionary"),
        (
            {"HOSTS": "db1"},
            "has an unknown key: 'HOSTS'. It takes HOST, PORT, USER, PASSWORD, NAME, OPTIONS (did you mean",
        ),
        ({"HOST": "db1", 1: 2}, "has an unknown key: 1"),
    ],
)
def test_a_wrong_address_for_the_monitor(monkeypatch: pytest.MonkeyPatch, probe, message: str):
    monkeypatch.setitem(connections.settings["replica1"], "PROBE", probe)
    told = found(cluster())["E013"]
    assert message in told
    assert "DATABASES['replica1']['PROBE']" in told
    assert "hunter2" not in told
    with override_settings(REPLICANT=cluster()), pytest.raises(ImproperlyConfigured, match=r"replicant\.E013"):
        router.db_for_read(Item)
    monkeypatch.setitem(connections.settings["replica1"], "PROBE", {"HOST": "db1", "OPTIONS": {}})
    assert "E013" not in found(cluster())


def test_w001_atomic_requests():
    connections.settings["default"]["ATOMIC_REQUESTS"] = True
    assert "none of its reads reaches a replica" in found()["W001"]


def test_w002_mirror():
    connections.settings["replica2"]["TEST"]["MIRROR"] = None
    assert "'TEST'] = {'MIRROR': 'default'}" in found()["W002"]


def test_w003_no_middleware():
    assert "Put 'replicant.middleware.ReplicaMiddleware' at the head" in found(MIDDLEWARE=[])["W003"]


def test_w004_middleware_misplaced():
    middleware = ["django.contrib.sessions.middleware.SessionMiddleware", "replicant.middleware.ReplicaMiddleware"]
    assert "stands after django.contrib.sessions" in found(MIDDLEWARE=middleware)["W004"]
    assert "W004" not in found(MIDDLEWARE=middleware[::-1])


def test_w005_who_logged_in_may_be_logged_out():
    assert "'auth' may be read from a replica that lags" in found(MIDDLEWARE=[])["W005"]
    assert "W005" not in found(cluster(PRIMARY_ONLY=["sessions", "auth"]), MIDDLEWARE=[])
    assert "'sessions'" in found(cluster(PRIMARY_ONLY=["auth"]), MIDDLEWARE=[])["W005"]
    cookies = "django.contrib.sessions.backends.signed_cookies"
    assert "W005" not in found(cluster(PRIMARY_ONLY=["auth"]), MIDDLEWARE=[], SESSION_ENGINE=cookies)


REPLICANT_MIDDLEWARE = "replicant.middleware.ReplicaMiddleware"
AUTHENTICATION = [
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
]
LOGGING_IN = [REPLICANT_MIDDLEWARE, *AUTHENTICATION]


def test_w005_tokens_that_browsers_do_not_send_back():
    assert found(MIDDLEWARE=LOGGING_IN) == {}
    for store in (None, "header"):
        token = {"STORE": store}
        told = found(MIDDLEWARE=LOGGING_IN, REPLICANT_TOKEN=token)["W005"]
        assert f"With REPLICANT_TOKEN['STORE'] = {store!r} 'auth' may be read from a replica" in told
        assert "Let STORE be 'cookie', or add 'auth' to PRIMARY_ONLY." in told
        exempt = cluster(PRIMARY_ONLY=["sessions", "auth.User"])
        assert set(found(exempt, MIDDLEWARE=LOGGING_IN, REPLICANT_TOKEN=token)) == {"W021"}
        # Nobody logs in there.
        assert found(REPLICANT_TOKEN=token) == {}


def test_w005_no_consistency():
    told = found(cluster(CONSISTENCY="eventual"), MIDDLEWARE=LOGGING_IN)["W005"]
    assert "With REPLICANT['default']['CONSISTENCY'] = 'eventual' 'auth' may be read from a replica" in told
    assert "W005" not in found(cluster(CONSISTENCY="time"), MIDDLEWARE=LOGGING_IN)


def test_w005_tokens_by_user_whom_only_the_session_names():
    by_user = {**BY_USER, "MIDDLEWARE": [*AUTHENTICATION, REPLICANT_MIDDLEWARE]}
    assert found(**by_user) == {}
    assert "'sessions' may be read from a replica" in found(cluster(PRIMARY_ONLY=["app"]), **by_user)["W005"]


def test_w005_users_and_sessions_of_ones_own():
    for exempt, own in (
        ("auth", {"SESSION_ENGINE": "tests.app.sessions"}),
        ("sessions", {"AUTH_USER_MODEL": "app.Account"}),
    ):
        # Not by run_checks(): Django's own would find that it is no user.
        with override_settings(MIDDLEWARE=[], REPLICANT=cluster(PRIMARY_ONLY=[exempt]), **own):
            told = [each for each in check_settings(None) if each.id != "replicant.W021"]
            assert ["'app' may be read from a replica" in each.msg for each in told] == [False, True]
        with override_settings(MIDDLEWARE=[], REPLICANT=cluster(PRIMARY_ONLY=[exempt, "app.Account"]), **own):
            told = [each.id for each in check_settings(None) if each.id != "replicant.W021"]
            assert told == ["replicant.W003"]


def test_w005_goes_by_the_cluster_on_which_the_users_live():
    clusters = {**cluster(), "other": {"REPLICAS": [], "MODELS": ["auth", "sessions"]}}
    assert "W005" not in found(clusters, MIDDLEWARE=[])
    clusters["other"] = {"REPLICAS": ["replica2"], "MODELS": ["auth", "sessions"]}
    assert "'auth'" in found(clusters, MIDDLEWARE=[])["W005"]


def test_w006_no_router():
    assert "Add 'replicant.ReplicaRouter' to DATABASE_ROUTERS" in found(DATABASE_ROUTERS=[])["W006"]


def test_w007_a_cluster_where_nothing_lives():
    assert "no model lives there" in found({"other": {"REPLICAS": ["replica1"]}})["W007"]


def test_w018_a_topology_that_lets_nobody_new_in():
    assert "has no ALLOW" in found(cluster(TOPOLOGY={"METHOD": "dns"}))["W018"]
    assert found(cluster(TOPOLOGY={"METHOD": "dns", "ALLOW": ["10.0.0.0/24", "*.example.com"]})) == {}


def test_w009_every_replica_at_rest():
    assert "every replica has weight 0" in found({"default": {"REPLICAS": {"replica1": 0}}})["W009"]


def test_w010_a_router_without_clusters():
    assert "names no cluster" in found({})["W010"]


def test_w011_a_token_that_lives_shorter_than_the_lag():
    assert (
        "MAX_AGE'] is 5 s, and REPLICANT['default']['MAX_LAG'] permits 10 s"
        in found(REPLICANT_TOKEN={"MAX_AGE": 5})["W011"]
    )
    assert "sets no limit" in found(cluster(MAX_LAG=None))["W011"]
    assert "W011" not in found(REPLICANT_TOKEN={"MAX_AGE": 10})
    assert "W011" not in found(REPLICANT_TOKEN={"MAX_AGE": 5, "STORE": None})
    assert "W011" not in found(cluster(CONSISTENCY="eventual"), REPLICANT_TOKEN={"MAX_AGE": 5})


BY_USER = {"REPLICANT_TOKEN": {"STORE": "cache"}, "CACHES": {"default": {"BACKEND": f"{__name__}.SharedCache"}}}


class SharedCache(BaseCache):
    """A cache that all processes share, as far as its class tells."""

    def __init__(self, location: str, params: dict) -> None:
        super().__init__(params)


def test_w012_tokens_by_user_and_nobody_is_known():
    assert "request.user is not available to it" in found(**BY_USER)["W012"]
    assert "W012" in found(**BY_USER, MIDDLEWARE=[REPLICANT_MIDDLEWARE, *AUTHENTICATION])
    assert found(**BY_USER, MIDDLEWARE=[*AUTHENTICATION, REPLICANT_MIDDLEWARE]) == {}


def test_w013_tokens_in_a_cache_that_no_other_process_sees():
    for cache in ("locmem.LocMemCache", "dummy.DummyCache"):
        caches = {"default": {"BACKEND": f"django.core.cache.backends.{cache}"}}
        assert "is not shared" in found(**{**BY_USER, "CACHES": caches})["W013"]


def test_w014_tokens_in_a_database():
    caches = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}}
    told = found(**{**BY_USER, "CACHES": caches})["W014"]
    assert "each token costs the primary reads and a write." in told
    told = found(cluster(PRIMARY_ONLY=["sessions"]), **{**BY_USER, "CACHES": caches})["W014"]
    assert "may be read from a replica that lags" in told
    assert "add 'django_cache' to PRIMARY_ONLY" in told


def test_w016_a_cache_that_lags():
    caches = {"default": {"BACKEND": "django.core.cache.backends.db.DatabaseCache", "LOCATION": "cache"}}
    assert found(CACHES=caches) == {}
    assert "Add 'django_cache' to PRIMARY_ONLY" in found(cluster(PRIMARY_ONLY=["sessions"]), CACHES=caches)["W016"]
    assert found(cluster(PRIMARY_ONLY=["sessions"])) == {}


def test_w017_packages_whose_readers_are_not_their_writers():
    for label in ("knox", "django_celery_beat"):
        if importlib.util.find_spec(label) is None:
            # Of the second there is none for Django 6.1.
            continue
        installed = [*settings.INSTALLED_APPS, label]
        told = found(INSTALLED_APPS=installed)["W017"]
        assert f"{label!r} may be read from a replica that lags: " in told
        assert f"Add {label!r} to PRIMARY_ONLY." in told
        exempt = cluster(PRIMARY_ONLY=["sessions", label])
        assert "W017" not in found(exempt, INSTALLED_APPS=installed)


def test_w022_scripts_that_remember_nothing_of_what_they_read():
    def warns(**keys) -> bool:
        return "W022" in found({"default": {"REPLICAS": ["replica1", "replica2"], **keys}})

    assert warns(STICKY=False)
    assert not warns()
    assert not warns(STICKY=False, OUTSIDE_REQUESTS="primary")
    assert not warns(STICKY=False, READS="primary")
    assert not warns(STICKY=False, CONSISTENCY="eventual")
    assert not warns(STICKY=False, REPLICAS=["replica1"])
    assert not warns(STICKY=False, REPLICAS={"replica1": 1, "replica2": 0})


def test_w019_connections_that_choose_a_schema(monkeypatch: pytest.MonkeyPatch):
    # The real package needs settings of its own: see test_django_tenants.py.
    monkeypatch.setattr("replicant.engines.tenants.chooses_schema", lambda engine: True)
    monkeypatch.setattr("replicant.engines.tenants.watch", lambda engine: None)
    assert "Set SESSION_STATE to ['search_path']" in found()["W019"]


def test_w020_settings_that_cannot_be_copied():
    told = found(cluster(SESSION_STATE=["search_path"]))["W020"]
    assert "has no effect: this engine has no settings that can be copied; the engine of 'replica1'" in told
    mysql = {"ENGINE": "replicant.backends.mysql"}
    databases = {alias: {**mysql, "NAME": alias} for alias in ("default", "replica1")}
    _, problems = conf.check({"default": {"REPLICAS": ["replica1"], "SESSION_STATE": ["sql_mode"]}}, databases)
    assert problems == []
    _, problems = conf.check({"default": {"REPLICAS": ["replica1"], "SESSION_STATE": ["role"]}}, databases)
    assert [problem.id for problem in problems] == ["W020"]


def test_w021_joins_with_exempt_tables():
    told = found(cluster(PRIMARY_ONLY=["sessions", "auth.User"]))["W021"]
    assert "admin.LogEntry.user" in told
    assert "a write to that table does not keep such a read on the primary." in told
    assert "W021" not in found(cluster(PRIMARY_ONLY=["sessions", "auth", "admin"]))


def test_every_check_is_in_the_readme():
    folder = Path(conf.__file__).parent
    source = "".join(file.read_text() for file in (*folder.glob("*.py"), folder.with_name("checks.py")))
    ids = set(re.findall(r'"(?:replicant\.)?([EW]\d{3})"', source))
    tested = {id for _, id, _ in [*WRONG.values(), *WRONG_TOKEN.values()]}
    tested |= set(re.findall(r'"(W\d{3}|E013)"', Path(__file__).read_text()))
    tested |= set(re.findall(r'"replicant\.(W\d{3})"', Path(__file__).with_name("test_servers_check.py").read_text()))
    assert ids == tested
    readme = README.read_text()
    assert [id for id in sorted(ids) if f"`replicant.{id}`" not in readme] == []
