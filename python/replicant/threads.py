"""Threads and locks that survive a fork, a signal handler and gevent."""

from __future__ import annotations

import contextlib
import contextvars
import importlib
import sys
import threading
from collections.abc import Callable
from typing import Any

from django.db.utils import load_backend


class Wakeup:
    """Wakes one thread. Unlike an event it has no lock that could be held at a fork or in a signal handler."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """May be rung by any thread; rings that nobody waits for count as one."""
        # RuntimeError: it was rung already.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds; returns whether it was rung."""
        is_rung: bool = self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
        return is_rung


def _native(name: str) -> Any:
    """What ``_thread`` really has: under gevent a driver written in C would stop every greenlet of its thread."""
    import _thread

    patched = sys.modules.get("gevent.monkey")
    return patched.get_original("_thread", name) if patched is not None else getattr(_thread, name)


def allocate_lock() -> Any:
    """A lock that blocks its thread, under gevent too."""
    return _native("allocate_lock")()


def start_thread(run: Callable[[], None], name: str) -> None:
    """Run ``run`` on a thread that keeps no process from ending; under gevent, on a real one."""
    # In a context of its own: a request's scope must not live on in it.
    context = contextvars.Context()
    if "gevent.monkey" in sys.modules and sys.modules["gevent.monkey"].is_module_patched("threading"):
        _native("start_new_thread")(context.run, (run,))
    else:
        threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()


def import_driver(engine: str) -> None:
    """Import what connecting will import; to be called before a thread does that.

    Locks of imports are held at a fork like others, and under gevent a greenlet and a real thread that import the same
    module at the same time may wait for each other for ever.
    """
    backend = load_backend(engine)
    if getattr(getattr(backend, "Database", None), "__name__", "") == "MySQLdb":
        # mysqlclient imports it with the first connection.
        importlib.import_module("MySQLdb.connections")
