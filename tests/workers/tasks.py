"""The same as a task: its report is a file."""

from __future__ import annotations

import json
import os
from pathlib import Path

from tests.workers import site
from tests.workers.broker import queue_in

folder = Path(os.environ["REPLICANT_TEST_FOLDER"])
app = queue_in(folder)
# Also in the process that forks the workers.
site.read()


@app.task(name="report")
def report(number: int) -> None:
    unfinished = folder / f"unfinished-{number}"
    unfinished.write_text(json.dumps(site.read()))
    unfinished.rename(folder / f"report-{number}.json")
