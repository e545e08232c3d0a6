"""The apps that should be read only from the primary.

Session consistency guarantees that a writer sees its own writes on every later page. It does not help when the reader
is not the writer and a stale read does damage: a missing row logs a user out, rejects a client, or counts as zero. Such
apps belong in ``PRIMARY_ONLY``, and a check proposes them.
"""

from __future__ import annotations

from importlib import import_module
from typing import NamedTuple

from django.apps import apps
from django.conf import settings

from replicant.conf import Cluster
from replicant.conf.token_settings import TokenSettings
from replicant.conf.validators import Problem

_DATABASE_CACHE = "django.core.cache.backends.db.DatabaseCache"


class Package(NamedTuple):
    """An app of a package that should be read from the primary."""

    label: str
    """The label of the app."""
    why: str
    """The damage if a lagging replica serves the read."""
    unless: str | None = None
    """A setting of the package that makes the package itself read from the primary."""


#: Apps by their module. None of them is read by the client that wrote the row. Some give a token to one client, and
#: another client, or a process without requests, looks it up. Others cache the rows that they read, and clear the cache
#: after a change: an old row from a lagging replica then stays in the cache. Django caches its sites until the process
#: ends.
PACKAGES = {
    "oauth2_provider": Package(
        "oauth2_provider", "a token that was just issued is refused, and one that was revoked is taken"
    ),
    "rest_framework.authtoken": Package(
        "authtoken", "a token that was just issued is refused, and one that was deleted is taken"
    ),
    "knox": Package("knox", "a token that was just issued is refused, and one that was deleted is taken"),
    "django_celery_beat": Package(
        "django_celery_beat",
        "beat notices a change of the schedule only once, reads the old schedule, and keeps it; it also saves the rows "
        "that it read, and so reverts later changes",
    ),
    "django.contrib.sites": Package(
        "sites", "a process that reads a site right after a change keeps the old domain until it ends"
    ),
    "waffle": Package(
        "waffle",
        "a flag that is read right after a change goes into the cache as it was before, and stays there",
        unless="WAFFLE_READ_FROM_WRITE_DB",
    ),
    "constance": Package(
        "constance", "a value that is read right after a change goes into the cache as it was before, and stays there"
    ),
    "dynamic_preferences": Package(
        "dynamic_preferences",
        "a preference that is read right after a change goes into the cache as it was before, and stays there",
    ),
}


def warnings(clusters: list[Cluster], token: TokenSettings, *, has_middleware: bool) -> list[Problem]:
    return [
        *_login_warnings(clusters, token, has_middleware),
        *_cache_warnings(clusters),
        *_package_warnings(clusters),
        *_script_warnings(clusters),
    ]


def _readable(clusters: list[Cluster], app: str, model: str = "") -> Cluster | None:
    """The cluster that serves a model, or an app's models, from replicas; None if they are exempt."""
    names = {app, f"{app}.{model}"}
    homes = [cluster for cluster in clusters if names & {name.lower() for name in cluster.models}]
    homes += [cluster for cluster in clusters if cluster.primary == "default"]
    if not homes or not homes[0].replicas or names & {name.lower() for name in homes[0].primary_only}:
        return None
    return homes[0]


def _session_model() -> tuple[str, str] | None:
    """The model of the sessions, if they are in a database: Django's own, or the model of a derived store."""
    try:
        options = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()._meta
    except (ImportError, AttributeError, RuntimeError):
        # The sessions are in no database, or the setting is wrong; then Django raises an error at the first session.
        return None
    return (options.app_label, options.model_name) if options.app_config else None


def _user_model() -> tuple[str, str] | None:
    if not apps.is_installed("django.contrib.auth"):
        return None
    app, _, model = settings.AUTH_USER_MODEL.lower().partition(".")
    return app, model


def _login_warnings(clusters: list[Cluster], token: TokenSettings, has_middleware: bool) -> list[Problem]:
    """A user who logged in, signed up or changed a password is logged out if the next page reads the former state."""
    has_sessions = any(path.endswith("SessionMiddleware") for path in settings.MIDDLEWARE if isinstance(path, str))
    found = []
    for what in (_session_model(), _user_model()):
        if what is None or not (cluster := _readable(clusters, *what)):
            continue
        app = what[0]
        if not has_middleware:
            why, hint = (
                "Without the middleware",
                "Put 'replicant.middleware.ReplicaMiddleware' at the head of MIDDLEWARE",
            )
        elif not has_sessions:
            continue
        elif cluster.consistency == "eventual":
            why = f"With REPLICANT[{cluster.primary!r}]['CONSISTENCY'] = 'eventual'"
            hint = "Leave CONSISTENCY out"
        elif token.store in (None, "header"):
            # Browsers do not send the header back.
            why = f"With REPLICANT_TOKEN['STORE'] = {token.store!r}"
            hint = "Let STORE be 'cookie'"
        elif token.store == "cache" and what == _session_model():
            # The session must be read first, because it tells which user's tokens to fetch.
            why = "With REPLICANT_TOKEN['STORE'] = 'cache'"
            hint = "Let STORE be 'cookie'"
        else:
            continue
        found.append(
            Problem(
                "W005",
                f"{why} {app!r} may be read from a replica that lags: a user who just logged in or changed a password "
                "may be logged out.",
                f"{hint}, or add {app!r} to PRIMARY_ONLY.",
            )
        )
    return found


def _cache_warnings(clusters: list[Cluster]) -> list[Problem]:
    used = any(cache.get("BACKEND") == _DATABASE_CACHE for cache in settings.CACHES.values())
    if not used or not _readable(clusters, "django_cache"):
        return []
    return [
        Problem(
            "W016",
            "The database cache may be read from a replica that lags: an entry that one user's request stored is "
            "missing for other users, and incr() fails or counts wrong.",
            "Add 'django_cache' to PRIMARY_ONLY.",
        )
    ]


def _package_warnings(clusters: list[Cluster]) -> list[Problem]:
    found = []
    for config in apps.get_app_configs():
        package = PACKAGES.get(config.name)
        if package is None or (package.unless and getattr(settings, package.unless, False)):
            continue
        if _readable(clusters, config.label):
            hint = f"Add {config.label!r} to PRIMARY_ONLY" + (f", or set {package.unless}." if package.unless else ".")
            found.append(
                Problem("W017", f"{config.label!r} may be read from a replica that lags: {package.why}.", hint)
            )
    return found


def _script_warnings(clusters: list[Cluster]) -> list[Problem]:
    """Warnings about clusters where scripts, tasks and commands read from several replicas without a memory of earlier
    reads."""
    return [
        Problem(
            "W022",
            f"REPLICANT[{cluster.primary!r}]['STICKY'] is False: two replicas, one of them behind, may serve two reads "
            "of one script, task or management command, so that get() misses a row that exists() has found.",
            "Leave STICKY out, or let OUTSIDE_REQUESTS be 'primary'.",
        )
        for cluster in clusters
        if not cluster.sticky
        and cluster.consistent
        and cluster.reads == cluster.outside_requests == "replica"
        and sum(weight > 0 for _, weight in cluster.replicas) > 1
    ]
