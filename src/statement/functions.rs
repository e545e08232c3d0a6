//! Functions and keywords that may stand before a parenthesis in a read.
//!
//! A function that is not listed may be a user's own, and may write: a query that calls it is not surely a read. So the
//! lists hold only names that the servers themselves have taken (checked against MySQL 9.7, MariaDB 10.11, PostgreSQL 15
//! and SQLite with what Django registers), and of the extensions `PostGIS`'s, `pg_trgm`'s, `hstore`'s and `unaccent`'s, which Django
//! supports. Left out on purpose: sequences, advisory and named locks, `SLEEP`, `LAST_INSERT_ID` (with an argument it
//! sets), large objects, `dblink`, and everything that acts on the server.

use super::Dialect;

/// Whether `name(`, unqualified, neither writes nor calls what might.
pub fn is_harmless(name: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = buffer.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    let known = |list: &[&str]| list.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok();
    let own = match dialect {
        Dialect::MySql => MYSQL,
        Dialect::PostgreSql => POSTGRESQL,
        // What Django itself registers on each connection.
        Dialect::Sqlite if lower.starts_with(b"django_") => return true,
        Dialect::Sqlite => SQLITE,
        Dialect::Other => &[],
    };
    known(KEYWORDS) || known(COMMON) || known(own)
}

/// Whether `name(` is known to change, lock or coordinate something, or (with some arguments) to make the session writable.
pub fn acts(name: &str, dialect: Dialect) -> bool {
    let starts = |prefixes: &[&str]| {
        let name = name.as_bytes();
        prefixes
            .iter()
            .any(|prefix| name.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix.as_bytes())))
    };
    let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    match name.as_bytes().first().map(u8::to_ascii_lowercase) {
        Some(b'g' | b'r' | b'i' | b'l' | b'n' | b's') => {
            known(&[
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
            ]) || (dialect == Dialect::PostgreSql && starts(&["lo_", "loread", "lowrite"]))
        }
        Some(b'p') => starts(&["pg_advisory_", "pg_try_advisory_", "pg_notify", "pg_terminate_", "pg_cancel_"]),
        Some(b'd') => starts(&["dblink"]),
        _ => false,
    }
}

/// Whether `name(` changes nothing, but takes its time.
pub fn only_waits(name: &str, dialect: Dialect) -> bool {
    let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    match dialect {
        Dialect::MySql => known(&["sleep", "benchmark", "wait_for_executed_gtid_set", "master_gtid_wait"]),
        Dialect::PostgreSql => known(&["pg_sleep", "pg_sleep_for", "pg_sleep_until"]),
        _ => false,
    }
}

/// No listed name is longer.
const LONGEST: usize = 32;

/// Words of the language, types and functions with a syntax of their own.
#[rustfmt::skip]
const KEYWORDS: &[&str] = &[
    "against", "all", "and", "any", "array", "as", "between", "bigint", "binary", "bit", "boolean", "by", "bytea",
    "case", "cast", "char", "character", "coalesce", "cross", "current", "date", "datetime", "dec", "decimal",
    "distinct", "div", "double", "else", "escape", "except", "exclude", "exists", "extract", "filter", "float",
    "force", "from", "full", "glob", "greatest", "group", "grouping", "groups", "having", "ignore", "ilike", "in",
    "index", "inner", "int", "integer", "intersect", "interval", "is", "join", "json", "jsonb", "key", "lateral",
    "least", "left", "like", "limit", "match", "materialized", "mod", "natural", "nchar", "not", "nullif", "nulls",
    "numeric", "offset", "on", "only", "or", "order", "outer", "over", "overlay", "partition", "position", "range",
    "real", "recursive", "regexp", "right", "rlike", "row", "rows", "select", "signed", "similar", "smallint", "some",
    "text", "then", "time", "timestamp", "timestamptz", "timetz", "trim", "union", "unnest", "unsigned", "use",
    "using", "uuid", "values", "varbinary", "varchar", "varying", "when", "where", "with", "within", "xor",
];

/// Functions of all three.
#[rustfmt::skip]
const COMMON: &[&str] = &[
    "abs", "acos", "asin", "atan", "atan2", "avg", "ceil", "ceiling", "cos", "cot", "count", "cume_dist", "degrees",
    "dense_rank", "exp", "first_value", "floor", "format", "json_object", "lag", "last_value", "lead", "length", "ln",
    "log", "log10", "lower", "lpad", "ltrim", "max", "min", "nth_value", "ntile", "percent_rank", "pi", "pow",
    "power", "radians", "rank", "repeat", "replace", "reverse", "round", "row_number", "rpad", "rtrim", "sign", "sin",
    "sqrt", "st_area", "st_asbinary", "st_asgeojson", "st_astext", "st_buffer", "st_centroid", "st_contains",
    "st_convexhull", "st_crosses", "st_difference", "st_disjoint", "st_distance", "st_distance_sphere", "st_endpoint",
    "st_envelope", "st_equals", "st_exteriorring", "st_geometryn", "st_geometrytype", "st_geomfromgeojson",
    "st_geomfromtext", "st_geomfromwkb", "st_intersection", "st_intersects", "st_isclosed", "st_isempty", "st_length",
    "st_linefromtext", "st_numgeometries", "st_numinteriorrings", "st_numpoints", "st_overlaps", "st_pointfromtext",
    "st_pointn", "st_polygonfromtext", "st_srid", "st_startpoint", "st_symdifference", "st_touches", "st_union",
    "st_within", "st_x", "st_y", "stddev_pop", "stddev_samp", "substr", "substring", "sum", "tan", "upper", "var_pop",
    "var_samp",
];

