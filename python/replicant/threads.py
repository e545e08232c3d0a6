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
    """Wakes one thread. Unlike ``threading.Event`` it has no lock that a fork or a signal handler could find held."""

    def __init__(self) -> None:
        self._lock = allocate_lock()
        self._lock.acquire()

    def ring(self) -> None:
        """Wake the thread that waits. Any thread may call it; several calls before the next wait count as one."""
        # RuntimeError: an earlier call already released the lock.
        with contextlib.suppress(RuntimeError):
            self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for at most ``seconds``; returns whether :meth:`ring` was called."""
        is_rung: bool = self._lock.acquire(timeout=min(max(0.0, seconds), threading.TIMEOUT_MAX))
        return is_rung


def _native(name: str) -> Any:
    """The unpatched attribute of ``_thread``: under gevent, a driver written in C would stop every greenlet of its
    thread, so that monitor threads must be real ones."""
    import _thread

    patched = sys.modules.get("gevent.monkey")
    return patched.get_original("_thread", name) if patched is not None else getattr(_thread, name)


def allocate_lock() -> Any:
    """A lock that blocks its thread, also under gevent."""
    return _native("allocate_lock")()


def start_thread(run: Callable[[], None], name: str) -> None:
    """Run ``run`` on a daemon thread, which does not keep the process alive; under gevent, on a real thread."""
    # In a new context: a request's scope must not stay alive in the thread.
    context = contextvars.Context()
    if "gevent.monkey" in sys.modules and sys.modules["gevent.monkey"].is_module_patched("threading"):
        _native("start_new_thread")(context.run, (run,))
    else:
        threading.Thread(target=context.run, args=(run,), name=name, daemon=True).start()


def import_driver(engine: str) -> None:
    """Import the modules that a connection attempt imports. The caller must call it before a thread connects.

    An import lock, like any other lock, may be held at a fork. Under gevent, a greenlet and a real thread that import
    the same module at the same time may deadlock.
    """
    backend = load_backend(engine)
    if getattr(getattr(backend, "Database", None), "__name__", "") == "MySQLdb":
        # mysqlclient imports this module at the first connection.
        importlib.import_module("MySQLdb.connections")
