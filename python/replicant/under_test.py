"""What tests change in the code of production: this is the only entry point.

Django's test runner sets the first one (:mod:`replicant.patches.test_runner`), ``replicant.testing`` the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper


class Observer(Protocol):
    """Watches commits for :mod:`replicant.testing`."""

    def published(self, connection: BaseDatabaseWrapper) -> None:
        """What was written on a connection has become visible to others; its writers do not know yet."""

    def is_tests_own(self, connection: BaseDatabaseWrapper) -> bool:
        """Whether the transaction that is open on a connection is a test case's, and counts as none."""


databases_are_tests = False
"""Whether test databases have taken the place of the real ones. A database that a session is connected to can neither
be dropped nor copied, so that probes need another one."""

stand_ins: dict[str, Any] = {}
"""The engines of the members that ``replicant.testing.lag`` has behind, by alias."""

observer: Observer | None = None
"""Where commits are reported, while a test has replicas behind."""
