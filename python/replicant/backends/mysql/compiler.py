"""Django's compilers for MySQL and MariaDB, with a different way to insert a row on MariaDB."""

from __future__ import annotations

from typing import Any

from django.db.backends.mysql import compiler
from django.db.backends.mysql.compiler import SQLAggregateCompiler, SQLCompiler, SQLDeleteCompiler, SQLUpdateCompiler

__all__ = ["SQLAggregateCompiler", "SQLCompiler", "SQLDeleteCompiler", "SQLInsertCompiler", "SQLUpdateCompiler"]


class SQLInsertCompiler(compiler.SQLInsertCompiler):
    """On MariaDB, takes a new row's id from the answer itself, as on MySQL, if no other column is to be returned.

    Django gets the id from MariaDB by INSERT ... RETURNING. The answer to that ends in a result set, and so, in
    autocommit, carries no report of the commit's position.
    """

    def execute_sql(self, returning_fields: Any = None) -> Any:  # type: ignore[override]
        features = self.connection.features
        if not features.can_return_columns_from_insert or not self._needs_its_number_only(returning_fields):
            return super().execute_sql(returning_fields)
        features.can_return_columns_from_insert = False
        try:
            return super().execute_sql(returning_fields)
        finally:
            features.can_return_columns_from_insert = True

    def _needs_its_number_only(self, returning_fields: Any) -> bool:
        opts = self.query.get_meta()
        return (
            self.connection.get_autocommit()
            and len(self.query.objs) == 1
            and getattr(self.query, "on_conflict", None) is None
            and opts.auto_field is not None
            and list(returning_fields or ()) == [opts.auto_field]
        )
