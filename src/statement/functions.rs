//! Functions and keywords that may stand before a parenthesis in a read.
//!
//! A function that is not listed may be a user's own, and may write: a query that calls it is not surely a read. So the
//! lists hold only names that the servers themselves have taken (asked of MySQL 9.7, MariaDB 10.11, PostgreSQL 15 and
//! SQLite with what Django registers, and from the documentation of later versions), and those of the extensions
//! `PostGIS`, `SpatiaLite`, `pg_trgm`, `hstore`, `unaccent`, `citext`, `pgcrypto` and `uuid-ossp`. Left out on purpose:
//! what [`acts`], what [`only_waits`], and what executes SQL text that it is given (`query_to_xml`, `ts_stat`,
//! `crosstab`).

mod mysql;
mod postgresql;
mod sqlite;

use super::Dialect;

/// Whether `name(`, unqualified, neither writes nor calls what might.
pub fn is_harmless(name: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = buffer.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let known = |list: &[&str]| list.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok();
    let own = match dialect {
        Dialect::MySql => mysql::FUNCTIONS,
        Dialect::PostgreSql => postgresql::FUNCTIONS,
        // What Django itself registers on each connection.
        Dialect::Sqlite if lower.starts_with(b"django_") => return true,
        // A PRAGMA as a table: only those that change nothing are one.
        Dialect::Sqlite if lower.starts_with(b"pragma_") => return true,
        Dialect::Sqlite => sqlite::FUNCTIONS,
        Dialect::Other => &[],
    };
    known(KEYWORDS) || known(COMMON) || known(own)
}

/// Whether `name(` is known to change, lock or coordinate something, or (with some arguments) to make the session
/// writable.
pub fn acts(name: &str, dialect: Dialect) -> bool {
    const NAMES: [&str; 12] = [
        "get_lock",
        "release_lock",
        "release_all_locks",
        "is_free_lock",
        "is_used_lock",
        "last_insert_id",
        "load_extension",
        "nextval",
        "setval",
        "set_config",
        "loread",
        "lowrite",
    ];
    const POSTGRESQL: [&str; 20] = [
        "pg_advisory_",
        "pg_try_advisory_",
        "pg_notify",
        "pg_terminate_",
        "pg_cancel_",
        "pg_promote",
        "pg_reload_",
        "pg_rotate_",
        "pg_switch_",
        "pg_create_",
        "pg_drop_",
        "pg_copy_",
        "pg_logical_",
        "pg_replication_",
        "pg_wal_replay_",
        "pg_stat_reset",
        "pg_export_snapshot",
        "lo_",
        "dblink",
        "binary_upgrade_",
    ];
    const MYSQL: [&str; 2] = ["group_replication_", "asynchronous_connection_failover_"];
    let starts: &[&str] = match dialect {
        Dialect::MySql => &MYSQL,
        Dialect::PostgreSql => &POSTGRESQL,
        _ => &[],
    };
    let begins =
        |start: &&str| name.as_bytes().get(..start.len()).is_some_and(|n| n.eq_ignore_ascii_case(start.as_bytes()));
    NAMES.iter().any(|known| known.eq_ignore_ascii_case(name)) || starts.iter().any(begins)
}

/// Whether `name(` changes nothing, but takes its time.
pub fn only_waits(name: &str, dialect: Dialect) -> bool {
    let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    match dialect {
        Dialect::MySql => known(&[
            "sleep",
            "benchmark",
            "wait_for_executed_gtid_set",
            "master_gtid_wait",
            "master_pos_wait",
            "source_pos_wait",
        ]),
        Dialect::PostgreSql => known(&["pg_sleep", "pg_sleep_for", "pg_sleep_until"]),
        _ => false,
    }
}

/// No listed name is longer.
const LONGEST: usize = 44;

