//! MySQL's and `MariaDB`'s harmless functions. What one of the two calls native is a user's own function on the other.

/// Native on both.
#[rustfmt::skip]
pub const BOTH: &[&str] = &[
    "abs", "acos", "adddate", "addtime", "aes_decrypt", "aes_encrypt", "ascii", "asin", "atan", "atan2", "avg", "bin",
    "bit_and", "bit_count", "bit_length", "bit_or", "bit_xor", "cast", "ceil", "ceiling", "char", "char_length",
    "character", "character_length", "charset", "coalesce", "coercibility", "collation", "compress", "concat",
    "concat_ws", "connection_id", "contains", "conv", "convert", "convert_tz", "cos", "cot", "count", "crc32",
    "cume_dist", "curdate", "current_role", "current_user", "curtime", "database", "date", "date_add", "date_format",
    "date_sub", "datediff", "day", "dayname", "dayofmonth", "dayofweek", "dayofyear", "degrees", "dense_rank", "elt",
    "exp", "export_set", "extract", "extractvalue", "field", "find_in_set", "first_value", "floor", "format",
    "format_pico_time", "found_rows", "from_base64", "from_days", "from_unixtime", "geometrycollection", "get_format",
    "greatest", "group_concat", "hex", "host", "hour", "if", "ifnull", "inet6_aton", "inet6_ntoa", "inet_aton",
    "inet_ntoa", "insert", "instr", "interval", "is_ipv4", "is_ipv4_compat", "is_ipv4_mapped", "is_ipv6", "isnull",
    "json_array", "json_array_append", "json_array_insert", "json_arrayagg", "json_contains", "json_contains_path",
    "json_depth", "json_extract", "json_insert", "json_keys", "json_length", "json_merge", "json_merge_patch",
    "json_merge_preserve", "json_object", "json_objectagg", "json_overlaps", "json_pretty", "json_quote", "json_remove",
    "json_replace", "json_schema_valid", "json_search", "json_set", "json_type", "json_unquote", "json_valid",
    "json_value", "lag", "last_day", "last_value", "lcase", "lead", "least", "left", "length", "linestring", "ln",
    "load_file", "locate", "log", "log10", "log2", "lower", "lpad", "ltrim", "make_set", "makedate", "maketime", "max",
    "mbrcontains", "mbrdisjoint", "mbrequals", "mbrintersects", "mbroverlaps", "mbrtouches", "mbrwithin", "microsecond",
    "mid", "min", "minute", "mod", "month", "monthname", "multilinestring", "multipoint", "multipolygon", "name_const",
    "now", "nth_value", "ntile", "nullif", "oct", "octet_length", "ord", "password", "percent_rank", "period_add",
    "period_diff", "pi", "point", "polygon", "position", "pow", "power", "quarter", "quote", "radians", "rand",
    "random_bytes", "rank", "regexp_instr", "regexp_replace", "regexp_substr", "repeat", "replace", "reverse", "right",
    "round", "row_count", "row_number", "rpad", "rtrim", "schema", "sec_to_time", "second", "session_user", "sha2",
    "sign", "sin", "soundex", "space", "sqrt", "srid", "st_area", "st_asbinary", "st_asgeojson", "st_astext",
    "st_aswkb", "st_aswkt", "st_buffer", "st_centroid", "st_collect", "st_contains", "st_convexhull", "st_crosses",
    "st_difference", "st_dimension", "st_disjoint", "st_distance", "st_distance_sphere", "st_endpoint", "st_envelope",
    "st_equals", "st_exteriorring", "st_geohash", "st_geomcollfromtext", "st_geomcollfromwkb",
    "st_geometrycollectionfromtext", "st_geometrycollectionfromwkb", "st_geometryfromtext", "st_geometryfromwkb",
    "st_geometryn", "st_geometrytype", "st_geomfromgeojson", "st_geomfromtext", "st_geomfromwkb", "st_interiorringn",
    "st_intersection", "st_intersects", "st_isclosed", "st_isempty", "st_issimple", "st_isvalid", "st_latfromgeohash",
    "st_length", "st_linefromtext", "st_linefromwkb", "st_linestringfromtext", "st_linestringfromwkb",
    "st_longfromgeohash", "st_mlinefromtext", "st_mlinefromwkb", "st_mpointfromtext", "st_mpointfromwkb",
    "st_mpolyfromtext", "st_mpolyfromwkb", "st_multilinestringfromtext", "st_multilinestringfromwkb",
    "st_multipointfromtext", "st_multipointfromwkb", "st_multipolygonfromtext", "st_multipolygonfromwkb",
    "st_numgeometries", "st_numinteriorrings", "st_numpoints", "st_overlaps", "st_pointfromgeohash", "st_pointfromtext",
    "st_pointfromwkb", "st_pointn", "st_polyfromtext", "st_polyfromwkb", "st_polygonfromtext", "st_polygonfromwkb",
    "st_simplify", "st_srid", "st_startpoint", "st_symdifference", "st_touches", "st_union", "st_validate", "st_within",
    "st_x", "st_y", "std", "stddev", "stddev_pop", "stddev_samp", "str_to_date", "strcmp", "subdate", "substr",
    "substring", "substring_index", "subtime", "sum", "sysdate", "system_user", "tan", "time", "time_format",
    "time_to_sec", "timediff", "timestamp", "timestampadd", "timestampdiff", "to_base64", "to_days", "to_seconds",
    "trim", "truncate", "ucase", "uncompress", "uncompressed_length", "unhex", "unicode", "unix_timestamp", "updatexml",
    "upper", "user", "utc_date", "utc_time", "utc_timestamp", "uuid", "uuid_short", "var_pop", "var_samp", "variance",
    "version", "week", "weekday", "weekofyear", "weight_string", "year", "yearweek",
];

