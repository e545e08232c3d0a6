"""A primary and its replicas, started together and ended together."""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import Any

from . import watchdog
from .engines import ENGINES_BY_NAME, Engine
from .install import Installation, ensure
from .machine import free_ports, give, temporary_folder
from .node import APPLICATION, APPLICATION_PASSWORD, Node, ServerError

_START_TRIES = 5
_NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")


def start(engine: str, replicas: int = 2) -> Cluster:
    """Bring up a primary and `replicas` replicas on loopback; `engine` is "mysql", "mariadb" or "postgresql".

    Installs the servers first where they are missing and that is allowed (see install.py). Raises
    ServersUnavailable when they are not to be had, ServerError when one does not start, ValueError for an
    unknown engine or a negative number.
    """
    if engine not in ENGINES_BY_NAME:
        raise ValueError(f"unknown engine {engine!r}: one of {', '.join(ENGINES_BY_NAME)}")
    if replicas < 0:
        raise ValueError(f"{replicas} replicas")
    return Cluster(ENGINES_BY_NAME[engine], ensure(engine), replicas)


class Cluster:
    """The servers of one engine; a context manager that ends them. Made by `start()`.

    engine     "mysql", "mariadb" or "postgresql"
    version    the server's, "9.7.4"
    primary    the present primary
    replicas   the present replicas, in the order of their Django aliases
    nodes      every server, whatever its role, in the order they were made
    grants     the statements that made the application's account and gave it its rights so far
    folder     where everything lies; gone after `stop()`

    No server outlives the process that called `start()`: a watchdog of its own ends them, also after a
    SIGKILL.
    """

    def __init__(self, engine: Engine, installation: Installation, replicas: int) -> None:
        self.engine = engine.name
        self.version = installation.version
        self.grants = list(engine.accounts)
        self._engine = engine
        self._owner = os.getpid()
        self._place = 0
        self._template = engine.template(installation)
        self.folder = temporary_folder(engine.name)
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__, str(self.folder), str(self._owner)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
        atexit.register(self.stop)
        self._installation = installation
        self._user = engine.user()
        self._made = 0
        self.nodes = [self._make() for _ in range(replicas + 1)]
        self.primary, self.replicas = self.nodes[0], self.nodes[1:]
        try:
            give(self.folder, self._user)
            self._start()
        except BaseException:
            self.stop()
            raise

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Cluster {self.engine} {self.version} {self.nodes}>"

    def stop(self) -> None:
        """End every server at once (SIGKILL: the data are thrown away) and remove the folder. Idempotent.

        Does nothing in a process forked from the one that started the cluster: they are not the child's to
        end.
        """
        if os.getpid() != self._owner:
            return
        atexit.unregister(self.stop)
        for node in self.nodes:  # one by one: no thread can be started any more when the interpreter ends
            node.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
        self._watchdog.kill()
        self._watchdog.wait()

    # Databases

    def create_database(self, name: str) -> None:
        """Make `name` an empty database, dropping what it was, on the primary and (within 10 s) the replicas.

        The application may do everything in it and in Django's test databases made from it
        (`test_<name>...`), and nothing elsewhere. Raises ValueError unless `name` is lower-case letters,
        digits and underscores, TimeoutError.
        """
        if not _NAME.fullmatch(name):
            raise ValueError(f"not a plain database name: {name!r}")
        for statement in self._engine.database(name):
            self.primary.query(statement)
            if not statement.startswith("DROP") and statement not in self.grants:
                self.grants.append(statement)
        self.wait_until_caught_up()

    def databases(self, name: str) -> dict[str, dict[str, Any]]:
        """Django's DATABASES for the database `name`: "default" is the primary, the replicas mirror it in
        tests.

        Stock engines and the application's account; the roles are those of the moment of the call.
        """
        settings = {"default": self._settings(self.primary, name)}
        for number, replica in enumerate(self.replicas, 1):
            settings[f"replica{number}"] = {**self._settings(replica, name), "TEST": {"MIRROR": "default"}}
        return settings

    def _settings(self, node: Node, name: str) -> dict[str, Any]:
        return {
            "ENGINE": self._engine.django,
            "HOST": node.host,
            "PORT": node.port,
            "USER": APPLICATION,
            "PASSWORD": APPLICATION_PASSWORD,
            "NAME": name,
        }

    def revive(self) -> None:
        """Have every server run again that a test has suspended or ended."""
        for node in self.nodes:
            if node.suspended:
                node.resume()
            if not node.running:
                node.restart()

    # Replication

    def wait_until_caught_up(self, timeout: float = 10.0) -> None:
        """Wait until every replica that runs has applied all that the primary has written so far.

        Raises TimeoutError, naming the replica, after `timeout` seconds in all.
        """
        deadline = time.monotonic() + timeout
        position = self.primary.position()
        for replica in self.replicas:
            if replica.running and not self._reached(replica, position, max(0.0, deadline - time.monotonic())):
                raise TimeoutError(f"{replica.name} has not reached {position} within {timeout:g} s")

    def promote(self, node: Node) -> None:
        """Make the replica `node` the primary and have the other running replicas follow it.

        An old primary that runs and answers refuses the application's writes first and hands over all it has;
        one that is stopped, killed or suspended does not. Either way it is "former" until `rejoin()`. A
        replica that had received more than the new primary is built anew. Raises ValueError if `node` is no
        replica or does not run.
        """
        if node not in self.replicas or not node.running:
            raise ValueError(f"{node!r} is not a running replica")
        old = self.primary
        with contextlib.suppress(OSError):  # it may be hanging or going down: that is why it is replaced
            if old.running and not old.suspended:
                old.fence()
                node.reached(old.position(), 10.0)
        node.become_primary()
        node.role, old.role = "primary", "former"
        self.primary = node
        self._place = self.replicas.index(node)
        self.replicas.remove(node)
        _each(_answering(self.replicas), self._follow_primary)

    def rejoin(self, node: Node) -> None:
        """Make `node`, a former primary (running or not), a read-only replica of the present one.

        It takes the place in `replicas`, and so the alias, of the node promoted last. What it had written
        that the new primary lacks is thrown away by building it anew. Raises ValueError if it is no former
        primary.
        """
        if node.role != "former":
            raise ValueError(f"{node!r} is no former primary")
        if not node.running:
            node.restart()
        node.resume()
        self._follow_primary(node)
        self.replicas.insert(min(self._place, len(self.replicas)), node)

    def _follow_primary(self, node: Node) -> None:
        diverged = node.has_more_than(self.primary)
        node.role = "replica"
        if diverged:
            node.rebuild(self.primary, self._template)
        else:
            node.follow(self.primary)

    @staticmethod
    def _reached(replica: Node, position: str, timeout: float) -> bool:
        with contextlib.suppress(TimeoutError):
            return replica.reached(position, timeout)
        return False

    def _restarted(self, node: Node) -> None:
        """What a server that has come back needs, by its role; called by `Node.restart()`."""
        if node.role == "former":
            node.fence()
        elif node.role == "primary":
            _each(_answering(self.replicas), lambda replica: replica.reconnect())
        elif node.source is not self.primary:  # it was down when another primary was promoted
            self._follow_primary(node)
        else:
            node.wait_until_replicating()

    def add_replica(self) -> Node:
        """Bring up one more replica of the present primary; returns it when it replicates.

        It is the last of `replicas`, until `remove_replica()`.
        """
        node = self._make()
        (node.port,) = free_ports(1)
        node.on_restart = self._restarted
        node.role = "replica"
        node.create(self._template)
        node.rebuild(self.primary, self._template)
        self.nodes.append(node)
        self.replicas.append(node)
        return node

    def remove_replica(self, node: Node) -> None:
        """SIGKILL a replica, and throw it away."""
        node.kill()
        self.nodes.remove(node)
        self.replicas.remove(node)
        shutil.rmtree(node.folder, ignore_errors=True)

    # Starting

    def _make(self) -> Node:
        self._made += 1  # never used again: a replica ignores what a server with its own id once wrote
        return self._engine.node(self._made, self.folder, self._installation, self._user)

    def _start(self) -> None:
        for attempt in range(_START_TRIES):
            try:
                self._start_once()
            except ServerError:
                if attempt == _START_TRIES - 1 or not any(node.port_was_taken() for node in self.nodes):
                    raise
                _each(self.nodes, lambda node: node.kill())
            else:
                return

    def _start_once(self) -> None:
        for node, port in zip(self.nodes, free_ports(len(self.nodes)), strict=True):
            node.port = port
            node.on_restart = self._restarted
        if self.primary.starts_before_replicas:
            self._launch(self.primary)
            self.primary.wait_until_ready()
            _each(self.replicas, self._launch)
        else:
            _each(self.nodes, self._launch)
        _each(self.nodes, lambda node: node.wait_until_ready())
        _each(self.replicas, lambda node: node.follow(self.primary))

    def _launch(self, node: Node) -> None:
        node.create(self._template)
        if node.role == "replica":
            node.prepare_to_follow(self.primary)
        node.launch()


def _answering(nodes: Iterable[Node]) -> list[Node]:
    return [node for node in nodes if node.running and not node.suspended]


def _each(nodes: Iterable[Node], action: Callable[[Node], None]) -> None:
    """Do the same to several servers at once; the first error comes out after all are done."""
    nodes = list(nodes)
    if nodes:
        with ThreadPoolExecutor(len(nodes)) as pool:
            list(pool.map(action, nodes))
