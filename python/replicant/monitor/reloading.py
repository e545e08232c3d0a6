"""``reload()``, for sites that have their own source of truth about their servers."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Mapping
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import connections

from replicant import conf
from replicant.monitor import topology


def reload(
    clusters: Mapping[str, Mapping[str, Any]] | None = None, *, databases: Mapping[str, Mapping[str, Any]] | None = None
) -> None:
    """Put other members or other settings in force without a restart.

    ``clusters`` has the shape of ``settings.REPLICANT`` and may be partial: a cluster, or a key of a cluster, that it
    does not name keeps its value from the settings. ``databases`` has the shape of ``settings.DATABASES``: the settings
    of new aliases. Without ``clusters``, the settings are in force again.

    The reload takes effect in this process at once, until the next reload or change of settings. The package keeps its
    knowledge of members that stay, and the records of what scopes have read and written. Replicas that are dropped get
    no reads, and stay known under their aliases.

    Raises ``ImproperlyConfigured``, with the text of ``manage.py check``, if anything is wrong; nothing has changed
    then.
    """
    given = copy.deepcopy(dict(_checked_clusters(clusters))) if clusters is not None else {}
    new = _completed(databases or {})
    aliases = {**connections.settings, **new}
    found, problems = conf.check(conf.merged(given), aliases)
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        raise ImproperlyConfigured("\n".join(str(problem) for problem in errors))
    # Replicas that were in force can be dropped. None were in force if the configuration could not be loaded.
    with contextlib.suppress(ImproperlyConfigured):
        conf.load()
    staying = {alias for cluster in found for alias in (cluster.primary, *dict(cluster.replicas))}
    dropped = {
        cluster.primary: [alias for alias in topology.listed(cluster) if alias not in staying]
        for cluster in conf.in_force()
    }
    topology.add(new)
    conf.lay_over(given)
    topology.drop(dropped)
    conf.load()


def _checked_clusters(clusters: Any) -> Mapping[str, Any]:
    if not isinstance(clusters, Mapping):
        raise ImproperlyConfigured(f"reload() takes a dictionary in the shape of REPLICANT, not {clusters!r}.")
    if not clusters:
        raise ImproperlyConfigured(
            "reload({}) names no cluster. An empty source counts as a source that failed; to go back to the settings, "
            "call reload() without clusters."
        )
    for primary, cluster in clusters.items():
        if isinstance(cluster, Mapping) and "REPLICAS" in cluster and not cluster["REPLICAS"]:
            raise ImproperlyConfigured(
                f"reload() was given no REPLICAS for {primary!r}. An empty source counts as a source that failed; to "
                "stop reads from all replicas, give each replica the weight 0."
            )
    return clusters


def _completed(databases: Any) -> dict[str, dict[str, Any]]:
    """The settings of new aliases, with Django's defaults."""
    if not isinstance(databases, Mapping) or not all(isinstance(each, Mapping) for each in databases.values()):
        # The message does not show the value, because it may contain a password.
        raise ImproperlyConfigured("reload() takes databases in the shape of DATABASES: alias to dictionary.")
    copies = {alias: copy.deepcopy(dict(settings)) for alias, settings in databases.items()}
    # Django requires an entry "default", whatever its content.
    complete = connections.configure_settings({"default": {}, **copies})
    for alias in databases:
        if alias in connections.settings and connections.settings[alias] != complete[alias]:
            raise ImproperlyConfigured(
                f"reload() was given other settings for {alias!r} than its present ones, but open connections and "
                "loaded objects refer to that alias. Give the server its own alias."
            )
    return {alias: complete[alias] for alias in databases}
