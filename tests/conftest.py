from __future__ import annotations

import contextvars
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import django
import pytest

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
django.setup()

from tests.databases import migrate, sqlite, use_databases  # noqa: E402

ALIASES = ("default", "replica1", "replica2", "other")


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Database files with the tables in them, made once."""
    folder = tmp_path_factory.mktemp("template")
    with use_databases(sqlite(folder, *ALIASES), REPLICANT={}):
        migrate(*ALIASES)
    return folder


@pytest.fixture
def site(template: Path, tmp_path: Path) -> Iterator[Path]:
    """A primary (default), two replicas that never catch up, and a database outside of the cluster (other)."""
    folder = tmp_path / "databases"
    shutil.copytree(template, folder)
    with use_databases(sqlite(folder, *ALIASES)):
        yield folder


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool:
    """Run each test in a context of its own: what one wrote, this thread must not remember in the next."""
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    contextvars.copy_context().run(pyfuncitem.obj, **arguments)
    return True
