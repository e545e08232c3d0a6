"""Several interpreters in one process, as mod_wsgi runs one for each site."""

from __future__ import annotations

import subprocess
import sys

import pytest

#: Interpreters that share the GIL, as those of mod_wsgi do; the module's name and the call differ between versions.
SHARED = """
import sys
if sys.version_info >= (3, 13):
    import _interpreters as interpreters
    create = lambda: interpreters.create("legacy")
    def run(interpreter, code):
        failure = interpreters.exec(interpreter, code)
        assert failure is None, failure
else:
    import _xxsubinterpreters as interpreters
    create = lambda: interpreters.create(isolated=False)
    run = interpreters.run_string
"""

#: A site of its own; says to which replica its reads go, or why it cannot be set up.
SITE = """
import sys
sys.path[:] = {path!r}
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "replicant"],
    DATABASES={{
        alias: {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}} for alias in ("default", {replica!r})
    }},
    DATABASE_ROUTERS=["replicant.ReplicaRouter"],
    REPLICANT={{"default": {{"REPLICAS": [{replica!r}], "PROBE_SECONDS": None}}}},
)
try:
    django.setup()
except ImportError as error:
    print("ImportError:", error)
else:
    from django.contrib.auth.models import User
    from django.db import router
    print(router.db_for_read(User))
"""
READ = "print(router.db_for_read(User))"


def said(code: str) -> list[str]:
    """The lines that ``code`` prints in a process of its own."""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300, check=False)
    assert run.returncode == 0, run.stderr
    return run.stdout.splitlines()


def site(replica: str) -> str:
    return SITE.format(path=sys.path, replica=replica)


@pytest.mark.parametrize("ends", [False, True], ids=["while the first lives", "after the first"])
def test_a_second_interpreter_is_refused_and_the_first_goes_on(ends: bool):
    after = "interpreters.destroy(a)" if ends else f"run(a, {READ!r})"
    lines = said(
        f"{SHARED}\na, b = create(), create()\nrun(a, {site('one')!r})\nrun(b, {site('two')!r})\n{after}\n"
        f"c = create()\nrun(c, {site('three')!r})"
    )
    refusals = [line for line in lines if line.startswith("ImportError: replicant serves one interpreter of a process")]
    assert len(refusals) == 2
    assert all("WSGIDaemonProcess" in refusal for refusal in refusals)
    assert [line for line in lines if line not in refusals] == ["one"] * (1 if ends else 2)


def test_the_main_interpreter_keeps_its_site():
    lines = said(f"{SHARED}\n{site('one')}\na = create()\nrun(a, {site('two')!r})\n{READ}")
    assert lines[0] == lines[2] == "one"
    assert lines[1].startswith("ImportError: ")


def test_an_interpreter_may_import_the_module_again():
    again = "import sys, replicant._core\ndel sys.modules['replicant._core']\nimport replicant._core\nprint('again')"
    assert said(f"{site('one')}\n{again}") == ["one", "again"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own came with Python 3.12")
def test_an_interpreter_with_a_gil_of_its_own_is_refused_by_python():
    name = "_interpreters" if sys.version_info >= (3, 13) else "_xxsubinterpreters"
    code = f"import {name} as interpreters\na = interpreters.create()\n"
    run = "interpreters.exec" if sys.version_info >= (3, 13) else "interpreters.run_string"
    # The module alone: in 3.12, other modules that a site imports fail there before.
    attempt = (
        f"import sys\nsys.path[:] = {sys.path!r}\n"
        "try:\n    import replicant._core\nexcept ImportError as error:\n    print('ImportError:', error)"
    )
    lines = said(f"{code}{run}(a, {attempt!r})")
    assert len(lines) == 1
    assert lines[0].startswith("ImportError: module ")
