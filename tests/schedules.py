"""Processes that do what a schedule says, step by step: each follows the servers, and writes when it is told to.

``python -m tests.schedules`` is such a process. It reads commands from its input, a line of JSON each, and answers each
with a line of JSON.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.monitoring import REPOSITORY, environment
from tests.servers import Node
from tests.servers.machine import wait_until

SECONDS = 30.0
FAST = 0.1

#: The steps of a cycle at which a process can be told to stop itself.
STEPS = (
    "before it reads the placement",
    "after it has probed",
    "after it has judged",
    "before it decides",
    "before its decision has a number",
    "after its decision has a number",
    "before its decision is in force",
    "before it publishes samples",
    "after it has published samples",
    "before it passes samples on",
)


class Process:
    """One process of a site."""

    def __init__(self, databases: dict[str, Any], interval: float = FAST, **settings: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.schedules"],
            env=environment(databases, interval, **settings), cwd=REPOSITORY, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.ask("begin")

    def ask(self, command: str, *arguments: Any) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        assert line, "the process has ended"
        return json.loads(line)

    def write(self, name: str) -> str | None:
        """Write a row; the error that it ends with, None if it was acknowledged."""
        error: str | None = self.ask("write", name)
        return error

    def primary(self) -> str:
        """The alias by whose settings this process reaches the primary."""
        alias: str = self.ask("primary")
        return alias

    def follows(self, alias: str) -> None:
        wait_until(lambda: self.primary() == alias, SECONDS, f"the primary is reached as {alias}")

    def cycles(self, count: int = 4) -> None:
        """Wait until the monitor has been through so many whole cycles more."""
        until = self.ask("cycles") + count + 1
        wait_until(lambda: self.ask("cycles") >= until, SECONDS, "the monitor goes on")

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        self.await_stop()

    def stop_at(self, step: str) -> None:
        """Have the process stop itself as soon as its monitor gets there."""
        self.ask("stop_at", step)

    def await_stop(self) -> None:
        stat = Path(f"/proc/{self.process.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", SECONDS, "the process stops")

    def go_on(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """Have it end in an orderly way."""
        self.process.communicate()
        assert self.process.returncode == 0

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            assert pipe is not None
            with suppress(BrokenPipeError):
                pipe.close()


def takes_writes(node: Node) -> None:
    """Have a former primary take writes, as an init system leaves it that knows of no promotion."""
    if "PostgreSQL" in type(node).__name__:
        node.query("ALTER SYSTEM SET default_transaction_read_only = 'off'")
        node.query("SELECT pg_reload_conf()")
        wait_until(lambda: node.value("SHOW default_transaction_read_only") == "off", SECONDS, "it takes writes")
    else:
        node.query("SET GLOBAL read_only = 0")


# In the process


def main() -> None:
    import django

    django.setup()

    from django.db import Error, connections, router, transaction

    from replicant.connections import server_map
    from replicant.monitor import cluster_monitor, watch
    from tests.app.models import Item

    cycles = 0
    whole = watch.Watch._rest

    def rest(watch: Any, until: float) -> None:
        nonlocal cycles
        cycles += 1
        whole(watch, until)

    watch.Watch._rest = rest  # type: ignore[method-assign]

    def begin() -> None:
        router.db_for_read(Item)
        with suppress(Error):
            connections["default"].ensure_connection()
        wait_until(lambda: {"default"} <= server_map._known, SECONDS, "the primary was looked for")

    def write(name: str) -> str | None:
        try:
            Item.objects.create(name=name)
        except Error as error:
            # As at the end of a request.
            connections["default"].close_if_unusable_or_obsolete()
            return f"{type(error).__name__}: {error}"
        return None

    blocks: list[Any] = []

    def open_transaction(name: str) -> None:
        blocks.append(transaction.atomic())
        blocks[-1].__enter__()
        Item.objects.create(name=name)

    def commit() -> str | None:
        try:
            blocks.pop().__exit__(None, None, None)
        except Error as error:
            return f"{type(error).__name__}: {error}"
        return None

    def fork() -> None:
        """Go on in a child, as a worker of a server that has loaded the site before it forks."""
        connections.close_all()
        if child := os.fork():
            os._exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))

    commands: dict[str, Callable[..., Any]] = {
        "begin": begin,
        "write": write,
        "open": open_transaction,
        "commit": commit,
        "fork": fork,
        "primary": lambda: server_map.server_of("default"),
        "probing": cluster_monitor.probing,
        "cycles": lambda: cycles,
        "stop_at": _stop_at,
    }
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        sys.stdout.write(json.dumps(commands[command](*arguments)) + "\n")
        sys.stdout.flush()
    connections.close_all()


def _stop_at(step: str) -> None:
    from replicant.connections import server_map, shared_placement
    from replicant.monitor import watch
    from replicant.monitor.promotion import Judge
    from replicant.monitor.shared_file import Samples

    places: dict[str, tuple[Any, str]] = {
        "before it reads the placement": (server_map, "catch_up"),
        "after it has probed": (watch.Watch, "_probe"),
        "after it has judged": (Judge, "judge"),
        "before it decides": (server_map, "decide"),
        "before its decision has a number": (shared_placement, "_write"),
        "after its decision has a number": (shared_placement, "_write"),
        "before its decision is in force": (server_map, "_put"),
        "before it publishes samples": (Samples, "publish"),
        "after it has published samples": (Samples, "publish"),
        "before it passes samples on": (watch, "consumer"),
    }
    owner, name = places[step]
    whole = getattr(owner, name)

    def stopping(*args: Any, **kwargs: Any) -> Any:
        setattr(owner, name, whole)
        if step.startswith("before"):
            os.kill(os.getpid(), signal.SIGSTOP)
            return whole(*args, **kwargs)
        result = whole(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGSTOP)
        return result

    setattr(owner, name, stopping)


if __name__ == "__main__":
    main()
