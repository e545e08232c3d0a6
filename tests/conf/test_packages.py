"""The packages that a check proposes to exempt are what the check says they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from django.apps import AppConfig
from django.conf import settings
from django.core.checks import Warning, run_checks
from django.core.management import call_command
from django.db import connections
from django.test import override_settings

from replicant.conf.primary_only import PACKAGES
from tests.databases import TWO_REPLICAS
from tests.scopes.new_context import elsewhere


def told(**overridden: object) -> dict[str, Warning]:
    with override_settings(**overridden):
        return {each.id: each for each in run_checks() if (each.id or "").startswith("replicant.")}


@pytest.mark.parametrize("module", PACKAGES)
def test_each_label_exists_in_its_package(module: str) -> None:
    """The packages are in the dependency group ``test``, at the versions that are known to have them."""
    if module == "django_celery_beat":
        # There is none for Django 6.1 yet.
        pytest.importorskip(module)
    assert AppConfig.create(module).label == PACKAGES[module].label


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize("module", ["django.contrib.sites", "waffle"])
def test_an_installed_package_is_proposed(module: str) -> None:
    label = PACKAGES[module].label
    installed = [*settings.INSTALLED_APPS, module]
    found = told(INSTALLED_APPS=installed)["replicant.W017"]
    assert found.msg == f"{label!r} may be read from a replica that lags: {PACKAGES[module].why}."
    assert str(found.hint).startswith(f"Add {label!r} to PRIMARY_ONLY")
    exempt = {"default": {**TWO_REPLICAS["default"], "PRIMARY_ONLY": ["sessions", "django_cache", label]}}
    assert "replicant.W017" not in told(INSTALLED_APPS=installed, REPLICANT=exempt)


@pytest.mark.usefixtures("site")
def test_a_package_that_reads_from_the_primary_by_itself_is_not_proposed() -> None:
    installed = [*settings.INSTALLED_APPS, "waffle"]
    assert "or set WAFFLE_READ_FROM_WRITE_DB." in str(told(INSTALLED_APPS=installed)["replicant.W017"].hint)
    assert "replicant.W017" not in told(INSTALLED_APPS=installed, WAFFLE_READ_FROM_WRITE_DB=True)


@pytest.mark.parametrize(("exempt", "domain"), [([], "old.example"), (["sites"], "new.example")])
def test_what_is_proposed_for_the_sites_keeps_the_process_right(site: Path, exempt: list[str], domain: str) -> None:
    """Without it, the process keeps what a replica that lags has answered: that is what the check says."""
    keys = {"PRIMARY_ONLY": ["sessions", "django_cache", *exempt]}
    installed = [*settings.INSTALLED_APPS, "django.contrib.sites"]
    with override_settings(INSTALLED_APPS=installed, SITE_ID=1, REPLICANT={}, DATABASE_ROUTERS=[]):
        from django.contrib.sites.models import SITE_CACHE, Site

        for alias in ("default", "replica1", "replica2"):
            call_command("migrate", "sites", database=alias, verbosity=0)
            Site.objects.using(alias).update_or_create(pk=1, defaults={"domain": "old.example", "name": "site"})
    connections.close_all()
    with override_settings(
        INSTALLED_APPS=installed, SITE_ID=1, REPLICANT={"default": {**TWO_REPLICAS["default"], **keys}}
    ):
        changed = Site.objects.using("default").get(pk=1)
        changed.domain = "new.example"
        elsewhere(changed.save)
        SITE_CACHE.clear()
        assert elsewhere(lambda: Site.objects.get_current().domain) == domain
        assert elsewhere(lambda: Site.objects.get_current().domain) == domain
    SITE_CACHE.clear()
