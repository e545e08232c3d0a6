"""The hooks by which tests change the production code: the only entry point for them.

The patched test runner of Django (:mod:`replicant.patches.test_runner`) sets ``databases_are_tests``;
``replicant.testing`` sets the other hooks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


class Observer(Protocol):
    """Watches commits for :mod:`replicant.testing`."""

    def published(self, connection: BaseDatabaseWrapper) -> None:
        """The writes of a connection are now visible to other sessions; the code that wrote has not been told yet."""

    def is_tests_own(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the open transaction of a connection belongs to the test case, so that it does not count."""


databases_are_tests = False
"""Whether test databases have replaced the real ones. A database with a connected session can neither be dropped nor
copied, so that probes must connect to another database."""

stand_ins: dict[str, Any] = {}
"""The engines of the members that lag virtually (``replicant.testing.lag``), by alias."""

observer: Observer | None = None
"""Receives commits while replicas lag virtually in a test."""
