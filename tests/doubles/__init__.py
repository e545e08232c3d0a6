"""STANDS IN for ``replicant.causality`` until that module is there: to be removed when it is."""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec
from importlib.util import spec_from_file_location
from pathlib import Path


class _Finder:
    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        if name == "replicant.causality":
            return spec_from_file_location(name, Path(__file__).parent / "causality.py")
        return None


def install() -> None:
    """Before anything of ``replicant`` is imported. The module itself, once it is there, is found first."""
    sys.meta_path.append(_Finder)
