"""Any other database: routing works, but the package knows nothing about its sessions."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from django.db import OperationalError

from replicant.engines.capture import UNKNOWN, Captured
from replicant.engines.failure import Failure
from replicant.engines.sample import Sample

if TYPE_CHECKING:
    from django.db import DatabaseError
    from django.db.backends.base.base import BaseDatabaseWrapper

    from replicant._core import Position


def read_only_sql(read_only: bool) -> str | None:
    return None


def refused_as_read_only(error: DatabaseError) -> bool:
    return False


def in_transaction(connection: BaseDatabaseWrapper) -> bool | None:
    return None


def failure(error: BaseException) -> Failure:
    return Failure.NOTHING


def is_gone(error: BaseException) -> bool:
    return False


def kind(connection: BaseDatabaseWrapper) -> None:
    return None


def prepare_capture(connection: BaseDatabaseWrapper) -> None:
    pass


def captured(connection: BaseDatabaseWrapper, *, many: bool = False) -> Captured:
    return UNKNOWN


def changed_nothing(connection: BaseDatabaseWrapper, cursor: Any, sql: str) -> bool:
    return False


def ask_position(connection: BaseDatabaseWrapper) -> None:
    return None


def position(connection: BaseDatabaseWrapper) -> None:
    return None


def wait(connection: BaseDatabaseWrapper, position: Position, seconds: float) -> None:
    return None


# For the monitor


def prepare_probe(connection: BaseDatabaseWrapper, seconds: float) -> None:
    pass


def probe(connection: BaseDatabaseWrapper) -> Sample:
    asked_at = time.monotonic_ns()
    if not connection.is_usable():
        raise OperationalError("no answer")
    return Sample(connection.alias, "", True, None, asked_at, (time.monotonic_ns() - asked_at) / 1e9)


def replicates(connection: BaseDatabaseWrapper) -> bool | None:
    return None


def reported(connection: BaseDatabaseWrapper) -> None:
    return None


def session_values(connection: BaseDatabaseWrapper, names: Sequence[str]) -> dict[str, Any]:
    return {}


def set_session_values(connection: BaseDatabaseWrapper, values: Mapping[str, Any]) -> None:
    pass


def socket_of(connection: BaseDatabaseWrapper) -> int | None:
    return None


# For replicant.backends


def connect(
    connection: BaseDatabaseWrapper,
    connect: Callable[[dict[str, Any]], Any],
    parameters: dict[str, Any],
    seconds: float,
    in_use: Callable[[], int],
) -> Any:
    return connect(parameters)


def drop_pool(pools: dict[str, Any], alias: str) -> None:
    pass


def adopt(connection: BaseDatabaseWrapper) -> None:
    pass


def connection_parameters(parameters: dict[str, Any], database: Any) -> None:
    pass


def init_session(connection: BaseDatabaseWrapper, initialise: Callable[[], None]) -> None:
    initialise()
