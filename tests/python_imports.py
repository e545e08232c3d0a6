"""Which modules of ``python/replicant`` import which: at the top, inside functions, and for type checking."""

from __future__ import annotations

import ast
from pathlib import Path

#: The parts of a module's name below ``replicant``: ``("connections", "tracker")``.
Module = tuple[str, ...]

_PACKAGE = "replicant"


def import_graph(folder: Path) -> dict[Module, set[Module]]:
    """For each module below ``folder``, the modules that it imports. The package itself is the empty tuple."""
    names = {_module(path.relative_to(folder)) for path in folder.rglob("*.py*") if path.suffix in {".py", ".pyi"}}
    return {
        _module(path.relative_to(folder)): _imports(path, _module(path.relative_to(folder)), names)
        for path in folder.rglob("*.py")
    }


def _module(path: Path) -> Module:
    parts = path.with_suffix("").parts
    return parts[:-1] if parts[-1] == "__init__" else parts


def _imports(path: Path, module: Module, names: set[Module]) -> set[Module]:
    found: set[Module] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {_below(alias.name) for alias in node.names if alias.name.split(".")[0] == _PACKAGE}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} has a relative import, which this graph does not follow"
            if (node.module or "").split(".")[0] != _PACKAGE:
                continue
            base = _below(node.module or "")
            # A name that is no module belongs to the module that it is imported from.
            found |= {(*base, alias.name) if (*base, alias.name) in names else base for alias in node.names}
    return found - {module}


def _below(name: str) -> Module:
    return tuple(name.split(".")[1:])