/// Functions that both MySQL and MariaDB have.
#[rustfmt::skip]
const MYSQL: &[&str] = &[
    "adddate", "addtime", "ascii", "bit_and", "bit_length", "bit_or", "bit_xor", "char_length", "character_length",
    "concat", "concat_ws", "connection_id", "convert", "convert_tz", "crc32", "curdate", "current_date",
    "current_time", "current_timestamp", "current_user", "curtime", "database", "date_add", "date_format", "date_sub",
    "datediff", "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "elt", "field", "find_in_set", "found_rows",
    "from_base64", "from_days", "from_unixtime", "group_concat", "hex", "host", "hour", "if", "ifnull", "inet6_aton",
    "inet6_ntoa", "inet_aton", "inet_ntoa", "instr", "isnull", "json_array", "json_arrayagg", "json_contains",
    "json_contains_path", "json_depth", "json_extract", "json_insert", "json_keys", "json_length", "json_merge_patch",
    "json_merge_preserve", "json_objectagg", "json_overlaps", "json_quote", "json_remove", "json_replace",
    "json_search", "json_set", "json_type", "json_unquote", "json_valid", "json_value", "last_day", "lcase",
    "localtime", "localtimestamp", "locate", "log2", "makedate", "maketime", "microsecond", "minute", "month",
    "monthname", "now", "octet_length", "ord", "quarter", "quote", "rand", "regexp_instr", "regexp_replace",
    "regexp_substr", "row_count", "schema", "sec_to_time", "second", "session_user", "sha2", "soundex", "space",
    "std", "stddev", "str_to_date", "strcmp", "subdate", "substring_index", "subtime", "time_format", "time_to_sec",
    "timediff", "timestampadd", "timestampdiff", "to_base64", "to_days", "to_seconds", "truncate", "ucase", "unhex",
    "unicode", "unix_timestamp", "user", "utc_date", "utc_time", "utc_timestamp", "variance", "version", "week",
    "weekday", "weekofyear", "year", "yearweek",
];

