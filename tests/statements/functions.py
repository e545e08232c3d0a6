"""Asks real servers which of their functions only read, and compares the guard's lists with the answers.

``python -m tests.statements.functions [engine ...] [--write]`` prints, for each engine, what the server has and the
lists lack (a newer server adds functions), and what the lists hold although it acts. ``--write`` adds what is lacking
to the lists in ``src/sql/functions/``: review the difference before you commit it.

PostgreSQL's catalog declares each function immutable, stable or volatile. Those that are volatile and only read, and
those that act although they are not volatile, are listed below. The help tables of MySQL and MariaDB name their
functions but do not say what these do. There a name counts only if no user's function of that name can be called, and
those that act are listed below.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Iterable
from pathlib import Path

from tests.servers import Node, QueryError, start

FOLDER = Path(__file__).parents[2] / "src/sql/functions"
#: The constant that holds an engine's functions, and the file that it stands in.
LISTS = {
    "postgresql": [("postgresql.rs", "FUNCTIONS")],
    "mysql": [("mysql.rs", "BOTH"), ("mysql.rs", "MYSQL")],
    "mariadb": [("mysql.rs", "BOTH"), ("mysql.rs", "MARIADB")],
    "sqlite": [("sqlite.rs", "FUNCTIONS")],
}
#: The constants in ``keywords.rs`` that hold an engine's keywords.
KEYWORDS = {
    "postgresql": ["POSTGRESQL"],
    "mysql": ["MYSQL_AND_MARIADB", "MYSQL"],
    "mariadb": ["MYSQL_AND_MARIADB"],
    "sqlite": ["SQLITE"],
}
#: The extensions that Django has operations or fields for, and those that these need.
EXTENSIONS = [
    "bloom",
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "earthdistance",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "ltree",
    "pg_stat_statements",
    "pg_trgm",
    "pgcrypto",
    "postgis",
    "seg",
    "unaccent",
    "uuid-ossp",
]
#: What a catalog declares immutable or stable, and what is not to be called on a replica all the same, with the reason.
EXCLUDED = {
    "txid_current": "assigns a transaction id, which writes",
    "pg_current_xact_id": "assigns a transaction id, which writes",
    "pg_export_snapshot": "coordinates sessions",
    "ts_rewrite": "executes the SQL text that it is given",
    **dict.fromkeys(["crosstab", "crosstab2", "crosstab3", "crosstab4"], "executes the SQL text that it is given"),
    "connectby": "executes the SQL text that it is given",
    "populate_geometry_columns": "creates constraints",
    "st_fromflatgeobuftotable": "creates a table",
    "st_createoverview": "creates a table",
    "pg_stat_statements_reset": "resets statistics",
}
#: What PostgreSQL's catalog declares volatile, and what only looks or draws random numbers: reviewed one by one.
VOLATILE_READS = {
    "clock_timestamp",
    "currval",
    "gen_random_bytes",
    "gen_random_uuid",
    "gen_salt",
    "lastval",
    "pg_blocking_pids",
    "pg_collation_actual_version",
    "pg_control_checkpoint",
    "pg_control_init",
    "pg_control_recovery",
    "pg_control_system",
    "pg_current_logfile",
    "pg_current_wal_flush_lsn",
    "pg_current_wal_insert_lsn",
    "pg_current_wal_lsn",
    "pg_database_collation_actual_version",
    "pg_database_size",
    "pg_get_backend_memory_contexts",
    "pg_get_multixact_members",
    "pg_get_shmem_allocations",
    "pg_get_wal_replay_pause_state",
    "pg_get_wal_resource_managers",
    "pg_indexes_size",
    "pg_is_in_recovery",
    "pg_is_wal_replay_paused",
    "pg_jit_available",
    "pg_last_committed_xact",
    "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn",
    "pg_last_xact_replay_timestamp",
    "pg_lock_status",
    "pg_notification_queue_usage",
    "pg_partition_ancestors",
    "pg_partition_tree",
    "pg_prepared_xact",
    "pg_relation_size",
    "pg_safe_snapshot_blocking_pids",
    "pg_sequence_last_value",
    "pg_show_all_file_settings",
    "pg_stat_get_recovery_prefetch",
    "pg_stat_get_xact_blocks_fetched",
    "pg_stat_get_xact_blocks_hit",
    "pg_stat_get_xact_function_calls",
    "pg_stat_get_xact_function_self_time",
    "pg_stat_get_xact_function_total_time",
    "pg_stat_get_xact_numscans",
    "pg_stat_get_xact_tuples_deleted",
    "pg_stat_get_xact_tuples_fetched",
    "pg_stat_get_xact_tuples_hot_updated",
    "pg_stat_get_xact_tuples_inserted",
    "pg_stat_get_xact_tuples_returned",
    "pg_stat_get_xact_tuples_updated",
    "pg_stat_have_stats",
    "pg_stat_statements",
    "pg_stat_statements_info",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
    "pg_xact_commit_timestamp",
    "pg_xact_commit_timestamp_origin",
    "pg_xact_status",
    "pgp_pub_encrypt",
    "pgp_pub_encrypt_bytea",
    "pgp_sym_encrypt",
    "pgp_sym_encrypt_bytea",
    "random",
    "set_config",
    "set_limit",
    "setseed",
    "st_clusterkmeans",
    "st_generatepoints",
    "st_letters",
    "st_symmetricdifference",
    "timeofday",
    "txid_status",
    "uuid_generate_v1",
    "uuid_generate_v1mc",
    "uuid_generate_v4",
}
#: Names of MySQL's and MariaDB's help that act, wait, or are no functions.
NOT_READS = {
    "get_lock",
    "is_free_lock",
    "is_used_lock",
    "release_lock",
    "release_all_locks",
    "last_insert_id",
    "sleep",
    "benchmark",
    "wait_for_executed_gtid_set",
    "master_gtid_wait",
    "master_pos_wait",
    "source_pos_wait",
    "wsrep_sync_wait_upto_gtid",
    "nextval",
    "setval",
    "load_extension",
    "asc",
    "default",
    "is",
}
_ACTING_PREFIXES = (
    "group_replication_",
    "asynchronous_connection_failover_",
    # Only the server's own views may call these.
    "can_access_",
    "get_dd_",
    "internal_",
    "is_visible_dd_",
)
_NAME = re.compile(r"[a-z_][a-z0-9_]*")


def listed(engine: str) -> set[str]:
    """The harmless functions that the guard knows of an engine."""
    return set().union(*(_read(file, constant) for file, constant in LISTS[engine]))


def _read(file: str, constant: str) -> set[str]:
    return set(re.findall(r'"(\w+)"', _array(file, constant).group(2)))


def _array(file: str, constant: str) -> re.Match[str]:
    text = (FOLDER / file).read_text()
    found = re.search(rf"(pub const {constant}: &\[&str\] = &\[)(.*?)(\n?\];)", text, re.DOTALL)
    assert found is not None, f"{file} has no {constant}"
    return found


def _write(file: str, constant: str, names: Iterable[str]) -> None:
    path = FOLDER / file
    array = _array(file, constant)
    body = textwrap.wrap(
        " ".join(f'"{name}",' for name in sorted(names)), 120, initial_indent="    ", subsequent_indent="    "
    )
    text = path.read_text()
    path.write_text(text[: array.start()] + array.group(1) + "\n" + "\n".join(body) + "\n];" + text[array.end() :])


def reported(engine: str, node: Node) -> tuple[set[str], set[str]]:
    """The functions of a server that only read, and those that do not."""
    return _of_postgresql(node) if engine == "postgresql" else _of_mysql(engine, node)


def _of_postgresql(node: Node) -> tuple[set[str], set[str]]:
    node.query("CREATE DATABASE functions")
    available = {name for (name,) in node.query("SELECT name FROM pg_available_extensions")}
    for extension in EXTENSIONS:
        if extension in available:
            node.query(f'CREATE EXTENSION IF NOT EXISTS "{extension}" CASCADE', "functions")
    # Nothing that SQL cannot call: functions with arguments of the server's own kinds.
    rows = node.query(
        """
        SELECT p.proname, bool_or(p.provolatile = 'v') FROM pg_proc p
        WHERE p.prokind <> 'p' AND p.prorettype NOT IN ('trigger'::regtype, 'event_trigger'::regtype)
            AND NOT p.proargtypes::oid[] && ARRAY['internal'::regtype, 'cstring'::regtype]::oid[]
            AND p.prorettype NOT IN ('internal'::regtype, 'language_handler'::regtype, 'cstring'::regtype)
            AND pronamespace IN ('pg_catalog'::regnamespace, 'public'::regnamespace)
        GROUP BY p.proname
        """,
        "functions",
    )
    reads, acts = set(), set()
    for name, volatile in rows:
        if not _NAME.fullmatch(name) or name.startswith("_"):
            continue
        is_read = (volatile == "f" or name in VOLATILE_READS) and name not in EXCLUDED
        (reads if is_read else acts).add(name)
    return reads, acts


def _of_mysql(engine: str, node: Node) -> tuple[set[str], set[str]]:
    topics = node.query(
        "SELECT DISTINCT t.name FROM mysql.help_topic t JOIN mysql.help_category c USING (help_category_id) "
        "WHERE c.name LIKE '%Function%' OR c.name LIKE '%Operators%' OR c.name LIKE 'MBR%' OR c.name LIKE 'Geom%' "
        "OR c.name LIKE 'WK%' OR c.name LIKE '%Properties%' OR c.name LIKE '%Constructors%' OR c.name LIKE 'GTID'"
    )
    names = {name.lower() for (name,) in topics}
    if engine == "mariadb":
        names |= {name.lower() for (name,) in node.query("SELECT function FROM information_schema.sql_functions")}
    names |= listed(engine)
    # MariaDB has kept the old names of its spatial functions, which its help does not show.
    names |= {name.removeprefix("st_") for name in names} | {"column_create", "column_get", "lastval"}
    names = {name for name in names if _NAME.fullmatch(name)}
    node.query("CREATE DATABASE functions")
    acts = {name for name in names if name in NOT_READS or name.startswith(_ACTING_PREFIXES)}
    return {name for name in names - acts if is_servers_own(node, name)}, acts


#: MariaDB calls a user's function of these names if the number of arguments is not its own function's. The text of a
#: statement shows no overload.
_OVERLOADED = {"geometrycollection", "linestring", "multilinestring", "multipoint", "multipolygon", "point", "polygon"}


def is_servers_own(node: Node, name: str) -> bool:
    """Whether `name(` calls no function of the user's own, however many arguments it gets, on MySQL or MariaDB."""
    if name in _OVERLOADED:
        return True
    arguments = ["", "1", "1, 2", "1, 2, 3", "1, 2, 3, 4"]
    for number, values in enumerate(arguments):
        parameters = ", ".join(f"a{each} INT" for each in range(number))
        node.query(f"DROP FUNCTION IF EXISTS functions.`{name}`")
        node.query(f"CREATE FUNCTION functions.`{name}`({parameters}) RETURNS INT DETERMINISTIC RETURN 7700")
        try:
            if node.query(f"SELECT {name}({values})", "functions") == [("7700",)]:
                return False
        except QueryError:
            # It has other arguments, or is no function in this place.
            pass
    node.query(f"DROP FUNCTION functions.`{name}`")
    return True


