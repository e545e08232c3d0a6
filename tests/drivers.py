"""Django's MySQL engine on either of its drivers, in one process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pymysql
import pymysql.converters
import pytest
from django.db.backends.mysql import base
from pymysql.constants import FIELD_TYPE

#: Without mysqlclient, PyMySQL stands in for it in the whole process, as `make DRIVER=pymysql` has it.
DRIVERS = ("PyMySQL",) if base.Database is pymysql else ("mysqlclient", "PyMySQL")


@contextmanager
def mysql_driver(name: str) -> Iterator[None]:
    """Have new connections use the driver `name`: what `pymysql.install_as_MySQLdb()` does for a whole process."""
    with pytest.MonkeyPatch.context() as patch:
        if name == "PyMySQL":
            patch.setattr(base, "Database", pymysql)
            patch.setattr(base.DatabaseWrapper, "Database", pymysql)
            # What Django adds to its driver's conversions.
            time = FIELD_TYPE.TIME
            conversions = {**pymysql.converters.conversions, time: base.django_conversions[time]}
            patch.setattr(base, "django_conversions", conversions)
        yield
