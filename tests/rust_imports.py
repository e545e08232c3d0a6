"""Which file of the Rust core imports which: a graph built from the paths in ``src/``.

Paths that begin with ``crate::``, ``super::`` or ``self::`` count, in ``use`` and elsewhere in code, and so does a path
through a module that a ``use`` has brought in (``use crate::sql;`` and later ``sql::analyse::analyse``). Tests are left
out: they may use anything. A ``mod`` that only declares a file is no import.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_STRING = re.compile(r'"(?:\\.|[^"\\])*"', re.DOTALL)
_USE = re.compile(r"\buse\s+([^;]+);")
_PATH = re.compile(r"\b(?:crate|super|self)(?:::[A-Za-z_][A-Za-z0-9_]*)+")
_TEST_FILE = re.compile(r"#\[cfg\([^\n]*\btest\b[^\n]*\)\]\s*(?:pub(?:\([a-z]+\))? )?mod (\w+);")
_TEST_MODULE = re.compile(r"#\[cfg\([^\n]*\btest\b[^\n]*\)\]\s*(?:pub(?:\([a-z]+\))? )?mod \w+ \{")
_CHILD = re.compile(r"^\s*(?:pub(?:\([a-z]+\))? )?mod (\w+);", re.MULTILINE)

Module = tuple[str, ...]


def module_of(path: Path, root: Path) -> Module:
    """The path of a file's module: ``("cluster", "view")``, and ``()`` for ``lib.rs``."""
    parts = path.relative_to(root).with_suffix("").parts
    return parts[:-1] if parts[-1] in {"mod", "lib"} else parts


def without_tests(source: str) -> str:
    """The code of a file, without comments, strings and modules of tests."""
    source = _STRING.sub('""', _COMMENT.sub("", source))
    while found := _TEST_MODULE.search(source):
        depth, end = 1, found.end()
        while depth:
            depth += {"{": 1, "}": -1}.get(source[end], 0)
            end += 1
        source = source[: found.start()] + source[end:]
    return source


def leaves(tree: str, prefix: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], str]]:
    """The paths of a ``use``, each with the name by which the file knows it."""
    tree = tree.strip()
    head, brace, rest = tree.partition("{")
    if not brace:
        path, _, name = tree.partition(" as ")
        parts = prefix + tuple(part.strip() for part in path.split("::"))
        if parts[-1] == "self" and len(parts) > 1:
            parts = parts[:-1]
        yield parts, name.strip() or parts[-1]
        return
    prefix += tuple(part.strip() for part in head.split("::") if part.strip())
    depth, begin = 0, 0
    inner = rest[: rest.rindex("}")]
    for at, letter in enumerate(inner + ","):
        depth += {"{": 1, "}": -1}.get(letter, 0)
        if letter == "," and not depth:
            if inner[begin:at].strip():
                yield from leaves(inner[begin:at], prefix)
            begin = at + 1


def import_graph(root: Path) -> dict[Module, set[Module]]:
    """For each module with a file of its own, those that it imports from."""
    sources = {module_of(path, root): path.read_text() for path in sorted(root.rglob("*.rs"))}
    tests = {(*module, name) for module, source in sources.items() for name in _TEST_FILE.findall(source)}
    sources = {
        module: without_tests(source)
        for module, source in sources.items()
        if not any(module[: len(test)] == test for test in tests)
    }

    def resolved(path: tuple[str, ...], here: Module) -> tuple[str, ...] | None:
        if path[0] == "crate":
            return path[1:]
        if path[0] == "self":
            return here + path[1:]
        if path[0] == "super":
            above, rest = here[:-1], path[1:]
            return resolved(("crate", *above, *rest), here) if not rest or rest[0] != "super" else resolved(rest, above)
        return here + path if (*here, path[0]) in sources else None

    graph: dict[Module, set[Module]] = {}
    for module, source in sources.items():
        paths: list[tuple[str, ...]] = []
        names: dict[str, tuple[str, ...]] = {name: (*module, name) for name in _CHILD.findall(source)}
        for tree in _USE.findall(source):
            for path, name in leaves(tree):
                absolute = resolved(path, module)
                if absolute is not None:
                    paths.append(absolute)
                    if absolute in sources:
                        names[name] = absolute
        code = _USE.sub("", source)
        # Within the functions of a nested module, `super` is the file itself.
        paths += [absolute for found in _PATH.findall(code) if (absolute := resolved(tuple(found.split("::")), module))]
        for name, target in names.items():
            paths += [target + tuple(found.split("::")) for found in re.findall(rf"(?<![:\w]){name}::([\w:]+)", code)]
        imported = set()
        for path in paths:
            target = next((path[:end] for end in range(len(path), 0, -1) if path[:end] in sources), ())
            if target and target != module:
                imported.add(target)
        graph[module] = imported
    return graph
