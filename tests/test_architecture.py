"""The rooms of the code have an order, and imports point one way."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import python_imports
from tests.rust_imports import Module, import_graph

REPOSITORY = Path(__file__).resolve().parents[1]
ARCHITECTURE = REPOSITORY / "docs/architecture.md"
CORE = REPOSITORY / "src"
PACKAGE = REPOSITORY / "python/replicant"
ROOMS_OF_THE_PACKAGE = "Rooms of the package (`python/replicant/`)"


def order_of_rooms(heading: str) -> list[str]:
    """The rooms that ``docs/architecture.md`` lists under a heading, lowest first.

    They are the names before the colon of each item.
    """
    text = ARCHITECTURE.read_text()
    section = text.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    items = re.findall(r"^\d+\. (.+?):", section, re.MULTILINE)
    return [name for item in items for name in re.findall(r"`([^`]+)`", item)]


def circle_in(graph: dict[Module, set[Module]]) -> list[Module]:
    """Modules of which each imports the next and the last one the first; empty if there are none."""
    done: set[Module] = set()

    def search(path: list[Module]) -> list[Module]:
        for target in sorted(graph.get(path[-1], ())):
            if target in path:
                return path[path.index(target) :]
            if target not in done and (found := search([*path, target])):
                return found
        done.add(path[-1])
        return []

    for module in sorted(graph):
        if module not in done and (found := search([module])):
            return found
    return []


def wrong_edges(graph: dict[Module, set[Module]], order: list[str], root: str = "src", dot: str = "::") -> list[str]:
    """The imports that point from a room to a higher one."""
    rank = {name: place for place, name in enumerate(order)}
    return [
        f"{root}/{'/'.join(module)} imports {dot.join(target)}, which is above it"
        for module, targets in sorted(graph.items())
        for target in sorted(targets)
        if module and target and rank[target[0]] > rank[module[0]]
    ]


def test_every_room_of_the_core_has_a_place_in_the_order():
    rooms = {path.relative_to(CORE).with_suffix("").parts[0] for path in CORE.rglob("*.rs")} - {"lib"}
    order = order_of_rooms("Rooms of the core (`src/`)")
    assert sorted(order) == sorted(rooms)


def test_no_module_of_the_core_imports_itself_through_others():
    circle = circle_in(import_graph(CORE))
    assert not circle, " -> ".join("::".join(module) for module in [*circle, circle[0]])


def test_no_room_of_the_core_imports_from_a_higher_one():
    assert not wrong_edges(import_graph(CORE), order_of_rooms("Rooms of the core (`src/`)"))


def test_the_rooms_of_the_core_know_each_other():
    # An empty graph would pass every check.
    graph = import_graph(CORE)
    assert {("alias",), ("member",)} <= graph["settings",]
    assert ("cluster", "view") in graph["cluster",]
    assert ("consistency", "eligibility") in graph["routing", "resolve"]
    assert ("sql", "lexer") in graph["sql", "replica_guard", "control"]


def test_unsafe_code_is_in_one_room():
    unsafe = re.compile(r"\bunsafe\b(?!_)")
    files = {
        path.relative_to(CORE).parent.as_posix()
        for path in CORE.rglob("*.rs")
        if unsafe.search(re.sub(r"//[^\n]*", "", path.read_text()))
    }
    assert files == {"python/ffi"}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("use crate::routing::decide;", "src/member imports routing::decide, which is above it"),
        ("const X: usize = crate::sql::lexer::X;", "src/member imports sql::lexer, which is above it"),
        ("use super::sql::{self as text, lexer};", "src/member imports sql::lexer, which is above it"),
        ("use crate::sql;\nfn f() { sql::analyse::verb(); }", "src/member imports sql::analyse, which is above it"),
    ],
)
def test_a_planted_import_is_found(tmp_path, line, problem):
    for path in CORE.rglob("*.rs"):
        copy = tmp_path / path.relative_to(CORE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    member = tmp_path / "member.rs"
    member.write_text(member.read_text().replace("\n\n", f"\n\n{line}\n", 1))
    assert problem in wrong_edges(import_graph(tmp_path), order_of_rooms("Rooms of the core (`src/`)"))


def test_a_planted_circle_is_found(tmp_path):
    (tmp_path / "lib.rs").write_text("mod one;\nmod two;\n")
    (tmp_path / "one.rs").write_text("use crate::two::B;\n// use crate::one;\n")
    (tmp_path / "two.rs").write_text("#[cfg(test)]\nmod tests {\n    use crate::one::C;\n}\n")
    assert not circle_in(import_graph(tmp_path))
    (tmp_path / "two.rs").write_text("fn f() -> super::one::A {}\n")
    assert circle_in(import_graph(tmp_path)) == [("one",), ("two",)]


def wrong_imports_of_the_package(folder: Path) -> list[str]:
    return wrong_edges(
        python_imports.import_graph(folder), order_of_rooms(ROOMS_OF_THE_PACKAGE), "python/replicant", "."
    )


def test_every_room_of_the_package_has_a_place_in_the_order():
    modules = {module[0] for module in python_imports.import_graph(PACKAGE) if module}
    assert sorted(order_of_rooms(ROOMS_OF_THE_PACKAGE)) == sorted({*modules, "_core"})


def test_no_module_of_the_package_imports_itself_through_others():
    circle = circle_in(python_imports.import_graph(PACKAGE))
    assert not circle, " -> ".join(".".join(module) for module in [*circle, circle[0]])


def test_no_room_of_the_package_imports_from_a_higher_one():
    assert not wrong_imports_of_the_package(PACKAGE)


def test_the_rooms_of_the_package_know_each_other():
    # An empty graph would pass every check.
    graph = python_imports.import_graph(PACKAGE)
    assert {("_core",), ("conf",), ("connections", "guard")} <= graph["connections", "tracker"]
    # Inside a function, and for type checking.
    assert ("patches",) in graph["wiring",]
    assert ("engines",) in graph["connections", "placement"]


@pytest.mark.parametrize(
    "line",
    [
        "from replicant.monitor import prober",
        "import replicant.monitor.prober",
        "def late():\n    from replicant.monitor.prober import Prober",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from replicant.monitor import prober",
    ],
)
def test_a_planted_import_of_the_package_is_found(tmp_path, line):
    for path in [*PACKAGE.rglob("*.py"), PACKAGE / "_core.pyi"]:
        copy = tmp_path / path.relative_to(PACKAGE)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text())
    with (tmp_path / "errors.py").open("a") as file:
        file.write(f"\n{line}\n")
    assert "python/replicant/errors imports monitor.prober, which is above it" in wrong_imports_of_the_package(tmp_path)
