"""Database engines with the features that only a backend can add: `"ENGINE": "replicant.backends.mysql"`.

``mysql`` (also for MariaDB), ``postgresql`` and ``sqlite3`` derive from Django's own engines of these names;
``mysql_gis``, ``postgis`` and ``spatialite`` derive from the engines of ``django.contrib.gis``. For any other engine
that derives from one of Django's, put the mixin first::

    class DatabaseWrapper(ReplicantMixin, theirs.DatabaseWrapper): ...
"""

from __future__ import annotations

import contextlib
from time import monotonic
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, Error

from replicant import _core
from replicant.connections import connecting, reroute, server_map, sockets, tracked
from replicant.connections.followed import FollowedConnection
from replicant.engines import engine_of
from replicant.engines.failure import mark_connecting
from replicant.monitor import cluster_monitor


class ReplicantMixin(FollowedConnection):
    """Adds this package's features to one of Django's database wrappers.

    On MySQL and MariaDB, a session with a primary makes the server report the positions of its commits, so that they
    are known without a query. A statement that Django sends anyway enables the reports.

    A read is rerouted if its replica cannot be reached, or if the connection is lost before the first row.

    A connection attempt goes to the server that is behind the alias now. After a promotion, this server differs from
    the server in the alias's settings.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.replicant_server = self.alias
        self.replicant_placement = 0
        engine_of(self).adopt(self)

    def get_connection_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().get_connection_params()
        engine_of(self).connection_parameters(parameters, getattr(self, "Database", None))
        return parameters

    def get_new_connection(self, conn_params: dict[str, Any]) -> Any:
        connect, seconds = super().get_new_connection, connecting.connect_seconds(self)
        try:
            if seconds is None:
                made = connect(conn_params)
            else:
                made = engine_of(self).connect(self, connect, conn_params, seconds, lambda: len(sockets.of(self.alias)))
        except Exception as error:
            mark_connecting(error)
            raise
        if connecting.is_connecting(self):
            # Registered before the first query, because the answer to that query may never come.
            self.connection = made
            sockets.opened(self)
        return made

    def connect(self) -> None:
        server_map.prepare(self)
        try:
            self._connect()
        except Exception as error:
            connecting.not_connected(self, error)
            self._wake()
            raise
        if not server_map.is_followed(self):
            # Another server came behind the alias during the connection attempt. A second change during the next
            # attempt is very unlikely, and would be noticed when the connection is used.
            self.close()
            engine_of(self).drop_pool(getattr(self, "_connection_pools", {}), self.alias)
            server_map.prepare(self)
            self._connect()

    def _connect(self) -> None:
        with connecting.connecting(self):
            super().connect()

    def close(self) -> None:
        super().close()
        if self.connection is None:
            sockets.closed(self)

    def ensure_connection(self) -> None:
        if monotonic() > server_map.valid_until:
            server_map.confirm()
        # Django also calls this method in the middle of a connection attempt. A change during the attempt is handled at
        # its end.
        if self.replicant_placement != server_map.number and not connecting.is_connecting(self):
            server_map.follow(self)
        if self.connection is None and self.in_atomic_block and not self.atomic_blocks:
            # The connection was closed in a transaction with autocommit off: Django has left the last block, but still
            # has the flag set.
            self.in_atomic_block = False
        super().ensure_connection()

    def close_if_unusable_or_obsolete(self) -> None:
        if self.replicant_placement != server_map.number and not self.in_atomic_block:
            if tracked.session_differs(self):
                # The next statement raises the error about the session, unless Django would close it here anyway.
                if self.close_at is not None and monotonic() >= self.close_at:
                    self.close()
                return
            # Closes the connection first: otherwise Django, which now tests whether the connection is usable, would
            # open another one to a server that may be down.
            with contextlib.suppress(Error):
                server_map.follow(self)
        if self.connection is not None and not self.in_atomic_block and server_map.is_outdated(self):
            self.close()
        super().close_if_unusable_or_obsolete()

    def set_autocommit(self, autocommit: bool, *args: Any, **kwargs: Any) -> None:
        try:
            super().set_autocommit(autocommit, *args, **kwargs)
        except Error:
            if autocommit and not self.in_atomic_block:
                # The connection was lost after the end of a transaction: without close(), the next statements would
                # count as part of a transaction.
                with contextlib.suppress(Error):
                    self.close()
            raise

    def _commit(self) -> None:
        # A commit on a former primary would be lost.
        self.replicant_check()
        try:
            super()._commit()  # type: ignore[misc]
        except DatabaseError as error:
            self.replicant_failed(error)
            raise

    def replicant_check(self) -> None:
        """Check, before a statement is sent on an open session, that the session is with the server behind the alias.

        Raises ``OperationalError`` if it is not and a transaction ends because of that.
        """
        if monotonic() > server_map.valid_until:
            server_map.confirm()
        if self.replicant_placement != server_map.number and not connecting.is_connecting(self):
            server_map.follow(self)

    def replicant_failed(self, error: DatabaseError) -> None:
        """Wake the monitor if an error shows that this server may no longer be the primary."""
        engine = engine_of(self)
        if engine.is_gone(error) or engine.refused_as_read_only(error):
            self._wake()

    def _wake(self) -> None:
        if self._is_primary():
            cluster_monitor.wake()

    def _cursor(self, name: str | None = None) -> Any:
        self._role()
        return reroute.cursor(self, super()._cursor, name)  # type: ignore[misc]

    def init_connection_state(self) -> None:
        initialise = super().init_connection_state
        if self._is_primary():
            engine_of(self).init_session(self, initialise)
        else:
            initialise()

    def _is_primary(self) -> bool:
        return self._role() == "primary"

    def _role(self) -> str | None:
        try:
            return _core.role(self.alias)
        except ImproperlyConfigured:
            # ``manage.py check`` reports the wrong settings, and must be able to connect.
            return None
