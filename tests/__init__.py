"""The suite. What its processes share lies in a folder of its own, or they would find what other runs have left."""

import atexit
import os
import shutil
import tempfile


def _use_folder_of_its_own() -> None:
    if "REPLICANT_FOLDER" not in os.environ:
        folder, owner = tempfile.mkdtemp(prefix="replicant-tests-"), os.getpid()
        os.environ["REPLICANT_FOLDER"] = folder
        atexit.register(_remove, folder, owner)


def _remove(folder: str, owner: int) -> None:
    # A fork of this process is no reason to remove it.
    if os.getpid() == owner:
        shutil.rmtree(folder, ignore_errors=True)


_use_folder_of_its_own()
