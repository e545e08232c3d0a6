"""Installs the built wheel and the source distribution, each in an empty virtual environment, and uses them.

Run by ``make test``: ``python tests/packaging.py``. Builds into a temporary folder. The source distribution is built
by pip as a user would build it, with Cargo's target folder shared so that it need not compile everything anew.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

USE = """
import django
from django.conf import settings
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "replicant"],
    DATABASES={
        "default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
        "replica1": {
            "ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:", "TEST": {"MIRROR": "default"},
        },
    },
    DATABASE_ROUTERS=["replicant.ReplicaRouter"],
    MIDDLEWARE=["replicant.middleware.ReplicaMiddleware"],
    REPLICANT={"default": {"REPLICAS": ["replica1"]}},
)
django.setup()
from django.core.management import call_command
from django.contrib.auth.models import User
from importlib.resources import files
import replicant
call_command("check", fail_level="WARNING")
assert replicant.explain(User).alias == "replica1", replicant.explain(User)
assert replicant._core.optimised
assert files("replicant").joinpath("py.typed").is_file() and files("replicant").joinpath("_core.pyi").is_file()
print("django-replicant", replicant.__version__, "works from", replicant.__file__)
"""


def run(*command: str | Path, **environment: str) -> None:
    subprocess.run([str(part) for part in command], check=True, cwd=ROOT, env={**os.environ, **environment})


def main() -> None:
    maturin = Path(sys.executable).with_name("maturin")
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        run(maturin, "build", "--release", "--locked", "--quiet", "--out", out)
        run(maturin, "sdist", "--out", out)
        for pattern in ("*.whl", "*.tar.gz"):
            (package,) = out.glob(pattern)
            environment = out / package.suffix.strip(".")
            venv.create(environment, with_pip=True)
            python = environment / "bin" / "python"
            run(python, "-m", "pip", "install", "--quiet", package, CARGO_TARGET_DIR=str(ROOT / "target"))
            subprocess.run([str(python), "-X", "dev", "-W", "error", "-c", USE], check=True, cwd=folder)
            print(f"{package.name}: installed and used in an empty environment")


if __name__ == "__main__":
    main()
