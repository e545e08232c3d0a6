from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class ReplicantConfig(AppConfig):
    name = "replicant"
    verbose_name = "Replicant"

    def ready(self) -> None:
        from replicant import checks, hooks, instances, related

        register(checks.check_settings)
        register(checks.check_servers, Tags.database)
        hooks.install()
        related.install()
        instances.install()
