"""What is patched must be what it was when the patch was written. See ``replicant.patches``."""

from __future__ import annotations

import inspect
import re
from importlib import import_module, util
from pathlib import Path
from typing import Any

import django
import pytest

import replicant
from replicant.patches import DJANGO, PATCHES, TEST_RUNNER, Patch

#: Packages that a run may lack: the drivers of another one, and those that have a run of their own.
OPTIONAL = {"psycopg", "pymysql", "django_tenants", "polymorphic", "mptt"}


def version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def is_here(patch: Patch) -> bool:
    package = patch.target.partition(".")[0].partition(":")[0]
    if package in OPTIONAL and util.find_spec(package) is None:
        return False
    return not (patch.since and django.VERSION[:2] < version(patch.since)) and not (
        patch.before and django.VERSION[:2] >= version(patch.before)
    )


def method_of(patch: Patch) -> Any:
    """What is patched, as it was before."""
    module, _, path = patch.target.partition(":")
    owner: Any = import_module(module)
    *classes, name = path.split(".")
    for each in classes:
        owner = getattr(owner, each)
    method = inspect.getattr_static(owner, name) if classes else getattr(owner, name)
    return inspect.unwrap(getattr(method, "__func__", method))


@pytest.mark.parametrize("patch", [each for each in PATCHES if is_here(each)], ids=lambda patch: patch.target)
def test_a_patched_method_has_the_parameters_that_the_patch_expects(patch: Patch):
    assert ", ".join(inspect.signature(method_of(patch)).parameters) == patch.parameters


def test_another_signature_is_found():
    changed = DJANGO[0]._replace(parameters="self, timeout")
    assert ", ".join(inspect.signature(method_of(changed)).parameters) != changed.parameters


@pytest.mark.parametrize(
    "patch", [each for each in (*DJANGO, *TEST_RUNNER) if is_here(each)], ids=lambda patch: patch.target
)
def test_the_patch_is_installed(patch: Patch):
    module, _, path = patch.target.partition(":")
    owner: Any = import_module(module)
    for each in path.split("."):
        owner = getattr(owner, each)
    assert getattr(owner, "__func__", owner) is not method_of(patch)
    assert import_module(patch.where)


def test_each_patch_says_what_it_is_for_and_what_would_make_it_unnecessary():
    assert [patch.target for patch in PATCHES if not (patch.purpose and patch.ticket)] == []


def test_the_list_is_complete():
    """Every call that replaces a method of a class is in a module that the list names."""
    listed = {patch.where for patch in PATCHES}
    folder = Path(replicant.__file__).parent
    replacing = re.compile(r"^\s*(wrap|_wrap|self\._wrap_method)\(|type: ignore\[method-assign", re.MULTILINE)
    found = {
        "replicant." + ".".join(file.relative_to(folder).with_suffix("").parts)
        for file in folder.rglob("*.py")
        if replacing.search(file.read_text())
    }
    assert found - {"replicant.patches.wrapping"} <= listed
