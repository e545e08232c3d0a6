"""Assertions about the aliases that the statements of a block of code were sent to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING

from django.apps import apps
from django.db import connections

from replicant import _core
from replicant.testing.blocks import Block
from replicant.tracing import CONTROL_VERBS, Query, recording

if TYPE_CHECKING:
    from django.db.models import Model
    from typing_extensions import Self

#: Longer statements are cut in messages.
_SQL_LENGTH = 200


class _Recorded(Block):
    """Collects the statements of a block."""

    def __init__(self) -> None:
        self._queries: list[Query] = []
        self._outer: list[Query] | None = None

    def _check(self) -> None:
        """Raise ``AssertionError`` if the statements are not as expected."""

    @property
    def queries(self) -> list[Query]:
        """The statements sent so far, without those that only begin, end or set up a transaction or a session."""
        return [query for query in self._queries if _verb(query) not in CONTROL_VERBS]

    def __enter__(self) -> Self:
        self._queries = []
        self._outer = recording.get()
        recording.set(self._queries)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Restored with set(), not with a token: an async block may be left in another context than it was entered in.
        recording.set(self._outer)
        if self._outer is not None:
            self._outer.extend(self._queries)
        if kind is None:
            self._check()


class assert_reads(_Recorded):
    """Every read made inside went to ``alias``: a context manager, and a decorator.

    ``alias``: a database alias, or ``"replica"`` for any replica of any cluster. ``count``: the expected number of
    reads; without it, at least one read is expected. ``model``: a model, or its name (``"app_label.Model"``), to check
    only reads of its table.

    The check covers statements that are sent in this thread or task, and in the threads that it waits for. Raises
    ``AssertionError``, with each read that went to another alias and the reason. Also raises it if there were no reads
    at all, because such a test would prove nothing.
    """

    def __init__(self, alias: str, *, count: int | None = None, model: type[Model] | str | None = None) -> None:
        super().__init__()
        self._alias = alias
        self._count = count
        self._model = apps.get_model(model) if isinstance(model, str) else model

    def again(self) -> Self:
        return type(self)(self._alias, count=self._count, model=self._model)

    def _check(self) -> None:
        reads = [query for query in self.queries if _kind(query) == "read" and self._concerns(query)]
        elsewhere = [query for query in reads if not _is_at(query, self._alias)]
        of = f" of {self._model._meta.label}" if self._model else ""
        if elsewhere:
            raise AssertionError(
                f"{len(elsewhere)} of {len(reads)} reads{of} did not go to {self._alias!r}:\n{_listed(elsewhere)}"
            )
        if self._count is not None and len(reads) != self._count:
            raise AssertionError(f"{self._count} reads{of} expected, {len(reads)} made:\n{_listed(reads)}")
        if not reads and self._count is None:
            raise AssertionError(f"No reads{of} were made, so none went to {self._alias!r}.\n{_listed(self.queries)}")

    def _concerns(self, query: Query) -> bool:
        if self._model is None:
            return True
        return connections[query.alias].ops.quote_name(self._model._meta.db_table) in query.sql


class assert_routes(_Recorded):
    """The statements sent inside are these, in this order: a context manager, and a decorator.

    ``routes``: for each statement ``("read", alias)`` or ``("write", alias)``, where ``"replica"`` is any replica of
    any cluster. A statement that changes data or schema, takes locks, or is not surely a read, counts as a write.
    Statements that begin or end a transaction are left out.

    Raises ``AssertionError`` with a list of the statements that were sent, and the reason of each.
    """

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        super().__init__()
        self._routes = [(kind, alias) for kind, alias in routes]
        for kind, _ in self._routes:
            if kind not in ("read", "write"):
                raise ValueError(f"a statement is a 'read' or a 'write', not {kind!r}")

    def again(self) -> Self:
        return type(self)(self._routes)

    def _check(self) -> None:
        sent = self.queries
        matches = len(sent) == len(self._routes) and all(
            _kind(query) == kind and _is_at(query, alias)
            for query, (kind, alias) in zip(sent, self._routes, strict=True)
        )
        if not matches:
            expected = "\n".join(f"  {kind} {alias}" for kind, alias in self._routes) or "  nothing"
            raise AssertionError(f"Expected:\n{expected}\nSent:\n{_listed(sent)}")


class count_queries(_Recorded):
    """Counts the statements sent inside, alias by alias: a context manager.

    ``by_alias["replica1"]`` is the number of statements (0 if there were none); ``queries`` are the statements
    (:class:`replicant.tracing.Query`). Both grow while the block runs, and leave out the statements that begin or end a
    transaction.
    """

    @property
    def by_alias(self) -> Counter[str]:
        return Counter(query.alias for query in self.queries)

    def again(self) -> Self:
        return type(self)()


def _verb(query: Query) -> str:
    return _core.verb(query.sql, connections[query.alias].vendor)


def _kind(query: Query) -> str:
    effects = _core.analyse(query.sql, connections[query.alias].vendor)
    return "write" if effects & (_core.WRITES | _core.LOCKS) else "read"


def _is_at(query: Query, alias: str) -> bool:
    return query.alias == alias or (alias == "replica" and _core.role(query.alias) == "replica")


def _listed(queries: Sequence[Query]) -> str:
    def line(query: Query) -> str:
        sql = " ".join(query.sql.split())
        sql = sql if len(sql) <= _SQL_LENGTH else f"{sql[: _SQL_LENGTH - 3]}..."
        return f"  {_kind(query)} {query.alias} ({query.reason or 'no router was asked'}): {sql}"

    return "\n".join(line(query) for query in queries) or "  nothing"
