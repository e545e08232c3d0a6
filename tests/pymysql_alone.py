"""Has PyMySQL stand in for mysqlclient in every process of this virtual environment; run by ``make DRIVER=pymysql``."""

from __future__ import annotations

import sysconfig
from pathlib import Path

#: Django asks for the version of mysqlclient that it is written for, and takes PyMySQL's answer.
LINE = 'import pymysql; pymysql.version_info = (2, 2, 8, "final", 0); pymysql.install_as_MySQLdb()\n'

if __name__ == "__main__":
    Path(sysconfig.get_path("purelib"), "pymysql_alone.pth").write_text(LINE)
