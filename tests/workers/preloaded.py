"""The same, for a process that reads before it forks its workers."""

from __future__ import annotations

from tests.workers.site import read, wsgi

__all__ = ["wsgi"]

read()