/// PostgreSQL's, and those of the extensions that Django supports.
#[rustfmt::skip]
const POSTGRESQL: &[&str] = &[
    "age", "akeys", "array_agg", "array_append", "array_cat", "array_dims", "array_length", "array_lower",
    "array_ndims", "array_position", "array_positions", "array_prepend", "array_remove", "array_replace",
    "array_to_json", "array_to_string", "array_upper", "ascii", "avals", "bit_and", "bit_length", "bit_or", "bit_xor",
    "bool_and", "bool_or", "btrim", "cardinality", "cbrt", "char_length", "character_length", "chr",
    "clock_timestamp", "col_description", "concat", "concat_ws", "convert", "corr", "cosh", "covar_pop", "covar_samp",
    "current_database", "current_schema", "current_setting", "current_user", "date_part", "date_trunc", "daterange",
    "decode", "encode", "every", "factorial", "format_type", "gcd", "gen_random_uuid", "generate_series",
    "generate_subscripts", "host", "hstore", "initcap", "int4range", "int8range", "isempty", "isfinite", "json_agg",
    "json_array_elements", "json_array_elements_text", "json_array_length", "json_build_array", "json_build_object",
    "json_each", "json_each_text", "json_extract_path", "json_extract_path_text", "json_object_agg",
    "json_object_keys", "json_typeof", "jsonb_agg", "jsonb_array_elements", "jsonb_array_elements_text",
    "jsonb_array_length", "jsonb_build_array", "jsonb_build_object", "jsonb_each", "jsonb_each_text",
    "jsonb_extract_path", "jsonb_extract_path_text", "jsonb_insert", "jsonb_object_agg", "jsonb_object_keys",
    "jsonb_path_exists", "jsonb_path_match", "jsonb_path_query", "jsonb_path_query_array", "jsonb_path_query_first",
    "jsonb_set", "jsonb_strip_nulls", "jsonb_typeof", "justify_days", "justify_hours", "justify_interval", "lcm",
    "lower_inc", "lower_inf", "make_date", "make_interval", "make_time", "make_timestamp", "make_timestamptz",
    "masklen", "md5", "mode", "network", "now", "num_nonnulls", "num_nulls", "numrange", "obj_description",
    "octet_length", "percentile_cont", "percentile_disc", "pg_backend_pid", "pg_column_size",
    "pg_current_wal_insert_lsn", "pg_current_wal_lsn", "pg_encoding_to_char", "pg_get_constraintdef", "pg_get_expr",
    "pg_get_indexdef", "pg_get_serial_sequence", "pg_get_viewdef", "pg_is_in_recovery", "pg_last_wal_receive_lsn",
    "pg_last_wal_replay_lsn", "pg_relation_size", "pg_table_is_visible", "pg_total_relation_size", "pg_typeof",
    "pg_wal_lsn_diff", "phraseto_tsquery", "plainto_tsquery", "querytree", "quote_ident", "quote_literal", "random",
    "range_agg", "range_merge", "regexp_instr", "regexp_like", "regexp_match", "regexp_matches", "regexp_replace",
    "regexp_split_to_array", "regexp_split_to_table", "regexp_substr", "regr_avgx", "regr_avgy", "regr_count",
    "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "row_to_json", "session_user",
    "set_config", "setweight", "sha224", "sha256", "sha384", "sha512", "similarity", "sinh", "split_part",
    "st_3dextent", "st_asewkb", "st_asewkt", "st_asgml", "st_askml", "st_assvg", "st_azimuth", "st_boundary",
    "st_closestpoint", "st_collect", "st_containsproperly", "st_coveredby", "st_covers", "st_dfullywithin",
    "st_distancesphere", "st_distancespheroid", "st_dwithin", "st_expand", "st_extent", "st_force2d",
    "st_forcepolygoncw", "st_geogfromwkb", "st_geohash", "st_geomfromewkb", "st_geomfromewkt", "st_isvalid",
    "st_length2d", "st_length_spheroid", "st_lengthspheroid", "st_lineinterpolatepoint", "st_linelocatepoint",
    "st_makeline", "st_makepoint", "st_makevalid", "st_memsize", "st_perimeter", "st_perimeter3d", "st_point",
    "st_pointonsurface", "st_relate", "st_reverse", "st_rotate", "st_scale", "st_setsrid", "st_simplify",
    "st_snaptogrid", "st_swapxy", "st_transform", "st_translate", "st_z", "starts_with", "statement_timestamp",
    "stddev", "strict_word_similarity", "string_agg", "string_to_array", "strip", "strpos", "tanh", "timezone",
    "to_char", "to_date", "to_json", "to_jsonb", "to_number", "to_timestamp", "to_tsquery", "to_tsvector",
    "transaction_timestamp", "translate", "trunc", "ts_headline", "ts_rank", "ts_rank_cd", "tsrange", "tstzrange",
    "unaccent", "upper_inc", "upper_inf", "uuid_generate_v4", "variance", "version", "websearch_to_tsquery",
    "width_bucket", "word_similarity",
];

/// SQLite's, and those that Django registers on its connections.
#[rustfmt::skip]
const SQLITE: &[&str] = &[
    "changes", "cosh", "current_date", "current_time", "current_timestamp", "group_concat", "hex", "ifnull", "iif",
    "instr", "isnull", "json_array", "json_array_length", "json_extract", "json_group_array", "json_group_object",
    "json_insert", "json_patch", "json_quote", "json_remove", "json_replace", "json_set", "json_type", "json_valid",
    "julianday", "last_insert_rowid", "likely", "log2", "md5", "printf", "quote", "rand", "random", "sha1", "sha224",
    "sha256", "sha384", "sha512", "sinh", "soundex", "sqlite_version", "st_3dextent", "st_asewkb", "st_asewkt",
    "st_asgml", "st_askml", "st_assvg", "st_azimuth", "st_boundary", "st_closestpoint", "st_collect",
    "st_containsproperly", "st_coveredby", "st_covers", "st_dfullywithin", "st_distancesphere", "st_distancespheroid",
    "st_dwithin", "st_expand", "st_extent", "st_force2d", "st_forcepolygoncw", "st_geogfromwkb", "st_geohash",
    "st_geomfromewkb", "st_geomfromewkt", "st_isvalid", "st_length2d", "st_length_spheroid", "st_lengthspheroid",
    "st_lineinterpolatepoint", "st_linelocatepoint", "st_makeline", "st_makepoint", "st_makevalid", "st_memsize",
    "st_perimeter", "st_perimeter3d", "st_point", "st_pointonsurface", "st_relate", "st_reverse", "st_rotate",
    "st_scale", "st_setsrid", "st_simplify", "st_snaptogrid", "st_swapxy", "st_transform", "st_translate", "st_z",
    "strftime", "tanh", "total", "total_changes", "trunc", "typeof", "unicode", "unixepoch", "unlikely",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_searched() {
        for list in [KEYWORDS, COMMON, MYSQL, POSTGRESQL, SQLITE] {
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
