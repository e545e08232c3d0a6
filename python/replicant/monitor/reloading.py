"""For sites that have a source of truth of their own about their servers."""

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
    """Have other members, or other settings, from now on, with no restart.

    ``clusters`` has the shape of ``settings.REPLICANT`` and may be partial: what it does not name, a cluster or a key
    of one, stays as the settings have it. ``databases`` has the shape of ``settings.DATABASES``: the settings of
    aliases that are not there. Without ``clusters`` the settings are in force again.

    In this process, at once, until the next reload or change of settings. What is known of members that stay is kept,
    and so is what scopes have read and written. Replicas that are dropped get no reads, and stay known under their
    aliases.

    Raises ``ImproperlyConfigured``, with the text of ``manage.py check``, if anything is wrong; then nothing has
    changed.
    """
    given = copy.deepcopy(dict(_checked_clusters(clusters))) if clusters is not None else {}
    new = _completed(databases or {})
    aliases = {**connections.settings, **new}
    found, problems = conf.check(conf.merged(given), aliases)
    errors = [problem for problem in problems if problem.is_error]
    if errors:
        raise ImproperlyConfigured("\n".join(str(problem) for problem in errors))
    # Those that are dropped are those that were in force, if they could be used at all.
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
            "reload({}) names no cluster. A source that is empty is taken for one that failed; reload() without "
            "clusters goes back to the settings."
        )
    for primary, cluster in clusters.items():
        if isinstance(cluster, Mapping) and "REPLICAS" in cluster and not cluster["REPLICAS"]:
            raise ImproperlyConfigured(
                f"reload() was given no REPLICAS for {primary!r}. A source that is empty is taken for one that failed; "
                "to have none of them read from, give each the weight 0."
            )
    return clusters


def _completed(databases: Any) -> dict[str, dict[str, Any]]:
    """The settings of new aliases, with Django's defaults."""
    if not isinstance(databases, Mapping) or not all(isinstance(each, Mapping) for each in databases.values()):
        # Not the value: it may hold a password.
        raise ImproperlyConfigured("reload() takes databases in the shape of DATABASES: alias to dictionary.")
    copies = {alias: copy.deepcopy(dict(settings)) for alias, settings in databases.items()}
    # It wants a default, whatever it may be.
    complete = connections.configure_settings({"default": {}, **copies})
    for alias in databases:
        if alias in connections.settings and connections.settings[alias] != complete[alias]:
            raise ImproperlyConfigured(
                f"reload() was given other settings for {alias!r} than it has: connections and objects go by that "
                "alias. Give the server an alias of its own."
            )
    return {alias: complete[alias] for alias in databases}
