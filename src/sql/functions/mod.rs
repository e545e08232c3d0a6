//! Functions that may be called in a read.
//!
//! A function that is not listed may be a user's own, and may write: a query that calls it is not surely a read. So the
//! lists hold only names that the servers themselves have taken, each server for itself: `python -m
//! tests.statements.functions` takes them from MySQL 9.7, `MariaDB` 10.11 and PostgreSQL 15, and prints what a newer
//! server adds. To these come SQLite's with what Django registers, names of later versions from their documentation, and
//! the functions of the extensions that Django supports (`PostGIS`, `SpatiaLite`, `hstore`, `pg_trgm` and others). Left
//! out on purpose: what [`acts`], what [`only_waits`], and what executes SQL text that it is given (`query_to_xml`,
//! `ts_stat`, `crosstab`).

mod mysql;
mod postgresql;
mod sqlite;

use super::dialect::Dialect;

/// Whether `name(`, unqualified, neither writes nor calls what might.
pub fn is_harmless(name: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = lowered(name, &mut buffer) else { return false };
    match dialect {
        Dialect::MySql => has(mysql::BOTH, lower) || has(mysql::MYSQL, lower),
        Dialect::MariaDb => has(mysql::BOTH, lower) || has(mysql::MARIADB, lower),
        Dialect::PostgreSql => has(postgresql::FUNCTIONS, lower),
        // Functions that Django itself registers on each connection. A PRAGMA as a table: only those that change
        // nothing are listed.
        Dialect::Sqlite if lower.starts_with(b"django_") || lower.starts_with(b"pragma_") => true,
        Dialect::Sqlite => has(sqlite::FUNCTIONS, lower),
        Dialect::Other => has(COMMON, lower),
    }
}

/// Whether MySQL or `MariaDB` takes `name (`, with anything between the two, for a user's own function.
pub fn must_be_adjacent(name: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = lowered(name, &mut buffer) else { return false };
    match dialect {
        Dialect::MySql => has(mysql::ADJACENT, lower),
        Dialect::MariaDb => has(mysql::ADJACENT, lower) || has(mysql::ADJACENT_MARIADB, lower),
        _ => false,
    }
}

/// Whether `sys.name(` of MySQL or `MariaDB` only reads.
pub fn is_harmless_in_sys(name: &str) -> bool {
    let mut buffer = [0_u8; LONGEST];
    lowered(name, &mut buffer).is_some_and(|lower| has(mysql::SYS, lower))
}

fn lowered<'a>(name: &str, buffer: &'a mut [u8; LONGEST]) -> Option<&'a [u8]> {
    let lower = buffer.get_mut(..name.len())?;
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    Some(lower)
}

fn has(list: &[&str], lower: &[u8]) -> bool {
    list.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok()
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
        Dialect::MySql | Dialect::MariaDb => &MYSQL,
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
        Dialect::MySql | Dialect::MariaDb => known(&[
            "sleep",
            "benchmark",
            "wait_for_executed_gtid_set",
            "master_gtid_wait",
            "master_pos_wait",
            "source_pos_wait",
            "wsrep_sync_wait_upto_gtid",
        ]),
        Dialect::PostgreSql => known(&["pg_sleep", "pg_sleep_for", "pg_sleep_until"]),
        _ => false,
    }
}

/// No listed name is longer.
const LONGEST: usize = 64;

