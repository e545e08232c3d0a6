"""Database engines that add what only a backend can do: `"ENGINE": "replicant.backends.mysql"`.

``mysql`` (also for MariaDB), ``postgresql`` and ``sqlite3`` stand on Django's own engines of these names,
``mysql_gis``, ``postgis`` and ``spatialite`` on those of ``django.contrib.gis``. For any other engine that derives from
one of Django's, put the mixin first::

    class DatabaseWrapper(ReplicantMixin, theirs.DatabaseWrapper): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from django.core.exceptions import ImproperlyConfigured

from replicant import _core
from replicant.engines import engine_of

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper as _Base
else:
    _Base = object


class ReplicantMixin(_Base):
    """Makes one of Django's database wrappers one of ours.

    On MySQL and MariaDB a session with a primary has the server report what it commits, switched on in a statement
    that Django sends anyway, so that what was written is known without asking.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        engine_of(self).adopt(self)

    def get_connection_params(self) -> dict[str, Any]:
        parameters: dict[str, Any] = super().get_connection_params()
        engine_of(self).connection_parameters(parameters, getattr(self, "Database", None))
        return parameters

    def init_connection_state(self) -> None:
        initialise = super().init_connection_state
        if self._is_primary():
            engine_of(self).init_session(self, initialise)
        else:
            initialise()

    def _is_primary(self) -> bool:
        try:
            return _core.role(self.alias) == "primary"
        except ImproperlyConfigured:
            # ``manage.py check`` says so, and must be able to connect.
            return False