def keywords(engine: str) -> set[str]:
    """The words that call nothing before a parenthesis, for an engine."""
    text = (FOLDER.parent / "keywords.rs").read_text()
    found = [re.search(rf"const {constant}: &\[&str\] = &\[(.*?)\];", text, re.DOTALL) for constant in KEYWORDS[engine]]
    return {word for match in found if match is not None for word in re.findall(r'"(\w+)"', match.group(1))}


def compare(engine: str, node: Node) -> tuple[list[str], list[str]]:
    """What an engine's lists lack of a server's functions, and what they hold that its server says is no read."""
    reads, acts = reported(engine, node)
    return sorted(reads - listed(engine) - keywords(engine)), sorted(acts & listed(engine))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("engines", nargs="*", default=["postgresql", "mysql", "mariadb"])
    parser.add_argument("--write", action="store_true", help="add what is lacking to the lists")
    arguments = parser.parse_args()
    for engine in arguments.engines:
        with start(engine, replicas=0) as cluster:
            lacking, wrong = compare(engine, cluster.primary)
            print(f"{engine} {cluster.version}: {len(listed(engine))} functions are listed")
        print(textwrap.indent("\n".join(lacking) or "nothing", "  + "))
        for name in wrong:
            print(f"  ! {name}: listed, but the server says that it acts")
        if arguments.write and lacking:
            file, constant = LISTS[engine][-1]
            _write(file, constant, _read(file, constant) | set(lacking))


if __name__ == "__main__":
    main()
