"""The virtual environment of the foreign suites, their sources, and our wheel in it: all below ``target/foreign``."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tarfile
import venv
from pathlib import Path

from tests.foreign.suites import Suite

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "target" / "foreign"
REQUIREMENTS = Path(__file__).with_name("requirements.txt")
#: What a source distribution lacks of its own suite, by the distribution's name.
SUPPORT = Path(__file__).with_name("support")
PYTHON = FOLDER / "venv" / "bin" / "python"


def _pip(*arguments: str | Path) -> None:
    command = [str(PYTHON), "-m", "pip", "--disable-pip-version-check", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=FOLDER)


def prepare() -> None:
    """Make the virtual environment, with the pinned requirements of every suite and our wheel as built now."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes()).hexdigest()
    stamp = FOLDER / "requirements.stamp"
    if not stamp.exists() or stamp.read_text() != wanted:
        venv.create(PYTHON.parents[1], with_pip=True, clear=True)
        _pip("install", "--quiet", "--requirement", REQUIREMENTS)
        stamp.write_text(wanted)
    wheels = FOLDER / "wheel"
    shutil.rmtree(wheels, ignore_errors=True)
    maturin = Path(sys.executable).with_name("maturin")
    build = [str(maturin), "build", "--release", "--locked", "--quiet", "--out", str(wheels)]
    subprocess.run(build, check=True, cwd=ROOT)
    (wheel,) = wheels.glob("*.whl")
    _pip("install", "--quiet", "--no-deps", "--force-reinstall", wheel)


def source(suite: Suite, into: Path) -> Path:
    """Where a suite is run: its source distribution, fetched from the package index once and unpacked in ``into``.

    Each run has its own: the files that one leaves behind would make tests of the next fail.
    """
    fetched = FOLDER / "sdists" / f"{suite.distribution}-{suite.version}"
    if not any(fetched.glob("*.tar.gz")):
        # Not ":all:", which would have pip build the build tools from source too.
        pinned = f"{suite.distribution}=={suite.version}"
        _pip("download", "--quiet", "--no-deps", "--no-binary", suite.distribution, "--dest", fetched, pinned)
    (archive,) = fetched.glob("*.tar.gz")
    with tarfile.open(archive) as files:
        unpacked = into / files.getnames()[0].split("/")[0]
        files.extractall(into, filter="data")
    if (support := SUPPORT / suite.distribution).exists():
        shutil.copytree(support, unpacked, dirs_exist_ok=True)
    return unpacked / suite.folder
