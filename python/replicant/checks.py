"""System checks. The ids are stable and listed in the README."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.core.cache import caches
from django.core.cache.backends.db import DatabaseCache
from django.core.cache.backends.dummy import DummyCache
from django.core.cache.backends.locmem import LocMemCache
from django.core.checks import CheckMessage, Error, Warning
from django.db import DatabaseError, connections
from django.utils.module_loading import import_string

from replicant import conf
from replicant._core import ReplicaRouter
from replicant.conf import Cluster, exempt_tables, primary_only, token_settings
from replicant.conf.token_settings import TokenSettings
from replicant.conf.validators import Problem
from replicant.engines import engine_of, tenants
from replicant.engines.sample import SINCE
from replicant.middleware import ReplicaMiddleware
from replicant.patches import test_runner

#: Middleware that reads or writes the database before or after the view, and so belongs inside the request scope.
_USES_DATABASE = ("SessionMiddleware", "AuthenticationMiddleware", "UpdateCacheMiddleware", "FetchFromCacheMiddleware")
#: Middleware that must stand before ReplicaMiddleware, in spite of that, if tokens are stored by user.
_KNOWS_USERS = ("SessionMiddleware", "AuthenticationMiddleware")


def check_settings(app_configs: Sequence[AppConfig] | None, **kwargs: Any) -> list[CheckMessage]:
    """All errors in the settings, and warnings about settings that work but will cause problems."""
    clusters, problems = conf.read()
    token, token_problems = token_settings.read()
    problems = [*problems, *token_problems]
    if not any(problem.is_error for problem in problems):
        problems = [*problems, *_warnings(clusters, token)]
    return [
        (Error if problem.is_error else Warning)(problem.message, hint=problem.hint, id=f"replicant.{problem.id}")
        for problem in problems
    ]


#: The number of new connections to an alias: a balancer that alternates between two servers shows both.
_LOOKS = 4


def check_servers(
    app_configs: Sequence[AppConfig] | None, databases: Sequence[str] | None = None, **kwargs: Any
) -> list[CheckMessage]:
    """Warnings about replica aliases that lead to several servers; runs with ``manage.py check --database``."""
    clusters, _ = conf.read()
    replicas = [alias for cluster in clusters for alias, _ in cluster.replicas if alias in (databases or ())]
    return [
        Warning(
            f"Several servers answer to the alias {alias!r}: no position can tell what the next read sees there.",
            hint="Give each server an alias of its own. After a write, only PIN_SECONDS keeps reads off this alias.",
            id="replicant.W015",
        )
        for alias in replicas
        if len({server for _ in range(_LOOKS) if (server := _server(alias))}) > 1
    ]


def _server(alias: str) -> str:
    """The server that a new connection reaches, without the time of its start; empty if the server does not tell."""
    connection = connections.create_connection(alias)
    try:
        # Does not call connect(), which would send connection_created to every receiver.
        with connection.wrap_database_errors:
            connection.connection = connection.get_new_connection(connection.get_connection_params())
        # A server stays the same server after a restart between two queries, or on another route.
        return engine_of(connection).probe(connection).run.partition(SINCE)[0]
    except DatabaseError:
        return ""
    finally:
        connection.close()


def _warnings(clusters: list[Cluster], token: TokenSettings) -> list[Problem]:
    found = _router_warnings(clusters)
    if not any(cluster.replicas for cluster in clusters):
        return found
    for cluster in clusters:
        found += _cluster_warnings(cluster)
    found += _middleware_warnings(token) + _token_warnings(clusters, token)
    found += primary_only.warnings(clusters, token, has_middleware=_place(ReplicaMiddleware) is not None)
    return found + exempt_tables.warnings(clusters) + _tenant_warnings(clusters)


def _tenant_warnings(clusters: list[Cluster]) -> list[Problem]:
    return [
        Problem(
            "W019",
            f"The connections of {cluster.primary!r} choose a tenant's schema (django-tenants), and "
            f"REPLICANT[{cluster.primary!r}]['SESSION_STATE'] does not have 'search_path': every read goes to the "
            "primary.",
            "Set SESSION_STATE to ['search_path'], and set the ENGINE of each replica to "
            "'replicant.backends.postgresql'.",
        )
        for cluster in clusters
        if cluster.replicas
        and tenants.SETTING not in cluster.session_state
        and (engine := conf.engine_class(connections.settings[cluster.primary])) is not None
        and tenants.chooses_schema(engine)
    ]


def _router_warnings(clusters: list[Cluster]) -> list[Problem]:
    routed = any(_is(path, ReplicaRouter) for path in settings.DATABASE_ROUTERS)
    if clusters and not routed:
        return [
            Problem(
                "W006",
                "REPLICANT is set, but no router uses it.",
                "Add 'replicant.ReplicaRouter' to DATABASE_ROUTERS.",
            )
        ]
    if routed and not clusters:
        return [
            Problem(
                "W010",
                "The router is installed, but REPLICANT names no cluster: every read goes where Django sends it.",
                "Set REPLICANT = {'default': {'REPLICAS': [...]}}.",
            )
        ]
    return []


def _cluster_warnings(cluster: Cluster) -> list[Problem]:
    found = []
    where = f"REPLICANT[{cluster.primary!r}]"
    members = [cluster.primary, *(alias for alias, _ in cluster.replicas)]
    for alias in members:
        if connections.settings[alias]["ATOMIC_REQUESTS"]:
            found.append(
                Problem(
                    "W001",
                    f"DATABASES[{alias!r}] has ATOMIC_REQUESTS: every view runs in a transaction, and none of its "
                    f"reads reaches a replica of {where}.",
                    "Put transaction.atomic where it is needed, or transaction.non_atomic_requests on the views that "
                    "may read from replicas.",
                )
            )
    for alias in members[1:]:
        if test_runner.mirror_of(alias) != cluster.primary:
            found.append(
                Problem(
                    "W002",
                    f"DATABASES[{alias!r}] has no TEST['MIRROR']: tests would create a separate database for it.",
                    f"Set DATABASES[{alias!r}]['TEST'] = {{'MIRROR': {cluster.primary!r}}}.",
                )
            )
    if cluster.primary != "default" and not cluster.models:
        found.append(
            Problem(
                "W007",
                f"{where} has no MODELS: no model lives there, and its replicas get no reads.",
                "Name the app labels and models that live on it.",
            )
        )
    return found


def _middleware_warnings(token: TokenSettings) -> list[Problem]:
    middleware = list(settings.MIDDLEWARE)
    place = _place(ReplicaMiddleware)
    if place is not None:
        misplaced = [name for name in _USES_DATABASE if token.store != "cache" or name not in _KNOWS_USERS]
        earlier = [path for path in middleware[:place] if path.endswith(tuple(misplaced))]
        if not earlier:
            return []
        return [
            Problem(
                "W004",
                f"ReplicaMiddleware stands after {earlier[0]}: that middleware's queries are outside of the request "
                "scope.",
                "Put 'replicant.middleware.ReplicaMiddleware' before it.",
            )
        ]
    hint = "Put 'replicant.middleware.ReplicaMiddleware' at the head of MIDDLEWARE."
    return [
        Problem(
            "W003",
            "MIDDLEWARE has no ReplicaMiddleware: requests have no scope. What a request has read or written is "
            "forgotten when it ends, and the client's next request may read older data.",
            hint,
        )
    ]


def _token_warnings(clusters: list[Cluster], token: TokenSettings) -> list[Problem]:
    if token.store is None:
        return []
    found = []
    for cluster in clusters:
        where = f"REPLICANT[{cluster.primary!r}]"
        if not cluster.replicas or cluster.consistency == "eventual":
            continue
        if cluster.max_lag is None or cluster.max_lag > token.max_age:
            limit = "sets no limit" if cluster.max_lag is None else f"permits {cluster.max_lag:g} s"
            found.append(
                Problem(
                    "W011",
                    f"REPLICANT_TOKEN['MAX_AGE'] is {token.max_age:g} s, and {where}['MAX_LAG'] {limit}: a token may "
                    "expire before every replica that serves the client has the client's writes.",
                    "Raise MAX_AGE, or lower MAX_LAG.",
                )
            )
    if token.store == "cache":
        found += _cache_warnings(clusters)
    return found


def _cache_warnings(clusters: list[Cluster]) -> list[Problem]:
    found = []
    place = _place(ReplicaMiddleware)
    # Compared by name, because its module cannot be imported if django.contrib.auth is not installed.
    if place is not None and not any(path.endswith("AuthenticationMiddleware") for path in settings.MIDDLEWARE[:place]):
        found.append(
            Problem(
                "W012",
                "REPLICANT_TOKEN['STORE'] is 'cache', which stores by user, and ReplicaMiddleware does not stand after "
                "AuthenticationMiddleware: request.user is not available to it.",
                "Put 'replicant.middleware.ReplicaMiddleware' after "
                "'django.contrib.auth.middleware.AuthenticationMiddleware'.",
            )
        )
    if isinstance(caches["default"], (LocMemCache, DummyCache)):
        found.append(
            Problem(
                "W013",
                "REPLICANT_TOKEN['STORE'] is 'cache', and CACHES['default'] is not shared between processes: a client "
                "that wrote through one process gets no guarantee from the others.",
                "Use a cache that all processes share, such as Redis or Memcached.",
            )
        )
    if isinstance(caches["default"], DatabaseCache):
        exempt = {name.lower() for cluster in clusters for name in cluster.primary_only}
        where = "" if "django_cache" in exempt else ", and its tables may be read from a replica that lags"
        found.append(
            Problem(
                "W014",
                "REPLICANT_TOKEN['STORE'] is 'cache', and CACHES['default'] is in a database: each token costs the "
                f"primary reads and a write{where}.",
                "Use a cache outside of the database, such as Redis or Memcached"
                + (", or add 'django_cache' to PRIMARY_ONLY." if where else "."),
            )
        )
    return found


def _place(middleware: type) -> int | None:
    """The index in MIDDLEWARE of a class, or of one derived from it; None if it is not there."""
    return next((index for index, path in enumerate(settings.MIDDLEWARE) if _is(path, middleware)), None)


def _is(path: Any, wanted: type) -> bool:
    """Whether a dotted path, or an object, names ``wanted`` or a class derived from it."""
    if isinstance(path, str):
        try:
            path = import_string(path)
        except ImportError:
            return False
    return isinstance(path, wanted) or (isinstance(path, type) and issubclass(path, wanted))