/// Words of the language, types and functions with a syntax of their own.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "against", "all", "and", "any", "array", "as", "asymmetric", "between", "bigint", "binary", "bit", "boolean",
    "both", "bpchar", "by", "bytea", "case", "cast", "char", "character", "clob", "coalesce", "collate", "columns",
    "cross", "cube", "current", "current_date", "current_time", "current_timestamp", "date", "datetime", "dec",
    "decimal", "distinct", "distinctrow", "div", "double", "else", "end", "escape", "except", "exclude", "exists",
    "extract", "filter", "float", "float4", "float8", "for", "force", "from", "full", "glob", "greatest", "group",
    "grouping", "groups", "having", "high_priority", "ignore", "ilike", "in", "index", "inner", "int", "int2", "int4",
    "int8", "integer", "intersect", "interval", "is", "join", "json", "jsonb", "key", "lateral", "leading", "least",
    "left", "like", "limit", "localtime", "localtimestamp", "match", "materialized", "mod", "natural", "nchar", "not",
    "nullif", "nulls", "numeric", "nvarchar", "offset", "on", "only", "or", "order", "outer", "over", "overlay",
    "partition", "placing", "position", "range", "real", "recursive", "regexp", "returning", "right", "rlike", "rollup",
    "row", "rows", "select", "signed", "similar", "smallint", "some", "sql_calc_found_rows", "sql_no_cache",
    "straight_join", "symmetric", "text", "then", "time", "timestamp", "timestamptz", "timetz", "to", "trailing",
    "trim", "union", "unnest", "unsigned", "use", "using", "uuid", "values", "varbinary", "varbit", "varchar",
    "varying", "when", "where", "with", "within", "xor",
];

/// Functions of all three.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "avg", "ceil", "ceiling", "concat", "concat_ws", "cos", "cot", "count",
    "cume_dist", "degrees", "dense_rank", "exp", "first_value", "floor", "format", "json_array", "json_object", "lag",
    "last_value", "lead", "length", "ln", "log", "log10", "lower", "lpad", "ltrim", "max", "md5", "min", "nth_value",
    "ntile", "octet_length", "percent_rank", "percentile_cont", "percentile_disc", "pi", "pow", "power", "radians",
    "rank", "repeat", "replace", "reverse", "round", "row_number", "rpad", "rtrim", "sign", "sin", "soundex", "sqrt",
    "st_area", "st_asbinary", "st_asgeojson", "st_astext", "st_aswkb", "st_aswkt", "st_boundary", "st_buffer",
    "st_centroid", "st_collect", "st_contains", "st_convexhull", "st_crosses", "st_difference", "st_disjoint",
    "st_distance", "st_distance_sphere", "st_endpoint", "st_envelope", "st_equals", "st_exteriorring", "st_geohash",
    "st_geometryn", "st_geometrytype", "st_geomfromgeojson", "st_geomfromtext", "st_geomfromwkb", "st_intersection",
    "st_intersects", "st_isclosed", "st_isempty", "st_isvalid", "st_length", "st_linefromtext",
    "st_lineinterpolatepoint", "st_numgeometries", "st_numinteriorrings", "st_numpoints", "st_overlaps",
    "st_pointfromtext", "st_pointn", "st_pointonsurface", "st_polygonfromtext", "st_relate", "st_simplify", "st_srid",
    "st_startpoint", "st_swapxy", "st_symdifference", "st_touches", "st_transform", "st_union", "st_within", "st_x",
    "st_y", "stddev_pop", "stddev_samp", "substr", "substring", "sum", "tan", "upper", "var_pop", "var_samp",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_searched() {
        for list in [KEYWORDS, COMMON, mysql::FUNCTIONS, postgresql::FUNCTIONS, sqlite::FUNCTIONS] {
            assert!(list.is_sorted(), "sorted");
            assert!(list.iter().all(|name| name.len() <= LONGEST && *name == name.to_lowercase()));
        }
        assert!(KEYWORDS.iter().chain(COMMON).all(|name| is_harmless(&name.to_uppercase(), Dialect::Other)));
    }

    #[test]
    fn what_acts_is_on_none_of_them() {
        for name in ["nextval", "setval", "get_lock", "pg_advisory_lock", "sleep", "last_insert_id", "lo_import", "my"]
        {
            for dialect in [Dialect::MySql, Dialect::PostgreSql, Dialect::Sqlite, Dialect::Other] {
                assert!(!is_harmless(name, dialect), "{name}");
            }
        }
    }

    #[test]
    fn one_servers_function_is_a_users_own_on_another() {
        assert!(is_harmless("total", Dialect::Sqlite) && !is_harmless("total", Dialect::PostgreSql));
        assert!(is_harmless("age", Dialect::PostgreSql) && !is_harmless("age", Dialect::MySql));
        assert!(is_harmless("DJANGO_DATE_TRUNC", Dialect::Sqlite) && !is_harmless("django_x", Dialect::PostgreSql));
    }
}
