"""The same as a task, whose process is told by a file: ``done-<number>``."""

from __future__ import annotations

import os

from tests.workers import site
from tests.workers.broker import queue_in

app = queue_in(site.folder)
# Also in the process that forks the workers.
site.read()


@app.task(name="read")
def read(number: int) -> None:
    site.read()
    (site.folder / f"done-{number}").write_text(str(os.getpid()))
