"""Virtual lag: replicas that are behind, without a real replica."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast

from asgiref.sync import sync_to_async
from django.core.exceptions import ImproperlyConfigured
from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.backends.utils import CursorWrapper
from django.db.transaction import Atomic, get_connection

from replicant import _core, conf, under_test
from replicant.connections import shared_connection, tracker
from replicant.engines import Engine, engine_of
from replicant.monitor import cluster_monitor
from replicant.testing.blocks import Block
from replicant.testing.history import History, StandIn

if TYPE_CHECKING:
    from typing_extensions import Self

#: Makes real replicas lag: takes their aliases, and the arguments ``commits`` and ``seconds`` of ``lag()``.
RealLag = Callable[..., AbstractContextManager[Any]]

_real_lag: RealLag | None = None
#: The histories of the clusters with lagging replicas, by the aliases of their primaries.
_histories: dict[str, History] = {}


@contextmanager
def use_real_lag(delay: RealLag) -> Iterator[None]:
    """Let ``lag()`` make real replicas lag by ``delay(aliases, commits=..., seconds=...)``, a context manager.

    Use it to run the same tests on servers that replicate. Without it, ``lag()`` does not change the lag of real
    replicas.
    """
    global _real_lag
    before, _real_lag = _real_lag, delay
    try:
        yield
    finally:
        _real_lag = before


class lag(Block):
    """Make replicas behave as if they were behind: a context manager, sync and async, and a decorator.

    ``replicas``: their aliases; all replicas if none is given. ``commits``: how many commits of the primary they lack.
    ``seconds``: how many seconds they lag. With neither, they stand still until the end of the block. They begin with
    all data of the primary, and at the end they have all of it again.

    Reads on such a replica show the older rows, in every thread, and the router knows the replica's position: a scope
    that wrote reads from the primary until the replica has the write, and ``replicant.status()`` shows the lag.

    It is meant for replicas without a separate server, as a ``MIRROR`` in tests. It does not change the lag of real
    replicas, except by :func:`use_real_lag`. On MySQL, MariaDB and PostgreSQL the test must commit
    (``TransactionTestCase``, pytest-django's ``transactional_db``): it raises ``RuntimeError`` in a ``TestCase``,
    because no other session ever sees the rows of a ``TestCase``. On SQLite it works in both, and there, too, the
    router judges by commits and not by time.

    Raises ``ValueError`` for a number that is not positive. On entry, raises ``ImproperlyConfigured`` for an alias that
    is not a replica, and ``RuntimeError`` if the replicas of that cluster already lag.
    """

    def __init__(self, *replicas: str, commits: int | None = None, seconds: float | None = None) -> None:
        if commits is not None and seconds is not None:
            raise ValueError("replicas are behind by commits or by seconds, not by both")
        if (commits is not None and commits < 1) or (seconds is not None and seconds <= 0):
            raise ValueError("commits must be at least 1, and seconds must be above 0")
        self._replicas = replicas
        self._commits = commits
        self._seconds = seconds
        self._stack = ExitStack()

    def again(self) -> Self:
        return type(self)(*self._replicas, commits=self._commits, seconds=self._seconds)

    def __enter__(self) -> Self:
        late = _replicas_by_primary(self._replicas)
        real = [alias for primary, aliases in late.items() for alias in aliases if not _is_mirror(alias, primary)]
        with ExitStack() as stack:
            if real and _real_lag is not None:
                stack.enter_context(_real_lag(real, commits=self._commits, seconds=self._seconds))
            for primary, aliases in late.items():
                if mirrors := [alias for alias in aliases if alias not in real]:
                    stack.enter_context(_behind(primary, mirrors, self._commits, self._seconds))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    # Async entry and exit run in the thread with the connections that async code uses.

    async def __aenter__(self) -> Self:
        return await sync_to_async(self.__enter__)()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await sync_to_async(self.__exit__)(kind, error, trace)


def _replicas_by_primary(replicas: tuple[str, ...]) -> dict[str, list[str]]:
    for alias in replicas:
        if _core.role(alias) != "replica":
            raise ImproperlyConfigured(f"{alias!r} is not a replica of any cluster in REPLICANT")
    _core.role("")  # loads the settings if they are not loaded yet
    found: dict[str, list[str]] = {}
    for cluster in conf.in_force():
        if aliases := [alias for alias, _ in cluster.replicas if not replicas or alias in replicas]:
            found[cluster.primary] = aliases
    return found


def _is_mirror(alias: str, primary: str) -> bool:
    """Whether a replica's alias leads to the primary's own database."""
    if shared_connection.is_shared(connections[alias]):
        return True

    def place(name: str) -> list[Any]:
        settings = connections[name].settings_dict
        return [settings.get(key) for key in ("ENGINE", "HOST", "PORT", "NAME")]

    return place(alias) == place(primary)


@contextmanager
def _behind(primary: str, replicas: list[str], commits: int | None, seconds: float | None) -> Iterator[None]:
    if primary in _histories:
        raise RuntimeError(f"the replicas of {primary!r} are already behind: lag() does not nest")
    connection = connections[primary]
    connection.ensure_connection()
    _refuse_in_test_case(connection)
    cluster_monitor.stop()
    members = [alias for cluster in conf.in_force() if cluster.primary == primary for alias, _ in cluster.replicas]
    others = set(members).difference(replicas)
    history = History(connection, replicas, others, commits, seconds)
    try:
        for alias in (primary, *members):
            engine = engine_of(connections[alias])
            under_test.stand_ins[alias] = cast(Engine, StandIn(alias, engine, history))
        _histories[primary] = history
        _install()
        _core.invalidate()
        history.tell(primary=True)
        # The replicas have all earlier writes. The positions of these writes must be reported now: if they were queried
        # later, they would include writes that other code makes in the meantime.
        for asked, asked_at in _core.pending_primaries():
            if asked == primary:
                _core.position_received(primary, history.latest.position, asked_at)
        history.start()
        yield
    finally:
        _histories.pop(primary, None)
        for alias in (primary, *members):
            under_test.stand_ins.pop(alias, None)
        _install()
        history.close()
        _core.invalidate()
        if engine_of(connections[primary]).kind(connections[primary]) is None:
            # These positions will never be reported again, and must not count as an unknown lag. An empty configuration
            # in between makes the core forget them.
            _core.configure([], _core.generation())
            _core.invalidate()


def _refuse_in_test_case(connection: BaseDatabaseWrapper) -> None:
    if connection.vendor != "sqlite" and _is_held(connection):
        raise RuntimeError(
            f"lag() cannot tell apart the commits of a TestCase on {connection.display_name}: its rows are in a "
            "transaction that never commits. Use TransactionTestCase (with pytest-django the fixture transactional_db, "
            "or django_db(transaction=True))."
        )


def _is_held(connection: BaseDatabaseWrapper) -> bool:
    """Whether a test case keeps a transaction open on the connection."""
    return any(getattr(block, "_from_testcase", False) for block in connection.atomic_blocks)


# The patches of Django, and the tracker's observer, that are installed while any replica lags.

_plain_cursor = BaseDatabaseWrapper._cursor  # type: ignore[attr-defined]
_plain_exit = Atomic.__exit__


class _Observer:
    def published(self, connection: BaseDatabaseWrapper) -> None:
        if (history := _histories.get(connection.alias)) is not None:
            history.advance(connection)

    def is_tests_own(self, connection: BaseDatabaseWrapper) -> bool:
        blocks = connection.atomic_blocks
        return bool(blocks) and all(getattr(block, "_from_testcase", False) for block in blocks)


_observer = _Observer()


def _install() -> None:
    under_test.observer = _observer if _histories else None
    BaseDatabaseWrapper._cursor = _cursor if _histories else _plain_cursor  # type: ignore[attr-defined]
    Atomic.__exit__ = _exit if _histories else _plain_exit  # type: ignore[method-assign]


def _cursor(connection: Any, name: str | None = None) -> CursorWrapper:
    """Django's ``BaseDatabaseWrapper._cursor``, which for a lagging replica opens a cursor on its version."""
    for history in list(_histories.values()):
        if connection.alias in history.replicas:
            connection.close_if_health_check_failed()
            connection.ensure_connection()
            tracker.track(connection)
            return cast(CursorWrapper, connection._prepare_cursor(history.shown().snapshot.cursor(name)))
    return cast(CursorWrapper, _plain_cursor(connection, name))


def _exit(self: Atomic, kind: Any, error: Any, trace: Any) -> None:
    """Django's ``Atomic.__exit__``. Inside a test case's transaction, the end of a block counts as a commit for the
    lagging replicas."""
    try:
        _plain_exit(self, kind, error, trace)
    finally:
        connection = get_connection(self.using)
        if _observer.is_tests_own(connection):
            failed = kind is not None or connection.needs_rollback
            tracker.track(connection).left_block(connection, failed=failed)
