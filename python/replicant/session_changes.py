"""Whether a session with a server is still like a fresh one, so that another one can take its place unnoticed.

Variables, locks, temporary tables and prepared statements end with their session. Where one such session was replaced
by another in silence, two processes would hold the same lock, and statements would mean something else.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING, Any

from replicant import _core

if TYPE_CHECKING:
    from django.db.backends.base.base import BaseDatabaseWrapper

#: Where a connection keeps that its session is not as it was when it was opened.
_ATTRIBUTE = "_replicant_customised"

#: What leaves nothing in the session that other statements would miss, whatever it does to data and schema.
_LEAVE_IT_ALONE = frozenset(
    verb
    for line in (
        "SELECT WITH VALUES TABLE INSERT UPDATE DELETE REPLACE MERGE COPY LOAD IMPORT",
        "CREATE ALTER DROP TRUNCATE RENAME COMMENT GRANT REVOKE REASSIGN SECURITY",
        "BEGIN START COMMIT ROLLBACK ABORT END SAVEPOINT RELEASE UNLOCK",
        "SHOW EXPLAIN DESCRIBE DESC NOTIFY FETCH MOVE CLOSE KILL FLUSH PURGE CHECK REPAIR",
        "ANALYZE VACUUM OPTIMIZE CHECKPOINT REFRESH REINDEX CLUSTER",
    )
    for verb in line.split()
)
#: What these do in passing: session-level locks, settings, variables, temporary tables.
_IN_PASSING = re.compile(
    r":=|\bGET_LOCK\s*\(|\bpg_(?:try_)?advisory_lock(?:_shared)?\s*\(|\bset_config\s*\(|\bINTO\s+@"
    r"|\b(?:CREATE|INTO)\s+(?:OR\s+REPLACE\s+)?(?:(?:LOCAL|GLOBAL)\s+)?TEMP(?:ORARY)?\b",
    re.IGNORECASE,
)
#: Settings that end with the transaction, or that are not the session's. Autocommit is the tracker's business.
_NOT_OF_THE_SESSION = re.compile(
    r"\bSET\s+(?:LOCAL|TRANSACTION|CONSTRAINTS|GLOBAL|PERSIST|(?:SESSION\s+|@@(?:SESSION\.)?)?AUTOCOMMIT)\b",
    re.IGNORECASE,
)
#: Longer statements, of which each is different, would only push others out.
_LONGEST_KEPT = 4096


def session_differs(connection: BaseDatabaseWrapper) -> bool:
    """Whether something was executed on the session that another one would lack."""
    return _ATTRIBUTE in connection.__dict__


def begins(connection: BaseDatabaseWrapper) -> None:
    """A session was opened. What is done to every new one is done to the next one, too."""
    connection.__dict__.pop(_ATTRIBUTE, None)


def mark(connection: BaseDatabaseWrapper) -> None:
    """Something was executed that may have left anything in the session."""
    connection.__dict__[_ATTRIBUTE] = True


def note(connection: BaseDatabaseWrapper, sql: Any) -> None:
    """A statement is about to be executed: even if it fails, it may have been carried out."""
    if not isinstance(sql, str) or (_kept if len(sql) <= _LONGEST_KEPT else _changes)(sql, connection.vendor):
        mark(connection)


def _changes(sql: str, vendor: str) -> bool:
    """Whether a statement leaves something in its session. A function of the user's own is taken not to."""
    if ";" in sql.rstrip("; \t\n"):
        # Several statements, of which the verb is that of the first one.
        return True
    verb = _core.verb(sql.lstrip("( \t\n"), vendor)
    if verb == "SET":
        return not _NOT_OF_THE_SESSION.search(sql)
    if verb == "LOCK" and vendor == "postgresql":
        # Until the transaction ends.
        return False
    return verb not in _LEAVE_IT_ALONE or _IN_PASSING.search(sql) is not None


_kept = functools.lru_cache(maxsize=1024)(_changes)
