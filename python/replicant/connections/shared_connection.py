"""A mirrored replica in tests: its own alias on the primary's connection.

Django gives a mirror its own connection to the primary's test database. That connection cannot see the rows that a
``TestCase`` has not committed (and never will). Here, the mirror's alias therefore keeps its own query log, wrappers
and guard, while the session with the server, the transaction, and all other state of a connection object are the
primary's.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper as _Base
else:
    _Base = object

#: The attributes that a mirror has itself. All other initial attributes of a connection object are the primary's state.
_OWN = {
    *("settings_dict", "alias", "queries_log", "force_debug_cursor", "execute_wrappers"),
    *("client", "creation", "introspection", "ops", "validation"),
    *("replicant_server", "replicant_placement"),
}
_PRIMARY = "_replicant_primary"
#: The attribute that holds the names of the initial attributes of every connection object of the class.
_STATE = "_replicant_state"
_OWN_WORK = "_replicant_own_work"


def mirrored(connection: _Base, primary: _Base) -> _Base:
    """A connection object that replaces ``connection``: it has the same alias and uses the connection ``primary``."""
    base = type(connection)
    mirror = base(connection.settings_dict, connection.alias)
    mirror.force_debug_cursor = connection.force_debug_cursor
    own = vars(mirror)
    own[_STATE] = frozenset(own)
    for name in own[_STATE] - _OWN:
        del own[name]
    # The features test the server by creating tables, which a replica's guard would refuse.
    own["features"] = primary.features
    own[_PRIMARY] = primary
    mirror.__class__ = _class_of_mirrors(base)
    return mirror


def is_shared(connection: _Base) -> bool:
    """Whether a connection object stands for a replica and uses the primary's connection."""
    return _PRIMARY in vars(connection)


def does_own_work(connection: _Base) -> bool:
    """Whether Django's test cases, not the user, are using a mirror."""
    return _OWN_WORK in vars(connection)


class _Mirror(_Base):
    def _is_shared(self, name: str) -> bool:
        """Whether the primary's attribute is used for an attribute that the mirror does not have.

        Engines add attributes when they connect (``isolation_level``); these are the primary's. Private attributes that
        other packages set on a connection object are about that object: code that checks whether an alias is
        instrumented must not find the primary's mark.
        """
        return not name.startswith("_") or name in vars(self).get(_STATE, ())

    def __getattr__(self, name: str) -> Any:
        if not self._is_shared(name):
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self._replicant_primary, name)

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self) or hasattr(type(self), name) or not self._is_shared(name):
            object.__setattr__(self, name, value)
        else:
            setattr(self._replicant_primary, name, value)

    def __delattr__(self, name: str) -> None:
        if name in vars(self):
            object.__delattr__(self, name)
        else:
            delattr(self._replicant_primary, name)

    def connect(self) -> None:
        primary = self._replicant_primary
        with _permitted(primary):
            primary.connect()

    def close(self) -> None:
        # In an atomic block, closing would end the test's transaction for all aliases.
        if not self.in_atomic_block:
            self._replicant_primary.close()

    def check_constraints(self, table_names: Any = None) -> None:
        vars(self)[_OWN_WORK] = True
        try:
            super().check_constraints(table_names)
        finally:
            del vars(self)[_OWN_WORK]


def _of_primary(name: str) -> property:
    def get(self: _Mirror) -> Any:
        return getattr(self._replicant_primary, name)

    def set(self: _Mirror, value: Any) -> None:
        setattr(self._replicant_primary, name, value)

    return property(get, set)


_classes: dict[type[_Base], type[_Base]] = {}


def _class_of_mirrors(base: type[_Base]) -> type[_Base]:
    if base not in _classes:
        members: dict[str, Any] = {
            "__module__": base.__module__,
            "__qualname__": base.__qualname__,
            # New objects of a mirror's class are not mirrors: copies, and Django's connections to the server's own
            # database.
            "__new__": lambda cls, *args, **kwargs: base(*args, **kwargs),
        }
        # State that begins as an attribute of the class (PostgreSQL numbers a session's named cursors), and cached
        # results of queries (a mirror that queries again would change a count of its queries).
        for name in ("_named_cursor_idx", "mysql_server_data", "pg_version"):
            if hasattr(base, name):
                members[name] = _of_primary(name)
        _classes[base] = type(base.__name__, (_Mirror, base), members)
    return _classes[base]


@contextmanager
def _permitted(connection: _Base) -> Iterator[None]:
    """Permit opening a connection for its mirror, even if the running test lists only the mirror."""
    failure = sys.modules["django.test.testcases"]._DatabaseFailure if "django.test.testcases" in sys.modules else ()
    own = vars(connection)
    forbidden = {name: value for name, value in own.items() if isinstance(value, failure)}
    for name, value in forbidden.items():
        own[name] = value.wrapped
    try:
        yield
    finally:
        own.update(forbidden)
