"""Which apps had better be read from the primary alone.

Session consistency makes everything right for whoever wrote, on any page that follows. It cannot help where the reader
is not the writer, and what they read is no matter of taste: a row that is missing logs somebody out, turns a client
away, or is taken for a count of nothing. Such apps belong into ``PRIMARY_ONLY``, and a check proposes them.
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
    """An app of a package that had better be read from the primary."""

    label: str
    """The label of the app."""
    why: str
    """What happens if a replica that lags answers for the primary."""
    unless: str | None = None
    """A setting of the package that has it read from the primary by itself."""


#: Apps by their module. None of them reads what its own client has written. With some, one client is given what
#: another one, or a process without requests, looks up. Others keep in a cache what they read, and empty it after a
#: change: what a replica that lags fills it with then stays there. Django keeps its sites until the process ends.
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
        "beat notices a change of the schedule once, reads the schedule of before, and keeps it; it also saves what it "
        "read, and takes back what was changed meanwhile",
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
    """The cluster on whose replicas a model, or an app's models, may be read; None if they are exempt."""
    names = {app, f"{app}.{model}"}
    homes = [cluster for cluster in clusters if names & {name.lower() for name in cluster.models}]
    homes += [cluster for cluster in clusters if cluster.primary == "default"]
    if not homes or not homes[0].replicas or names & {name.lower() for name in homes[0].primary_only}:
        return None
    return homes[0]


def _session_model() -> tuple[str, str] | None:
    """The model of the sessions, if they are in a database: Django's own, or that of a store derived from it."""
    try:
        options = import_module(settings.SESSION_ENGINE).SessionStore.get_model_class()._meta
    except (ImportError, AttributeError, RuntimeError):
        # In no database, or Django says so when the first session is made.
        return None
    return (options.app_label, options.model_name) if options.app_config else None


def _user_model() -> tuple[str, str] | None:
    if not apps.is_installed("django.contrib.auth"):
        return None
    app, _, model = settings.AUTH_USER_MODEL.lower().partition(".")
    return app, model


def _login_warnings(clusters: list[Cluster], token: TokenSettings, has_middleware: bool) -> list[Problem]:
    """Who logged in, signed up or changed a password is logged out if the next page reads what was before."""
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
            # Browsers send no such header back.
            why = f"With REPLICANT_TOKEN['STORE'] = {token.store!r}"
            hint = "Let STORE be 'cookie'"
        elif token.store == "cache" and what == _session_model():
            # Only the session tells whose tokens to look for.
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
            "The database cache may be read from a replica that lags: what one user stored is missing for the others, "
            "and incr() fails or counts wrong.",
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
    """Scripts, tasks and commands that read from several replicas, and remember nothing of what they read."""
    return [
        Problem(
            "W022",
            f"REPLICANT[{cluster.primary!r}]['STICKY'] is False: two reads of one script, task or management command "
            "may be answered by two replicas of which one is behind, so that get() misses what exists() has found.",
            "Leave STICKY out, or let OUTSIDE_REQUESTS be 'primary'.",
        )
        for cluster in clusters
        if not cluster.sticky
        and cluster.consistent
        and cluster.reads == cluster.outside_requests == "replica"
        and sum(weight > 0 for _, weight in cluster.replicas) > 1
    ]
