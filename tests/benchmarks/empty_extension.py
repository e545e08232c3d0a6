"""Builds the yardstick in ``empty/`` with cargo, for the running interpreter, once."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

CRATE = Path(__file__).parent / "empty"
TARGET = Path(__file__).parents[2] / "target"
RESULTS = TARGET / "bench"


class CannotBuild(RuntimeError):
    """There is no cargo, or it fails; the message says what to do."""


def build() -> Path:
    """Return the folder to import ``bench_empty`` from."""
    folder = RESULTS / "empty" / str(sysconfig.get_config_var("SOABI"))
    module = folder / f"bench_empty{sysconfig.get_config_var('EXT_SUFFIX')}"
    newest = max(source.stat().st_mtime for source in CRATE.rglob("*") if source.is_file())
    if module.is_file() and module.stat().st_mtime > newest:
        return folder
    cargo = find_cargo()
    target = Path(os.environ.get("CARGO_TARGET_DIR", TARGET)) / "bench-empty"
    built = subprocess.run(
        [cargo, "build", "--release", "--locked", "--quiet", "--target-dir", target],
        cwd=CRATE,
        env={**os.environ, "PYO3_PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    if built.returncode:
        raise CannotBuild(f"cargo could not build {CRATE.name}:\n{built.stderr}")
    folder.mkdir(parents=True, exist_ok=True)
    library = next(path for path in (target / "release").iterdir() if path.suffix in {".so", ".dylib", ".dll"})
    # By name, at once: another process may be importing it.
    fresh = module.with_suffix(f".{os.getpid()}")
    shutil.copyfile(library, fresh)
    fresh.replace(module)
    return folder


def find_cargo() -> str:
    """Where cargo is. Raises CannotBuild if it is nowhere."""
    home = Path(os.environ.get("CARGO_HOME", Path.home() / ".cargo"))
    cargo = shutil.which("cargo") or shutil.which("cargo", path=str(home / "bin"))
    if cargo is None:
        raise CannotBuild("cargo is missing: install Rust with rustup")
    return cargo


def environment() -> dict[str, str]:
    """The environment in which a child process finds ``tests`` and ``bench_empty``; without cargo, the former alone."""
    folders = [str(TARGET.parent)]
    try:
        folders.append(str(build()))
    except CannotBuild as error:
        print(f"The empty PyO3 method is left out: {error}", file=sys.stderr)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return {**kept, "PYTHONPATH": os.pathsep.join(folders), "PYTHONHASHSEED": "0"}
