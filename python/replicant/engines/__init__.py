"""What differs between database servers. One file per engine, chosen by Django's ``connection.vendor``."""

from __future__ import annotations

from types import ModuleType
from typing import TYPE_CHECKING, Protocol, cast

from replicant.engines import mysql, other, postgresql, sqlite
from replicant.engines.sample import Sample as Sample

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper

_ENGINES: dict[str, ModuleType] = {"mysql": mysql, "postgresql": postgresql, "sqlite": sqlite}


class Engine(Protocol):
    """What the package asks of an engine."""

    def read_only_sql(self, read_only: bool) -> str | None:
        """The one statement that makes a session read-only at the server, or no longer; None where there is none."""

    def refused_as_read_only(self, error: DatabaseError) -> bool:
        """Whether a server refused a statement because the session, or the server, is read-only."""

    def in_transaction(self, connection: BaseDatabaseWrapper) -> bool | None:
        """Whether the driver knows a transaction to be open, without asking the server; None where it cannot say."""

    def prepare_probe(self, connection: BaseDatabaseWrapper, seconds: float) -> None:
        """Change the settings of a connection that is still to be opened, and that only :meth:`probe` will use.

        Neither connecting nor an answer may take much longer than ``seconds``, as far as the driver can see to that.
        """

    def probe(self, connection: BaseDatabaseWrapper) -> Sample:
        """Look at a member: one round trip that any database user may make. Raises ``django.db.DatabaseError``."""

    def socket_of(self, connection: BaseDatabaseWrapper) -> int | None:
        """The file descriptor of an open connection's socket; None where there is none, or the driver hides it."""


def engine_of(connection: BaseDatabaseWrapper) -> Engine:
    """The engine behind a connection; GIS and other derived backends have their base's vendor."""
    return cast(Engine, _ENGINES.get(connection.vendor, other))
