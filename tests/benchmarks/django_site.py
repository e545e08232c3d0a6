"""Django, set up for one contender, on SQLite in memory."""

from __future__ import annotations

import contextvars
import socket
import warnings
from contextlib import ExitStack
from typing import Any

from tests.benchmarks import states
from tests.benchmarks.contenders import Contender


def set_up(contender: Contender, stack: ExitStack) -> None:
    """Configure Django, make the one row there is, and enter the contender's state until ``stack`` closes."""
    import django
    from django.conf import settings

    # django_replicated asks the name server for this machine's name when it is imported.
    socket.getfqdn = lambda name="": "benchmark"
    # Peers warn about names that Django has since given up.
    warnings.simplefilter("ignore")
    replicas = [f"replica{number}" for number in range(1, contender.replicas + 1)]
    ours = contender.group == "replicant"
    configured: dict[str, Any] = {
        "DATABASES": {alias: _database(alias) for alias in ("default", *replicas)},
        "DATABASE_ROUTERS": [contender.router] if contender.router else [],
        "INSTALLED_APPS": [
            *(["replicant"] if ours else []),
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "tests.app",
        ],
        "SECRET_KEY": "for benchmarks alone",
        "USE_TZ": True,
        "DEFAULT_AUTO_FIELD": "django.db.models.BigAutoField",
        **contender.settings,
    }
    if ours:
        # Watched, but looked at once: a thousand threads that open files are not what is measured.
        configured["REPLICANT"] = {"default": {"REPLICAS": replicas, "PROBE_SECONDS": 3600.0, **contender.cluster}}
    settings.configure(**configured)
    django.setup()
    # In a context of its own: what is written here, the measured thread must not remember.
    contextvars.copy_context().run(_make_tables)
    states.enter(contender.state, stack)


def _database(alias: str) -> dict[str, Any]:
    mirror = {} if alias == "default" else {"MIRROR": "default"}
    return {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "TEST": mirror}


def _make_tables() -> None:
    from django.db import connections

    from tests.app.models import Account, Item

    with connections["default"].schema_editor() as editor:
        editor.create_model(Item)
        editor.create_model(Account)
    Item.objects.using("default").create(pk=1, name="measured")


def check(contender: Contender, model: Any) -> None:
    """Raise unless a read is decided for the reason that the contender is named after."""
    if contender.reason is not None:
        from replicant import _core, explain

        if not _core.optimised:
            raise SystemExit("replicant was built without optimisation: build it with --release.")
        told = [explain(model).reason, explain(model).reason]
        if told[-1] != contender.reason:
            raise SystemExit(f"{contender.name}: the reason is {told[-1]!r}, not {contender.reason!r}")
