"""`python -m tests.tenants make` makes the tenants, `... visit HOST...` prints what their pages show."""

from __future__ import annotations

import json
import os
import sys

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.tenants.settings"
django.setup()

from django.core.management import call_command  # noqa: E402
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402

from tests.tenants.shops.models import Domain, Shop  # noqa: E402
from tests.tenants.shops.stock.models import Ware  # noqa: E402


def make() -> None:
    call_command("migrate_schemas", shared=True, verbosity=0)
    for name in ("public", "acme", "globex"):
        shop = Shop.objects.create(schema_name=name, name=name)
        Domain.objects.create(domain=f"{name}.example", tenant=shop, is_primary=True)
        if name != "public":
            connection.set_tenant(shop)
            Ware.objects.create(name=f"of {name}")
            connection.set_schema_to_public()


def visit(hosts: list[str]) -> None:
    answers = [Client().get("/", headers={"host": host}).json() for host in hosts]
    sys.stdout.write(json.dumps(answers))


def check() -> None:
    from django.core.checks import run_checks

    sys.stdout.write(json.dumps([message.id for message in run_checks()]))


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["make"]:
            make()
        case ["check"]:
            check()
        case ["visit", *hosts]:
            visit(hosts)
