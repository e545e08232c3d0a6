"""Database engines that add what only a backend can do: `"ENGINE": "replicant.backends.mysql"`.

``mysql`` (also for MariaDB), ``postgresql`` and ``sqlite3`` stand on Django's own engines of these names,
``mysql_gis``, ``postgis`` and ``spatialite`` on those of ``django.contrib.gis``. For any other engine that derives from
one of Django's, put the mixin first::

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
    """Makes one of Django's database wrappers one of ours.

    On MySQL and MariaDB a session with a primary has the server report what it commits, switched on in a statement
    that Django sends anyway, so that what was written is known without asking.

    A read of a replica that cannot be reached, or is lost before its first row, goes elsewhere.

    Connects with the server that is behind its alias now, which after a promotion is another one than its settings say.
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
            # Before anything is asked: the answer may never come.
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
            # It was moved meanwhile. The next time it is as good as certain, and else found out when it is used.
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
        # Django comes here in the middle of connecting, too: what has changed by then is looked at when that is done.
        if self.replicant_placement != server_map.number and not connecting.is_connecting(self):
            server_map.follow(self)
        if self.connection is None and self.in_atomic_block and not self.atomic_blocks:
            # A transaction with autocommit off whose connection was closed: Django has left its last block and
            # believes itself in it.
            self.in_atomic_block = False
        super().ensure_connection()

    def close_if_unusable_or_obsolete(self) -> None:
        if self.replicant_placement != server_map.number and not self.in_atomic_block:
            if tracked.session_differs(self):
                # Its end is for the next statement to tell, unless Django would end it here anyway.
                if self.close_at is not None and monotonic() >= self.close_at:
                    self.close()
                return
            # Or Django, about to look whether it is in order, would open another one to a server that may be dead.
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
                # Lost between the end of a transaction and this: what comes next would be taken for part of one.
                with contextlib.suppress(Error):
                    self.close()
            raise

    def _commit(self) -> None:
        # What a former primary would commit would be lost.
        self.replicant_check()
        try:
            super()._commit()  # type: ignore[misc]
        except DatabaseError as error:
            self.replicant_failed(error)
            raise

    def replicant_check(self) -> None:
        """Before something is sent on a session that is open: it must be with the server that is behind the alias.

        Raises ``OperationalError`` if it is not, and that ends a transaction.
        """
        if monotonic() > server_map.valid_until:
            server_map.confirm()
        if self.replicant_placement != server_map.number and not connecting.is_connecting(self):
            server_map.follow(self)

    def replicant_failed(self, error: DatabaseError) -> None:
        """Have the servers looked at if an error says that this may no longer be the primary."""
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
            # ``manage.py check`` says so, and must be able to connect.
            return None