/// Functions that nearly every server has.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "avg", "ceil", "ceiling", "coalesce", "concat", "concat_ws", "cos", "cot",
    "count", "cume_dist", "degrees", "dense_rank", "exp", "extract", "first_value", "floor", "format", "greatest",
    "json_array", "json_object", "lag", "last_value", "lead", "least", "left", "length", "ln", "log", "log10", "lower",
    "lpad", "ltrim", "max", "md5", "min", "mod", "nth_value", "ntile", "nullif", "octet_length", "percent_rank",
    "percentile_cont", "percentile_disc", "pi", "position", "pow", "power", "radians", "rank", "repeat", "replace",
    "reverse", "right", "round", "row_number", "rpad", "rtrim", "sign", "sin", "soundex", "sqrt", "st_area",
    "st_asbinary", "st_asgeojson", "st_astext", "st_aswkb", "st_aswkt", "st_boundary", "st_buffer", "st_centroid",
    "st_collect", "st_contains", "st_convexhull", "st_crosses", "st_difference", "st_disjoint", "st_distance",
    "st_distance_sphere", "st_endpoint", "st_envelope", "st_equals", "st_exteriorring", "st_geohash", "st_geometryn",
    "st_geometrytype", "st_geomfromgeojson", "st_geomfromtext", "st_geomfromwkb", "st_intersection", "st_intersects",
    "st_isclosed", "st_isempty", "st_isvalid", "st_length", "st_linefromtext", "st_lineinterpolatepoint",
    "st_numgeometries", "st_numinteriorrings", "st_numpoints", "st_overlaps", "st_pointfromtext", "st_pointn",
    "st_pointonsurface", "st_polygonfromtext", "st_relate", "st_simplify", "st_srid", "st_startpoint", "st_swapxy",
    "st_symdifference", "st_touches", "st_transform", "st_union", "st_within", "st_x", "st_y", "stddev_pop",
    "stddev_samp", "substr", "substring", "sum", "tan", "trim", "upper", "var_pop", "var_samp",
];

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECTS: [Dialect; 5] =
        [Dialect::MySql, Dialect::MariaDb, Dialect::PostgreSql, Dialect::Sqlite, Dialect::Other];
    const LISTS: [&[&str]; 9] = [
        COMMON,
        mysql::BOTH,
        mysql::MYSQL,
        mysql::MARIADB,
        mysql::ADJACENT,
        mysql::ADJACENT_MARIADB,
        mysql::SYS,
        postgresql::FUNCTIONS,
        sqlite::FUNCTIONS,
    ];

    #[test]
    fn the_lists_can_be_searched() {
        for list in LISTS {
            assert!(list.is_sorted(), "sorted");
            assert!(list.iter().all(|name| name.len() <= LONGEST && *name == name.to_lowercase()));
        }
        assert!(COMMON.iter().all(|name| is_harmless(&name.to_uppercase(), Dialect::Other)));
    }

    #[test]
    fn what_acts_is_on_none_of_them() {
        for name in ["nextval", "setval", "get_lock", "pg_advisory_lock", "sleep", "last_insert_id", "lo_import", "my"]
        {
            for dialect in DIALECTS {
                assert!(!is_harmless(name, dialect), "{name}");
            }
        }
        for dialect in DIALECTS {
            // The guard checks what set_config sets; pg_replication_origin_oid only looks up a name.
            let exempt = ["set_config", "pg_replication_origin_oid"];
            for name in LISTS.into_iter().flatten().filter(|name| !exempt.contains(name)) {
                assert!(!(acts(name, dialect) && is_harmless(name, dialect)), "{name}");
            }
        }
    }

    #[test]
    fn what_creates_tables_for_spatial_data_is_unknown() {
        for name in [
            "ST_FromFlatGeobufToTable",
            "ST_CreateOverview",
            "AddGeometryColumn",
            "DropGeometryColumn",
            "DropGeometryTable",
            "UpdateGeometrySRID",
            "Populate_Geometry_Columns",
            "AddRasterConstraints",
            "CreateTopology",
            "AddAuth",
            "LockRow",
            "UnlockRows",
            "EnableLongTransactions",
            "postgis_extensions_upgrade",
            "RecoverGeometryColumn",
            "InitSpatialMetaData",
            "CreateSpatialIndex",
            "DiscardGeometryColumn",
            "ImportSHP",
        ] {
            for dialect in DIALECTS {
                assert!(!is_harmless(name, dialect), "{name} {dialect:?}");
            }
        }
    }

    #[test]
    fn one_servers_function_is_a_users_own_on_another() {
        assert!(is_harmless("total", Dialect::Sqlite) && !is_harmless("total", Dialect::PostgreSql));
        assert!(is_harmless("age", Dialect::PostgreSql) && !is_harmless("age", Dialect::MySql));
        assert!(is_harmless("DJANGO_DATE_TRUNC", Dialect::Sqlite) && !is_harmless("django_x", Dialect::PostgreSql));
        assert!(is_harmless("area", Dialect::MariaDb) && !is_harmless("area", Dialect::MySql));
        assert!(is_harmless("any_value", Dialect::MySql) && !is_harmless("any_value", Dialect::MariaDb));
    }
}
