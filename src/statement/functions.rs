//! Functions and keywords that may stand before a parenthesis in a read.
//!
//! A function that is not listed may be a user's own, and may write: a query that calls it is not surely a read.
//! The list holds what Django's ORM emits on the supported servers, what its GIS and PostgreSQL modules add, and
//! common built-ins without side effects. Left out on purpose: sequences, advisory and named locks, `SLEEP`,
//! `LAST_INSERT_ID` (with an argument it sets), large objects, `dblink`, and everything that acts on the server.

use super::Dialect;

/// Whether `name(` neither writes nor calls what might.
pub fn is_harmless(name: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = buffer.get_mut(..name.len()) else { return false };
    lower.copy_from_slice(name.as_bytes());
    lower.make_ascii_lowercase();
    // What Django defines itself on each SQLite connection.
    let of_django = dialect == Dialect::Sqlite && lower.starts_with(b"django_");
    of_django || HARMLESS.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok()
}

const LONGEST: usize = 32;

/// Sorted, for the binary search.
#[rustfmt::skip]
const HARMLESS: &[&str] = &[
    "abs", "acos", "adddate", "addtime", "against", "age", "akeys", "all", "and", "any", "any_value", "array",
    "array_agg", "array_append", "array_cat", "array_dims", "array_length", "array_lower", "array_ndims",
    "array_position", "array_positions", "array_prepend", "array_remove", "array_replace", "array_to_json",
    "array_to_string", "array_upper", "as", "ascii", "asin", "atan", "atan2", "avals", "avg", "between",
    "bigint", "bin_to_uuid", "binary", "bit", "bit_and", "bit_length", "bit_or", "bit_xor", "bool_and",
    "bool_or", "boolean", "btrim", "by", "bytea", "cardinality", "case", "cast", "cbrt", "ceil", "ceiling",
    "changes", "char", "char_length", "character", "character_length", "chr", "clock_timestamp", "coalesce",
    "col_description", "concat", "concat_ws", "connection_id", "convert", "convert_tz", "corr", "cos", "cosh",
    "cot", "count", "covar_pop", "covar_samp", "crc32", "cross", "cume_dist", "curdate", "current",
    "current_database", "current_date", "current_schema", "current_setting", "current_time",
    "current_timestamp", "current_user", "curtime", "database", "date", "date_add", "date_format", "date_part",
    "date_sub", "date_trunc", "datediff", "daterange", "datetime", "day", "dayname", "dayofmonth", "dayofweek",
    "dayofyear", "dec", "decimal", "decode", "degrees", "dense_rank", "distinct", "div", "double", "else",
    "elt", "encode", "escape", "every", "except", "exclude", "exists", "exp", "extract", "factorial", "field",
    "filter", "find_in_set", "first_value", "float", "floor", "force", "format", "format_type", "found_rows",
    "from", "from_base64", "from_days", "from_unixtime", "full", "gcd", "gen_random_uuid", "generate_series",
    "generate_subscripts", "glob", "greatest", "group", "group_concat", "grouping", "groups", "gtid_subset",
    "gtid_subtract", "having", "hex", "host", "hour", "hstore", "if", "ifnull", "ignore", "iif", "ilike", "in",
    "index", "inet6_aton", "inet6_ntoa", "inet_aton", "inet_ntoa", "initcap", "inner", "instr", "int",
    "int4range", "int8range", "integer", "intersect", "interval", "is", "isempty", "isfinite", "isnull", "join",
    "json", "json_agg", "json_array", "json_array_elements", "json_array_elements_text", "json_array_length",
    "json_arrayagg", "json_build_array", "json_build_object", "json_compact", "json_contains",
    "json_contains_path", "json_depth", "json_detailed", "json_each", "json_each_text", "json_exists",
    "json_extract", "json_extract_path", "json_extract_path_text", "json_group_array", "json_group_object",
    "json_insert", "json_keys", "json_length", "json_merge_patch", "json_merge_preserve", "json_object",
    "json_object_agg", "json_object_keys", "json_objectagg", "json_overlaps", "json_patch", "json_query",
    "json_quote", "json_remove", "json_replace", "json_search", "json_set", "json_table", "json_tree",
    "json_type", "json_typeof", "json_unquote", "json_valid", "json_value", "jsonb", "jsonb_agg",
    "jsonb_array_elements", "jsonb_array_elements_text", "jsonb_array_length", "jsonb_build_array",
    "jsonb_build_object", "jsonb_each", "jsonb_each_text", "jsonb_extract_path", "jsonb_extract_path_text",
    "jsonb_insert", "jsonb_object_agg", "jsonb_object_keys", "jsonb_path_exists", "jsonb_path_match",
    "jsonb_path_query", "jsonb_path_query_array", "jsonb_path_query_first", "jsonb_set", "jsonb_strip_nulls",
    "jsonb_typeof", "julianday", "justify_days", "justify_hours", "justify_interval", "key", "lag", "last_day",
    "last_insert_rowid", "last_value", "lateral", "lcase", "lcm", "lead", "least", "left", "length", "like",
    "likely", "limit", "ln", "localtime", "localtimestamp", "locate", "log", "log10", "log2", "lower",
    "lower_inc", "lower_inf", "lpad", "ltrim", "make_date", "make_interval", "make_time", "make_timestamp",
    "make_timestamptz", "makedate", "maketime", "masklen", "master_gtid_wait", "match", "materialized", "max",
    "md5", "member", "microsecond", "min", "minute", "mod", "mode", "month", "monthname", "natural", "nchar",
    "network", "not", "now", "nth_value", "ntile", "nullif", "nulls", "num_nonnulls", "num_nulls", "numeric",
    "numrange", "nvl", "obj_description", "octet_length", "offset", "on", "only", "or", "ord", "order", "outer",
    "over", "overlay", "partition", "percent_rank", "percentile_cont", "percentile_disc", "pg_backend_pid",
    "pg_column_size", "pg_current_wal_insert_lsn", "pg_current_wal_lsn", "pg_encoding_to_char",
    "pg_get_constraintdef", "pg_get_expr", "pg_get_indexdef", "pg_get_serial_sequence", "pg_get_viewdef",
    "pg_is_in_recovery", "pg_last_wal_receive_lsn", "pg_last_wal_replay_lsn", "pg_relation_size",
    "pg_table_is_visible", "pg_total_relation_size", "pg_typeof", "pg_wal_lsn_diff", "phraseto_tsquery", "pi",
    "plainto_tsquery", "position", "pow", "power", "printf", "quarter", "querytree", "quote", "quote_ident",
    "quote_literal", "radians", "rand", "random", "range", "range_agg", "range_merge", "rank", "real",
    "recursive", "regexp", "regexp_instr", "regexp_like", "regexp_match", "regexp_matches", "regexp_replace",
    "regexp_split_to_array", "regexp_split_to_table", "regexp_substr", "regr_avgx", "regr_avgy", "regr_count",
    "regr_intercept", "regr_r2", "regr_slope", "regr_sxx", "regr_sxy", "regr_syy", "repeat", "replace",
    "reverse", "right", "rlike", "round", "row", "row_count", "row_number", "row_to_json", "rows", "rpad",
    "rtrim", "schema", "sec_to_time", "second", "select", "session_user", "set_config", "setweight", "sha",
    "sha1", "sha2", "sha224", "sha256", "sha384", "sha512", "sign", "signed", "similar", "similarity", "sin",
    "sinh", "smallint", "some", "soundex", "space", "split_part", "sqlite_version", "sqrt", "st_3dextent",
    "st_area", "st_asbinary", "st_asewkb", "st_asewkt", "st_asgeojson", "st_asgml", "st_askml", "st_assvg",
    "st_astext", "st_azimuth", "st_boundary", "st_buffer", "st_centroid", "st_closestpoint", "st_collect",
    "st_contains", "st_containsproperly", "st_convexhull", "st_coveredby", "st_covers", "st_crosses",
    "st_dfullywithin", "st_difference", "st_disjoint", "st_distance", "st_distance_sphere", "st_distancesphere",
    "st_distancespheroid", "st_dwithin", "st_endpoint", "st_envelope", "st_equals", "st_expand", "st_extent",
    "st_exteriorring", "st_force2d", "st_forcepolygoncw", "st_geogfromwkb", "st_geohash", "st_geometryn",
    "st_geometrytype", "st_geomfromewkb", "st_geomfromewkt", "st_geomfromgeojson", "st_geomfromtext",
    "st_geomfromwkb", "st_intersection", "st_intersects", "st_isclosed", "st_isempty", "st_isvalid",
    "st_length", "st_length2d", "st_length_spheroid", "st_lengthspheroid", "st_linefromtext",
    "st_lineinterpolatepoint", "st_linelocatepoint", "st_makeline", "st_makepoint", "st_makevalid",
    "st_memsize", "st_numgeometries", "st_numinteriorrings", "st_numpoints", "st_overlaps", "st_perimeter",
    "st_perimeter3d", "st_point", "st_pointfromtext", "st_pointn", "st_pointonsurface", "st_polygonfromtext",
    "st_relate", "st_reverse", "st_rotate", "st_scale", "st_setsrid", "st_simplify", "st_snaptogrid", "st_srid",
    "st_startpoint", "st_swapxy", "st_symdifference", "st_touches", "st_transform", "st_translate", "st_union",
    "st_within", "st_x", "st_y", "st_z", "starts_with", "statement_timestamp", "std", "stddev", "stddev_pop",
    "stddev_samp", "str_to_date", "strcmp", "strftime", "strict_word_similarity", "string_agg",
    "string_to_array", "strip", "strpos", "subdate", "substr", "substring", "substring_index", "subtime", "sum",
    "tan", "tanh", "text", "then", "time", "time_format", "time_to_sec", "timediff", "timestamp",
    "timestampadd", "timestampdiff", "timestamptz", "timetz", "timezone", "to_base64", "to_char", "to_date",
    "to_days", "to_json", "to_jsonb", "to_number", "to_seconds", "to_timestamp", "to_tsquery", "to_tsvector",
    "total", "total_changes", "transaction_timestamp", "translate", "trim", "trunc", "truncate", "ts_headline",
    "ts_rank", "ts_rank_cd", "tsrange", "tstzrange", "typeof", "ucase", "unaccent", "unhex", "unicode", "union",
    "unix_timestamp", "unixepoch", "unlikely", "unnest", "unsigned", "upper", "upper_inc", "upper_inf", "use",
    "user", "using", "utc_date", "utc_time", "utc_timestamp", "uuid", "uuid_generate_v4", "uuid_to_bin",
    "values", "var_pop", "var_samp", "varbinary", "varchar", "variance", "varying", "version",
    "wait_for_executed_gtid_set", "websearch_to_tsquery", "week", "weekday", "weekofyear", "when", "where",
    "width_bucket", "with", "within", "word_similarity", "xor", "year", "yearweek",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_can_be_searched() {
        assert!(HARMLESS.is_sorted(), "sorted");
        assert!(HARMLESS.iter().all(|name| name.len() <= LONGEST && *name == name.to_lowercase()));
        assert!(HARMLESS.iter().all(|name| is_harmless(&name.to_uppercase(), Dialect::Other)));
    }

    #[test]
    fn what_acts_is_not_on_it() {
        for name in ["nextval", "setval", "get_lock", "pg_advisory_lock", "sleep", "last_insert_id", "lo_import", "my"]
        {
            assert!(!is_harmless(name, Dialect::PostgreSql), "{name}");
        }
        assert!(is_harmless("django_date_trunc", Dialect::Sqlite));
        assert!(!is_harmless("django_date_trunc", Dialect::PostgreSql));
    }
}
