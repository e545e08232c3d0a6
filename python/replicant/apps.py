from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class ReplicantConfig(AppConfig):
    name = "replicant"
    verbose_name = "Replicant"

    def ready(self) -> None:
        from replicant import checks, patches
        from replicant.patches import instances, related_managers

        register(checks.check_settings)
        register(checks.check_servers, Tags.database)
        patches.install()
        related_managers.install()
        instances.install()
