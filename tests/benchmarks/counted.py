"""One contender under callgrind: what :mod:`tests.benchmarks.instructions` starts. Prints the labels of its counts."""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from itertools import repeat
from typing import Any

import bench_empty  # type: ignore[import-not-found]

from tests.benchmarks import django_site
from tests.benchmarks.contenders import by_name
from tests.benchmarks.contenders.simple import ConstantRouter
from tests.benchmarks.instructions import CALLS

#: Enough for the interpreter to specialise the loop, and for every cache to fill.
_WARM = 300


def _nothing(count: int) -> None:
    for _ in repeat(None, count):
        pass


def _direct(ask: Callable[[Any], Any], model: Any, count: int) -> None:
    for _ in repeat(None, count):
        ask(model)


def _through(router: Any, model: Any, count: int) -> None:
    for _ in repeat(None, count):
        router.db_for_read(model)


def main() -> None:
    contender = by_name(sys.argv[1])
    with ExitStack() as stack:
        django_site.set_up(contender, stack)
        from django.db import router
        from django.db.utils import ConnectionRouter

        from tests.app import models

        model: Any = getattr(models, contender.model)
        models.Item.objects.using("default").get(pk=1)
        router.db_for_read(model)
        django_site.check(contender, model)
        from replicant import _core

        _core.seed(1)
        empty, constant = bench_empty.EmptyRouter(), ConstantRouter()
        loops: dict[str, Callable[[int], None]] = {
            "nothing": _nothing,
            "empty direct": partial(_copy(_direct), empty.db_for_read, model),
            "constant direct": partial(_copy(_direct), constant.db_for_read, model),
            "direct": partial(_copy(_direct), router.routers[0].db_for_read, model),
            "empty through": partial(_copy(_through), ConnectionRouter([empty]), model),
            "constant through": partial(_copy(_through), ConnectionRouter([constant]), model),
            "through": partial(_copy(_through), router, model),
        }
        gc.disable()
        labels = []
        bench_empty.start_counting()
        for name, loop in loops.items():
            loop(_WARM)
            for times in (1, 2):
                bench_empty.count_instructions(partial(loop, times * CALLS))
                labels.append(f"{name} {times}")
        print(json.dumps(labels))


def _copy(function: Any) -> Any:
    """The same loop with code of its own: the interpreter specialises it for what is called there."""
    return type(function)(function.__code__.replace(), function.__globals__)


if __name__ == "__main__":
    main()