/// MySQL's own; some only of versions before 9.
#[rustfmt::skip]
pub const MYSQL: &[&str] = &[
    "against", "any_value", "bin_to_uuid", "distance", "format_bytes", "from_vector", "geomcollection", "geometry",
    "gtid_subset", "gtid_subtract", "icu_version", "is_uuid", "json_schema_validation_report", "json_storage_free",
    "json_storage_size", "mbrcoveredby", "mbrcovers", "md5", "ps_current_thread_id", "ps_thread_id", "regexp_like",
    "roles_graphml", "sha", "sha1", "st_buffer_strategy", "st_frechetdistance", "st_geomcollfromtxt",
    "st_hausdorffdistance", "st_latitude", "st_lineinterpolatepoint", "st_lineinterpolatepoints", "st_longitude",
    "st_makeenvelope", "st_numinteriorring", "st_pointatdistance", "st_swapxy", "st_transform", "statement_digest",
    "statement_digest_text", "string_to_vector", "to_vector", "uuid_to_bin", "validate", "validate_password_strength",
    "vector_dim", "vector_to_string",
];

/// `MariaDB`'s own, in part since versions later than the oldest that Django supports.
#[rustfmt::skip]
pub const MARIADB: &[&str] = &[
    "add_months", "area", "asbinary", "astext", "aswkb", "aswkt", "binlog_gtid_pos", "boundary", "buffer", "centroid",
    "chr", "column_add", "column_check", "column_create", "column_delete", "column_exists", "column_get", "column_json",
    "column_list", "concat_operator_oracle", "convexhull", "crc32c", "crosses", "decode", "decode_histogram",
    "decode_oracle", "des_decrypt", "des_encrypt", "dimension", "disjoint", "encode", "encrypt", "endpoint", "envelope",
    "equals", "exteriorring", "geomcollfromtext", "geomcollfromwkb", "geometrycollectionfromtext",
    "geometrycollectionfromwkb", "geometryfromtext", "geometryfromwkb", "geometryn", "geometrytype", "geomfromtext",
    "geomfromwkb", "glength", "interiorringn", "intersects", "isclosed", "isempty", "isring", "issimple",
    "json_array_intersect", "json_compact", "json_detailed", "json_equals", "json_exists", "json_key_value",
    "json_loose", "json_normalize", "json_object_filter_keys", "json_object_to_array", "json_query", "kdf", "lastval",
    "lengthb", "linefromtext", "linefromwkb", "linestringfromtext", "linestringfromwkb", "lpad_oracle", "ltrim_oracle",
    "mbrequal", "md5", "median", "mlinefromtext", "mlinefromwkb", "mpointfromtext", "mpointfromwkb", "mpolyfromtext",
    "mpolyfromwkb", "multilinestringfromtext", "multilinestringfromwkb", "multipointfromtext", "multipointfromwkb",
    "multipolygonfromtext", "multipolygonfromwkb", "natural_sort_key", "numgeometries", "numinteriorrings", "numpoints",
    "nvl", "nvl2", "old_password", "overlaps", "percentile_cont", "percentile_disc", "pointfromtext", "pointfromwkb",
    "pointn", "pointonsurface", "polyfromtext", "polyfromwkb", "polygonfromtext", "polygonfromwkb", "replace_oracle",
    "rownum", "rpad_oracle", "rtrim_oracle", "schemas", "sformat", "sha", "sha1", "st_boundary", "st_isring",
    "st_pointonsurface", "st_relate", "startpoint", "substr_oracle", "sys_guid", "systimestamp", "to_char", "touches",
    "trim_oracle", "uuid_v4", "uuid_v7", "vec_distance", "vec_distance_cosine", "vec_distance_euclidean",
    "vec_fromtext", "vec_totext", "within", "wsrep_last_seen_gtid", "wsrep_last_written_gtid", "x", "y",
];

/// Between these names and their parenthesis nothing may stand: `count (1)` calls a user's own function.
#[rustfmt::skip]
pub const ADJACENT: &[&str] = &[
    "adddate", "bit_and", "bit_or", "bit_xor", "cast", "count", "curdate", "curtime", "date_add", "date_sub", "extract",
    "group_concat", "json_arrayagg", "json_objectagg", "max", "mid", "min", "now", "position", "session_user", "std",
    "stddev", "stddev_pop", "stddev_samp", "subdate", "substr", "substring", "sum", "sysdate", "system_user", "trim",
    "var_pop", "var_samp", "variance",
];

/// Those for `MariaDB` alone; MySQL has reserved them.
#[rustfmt::skip]
pub const ADJACENT_MARIADB: &[&str] = &[
    "cume_dist", "dense_rank", "first_value", "lag", "last_value", "lead", "nth_value", "ntile", "percent_rank", "rank",
    "row_number",
];

/// Functions of the schema `sys`, which the servers create; those that only read.
#[rustfmt::skip]
pub const SYS: &[&str] = &[
    "extract_schema_from_file_name", "extract_table_from_file_name", "format_bytes", "format_path", "format_statement",
    "format_time", "list_add", "list_drop", "ps_is_account_enabled", "ps_is_consumer_enabled",
    "ps_is_instrument_default_enabled", "ps_is_instrument_default_timed", "ps_is_thread_instrumented",
    "ps_thread_account", "ps_thread_id", "ps_thread_stack", "ps_thread_trx_info", "quote_identifier", "sys_get_config",
    "version_major", "version_minor", "version_patch",
];
