//! The words that may stand before a parenthesis and call nothing, by dialect.

use super::dialect::Dialect;

/// Whether `word(`, unquoted, can call no function of the user's own: the grammar reads the word as a keyword, a type,
/// or a function with a syntax of its own, at any place. `python -m tests.statements.functions` asks the servers, by
/// creating a function of each name.
pub fn calls_nothing(word: &str, dialect: Dialect) -> bool {
    let mut buffer = [0_u8; LONGEST];
    let Some(lower) = buffer.get_mut(..word.len()) else { return false };
    lower.copy_from_slice(word.as_bytes());
    lower.make_ascii_lowercase();
    let known = |list: &[&str]| list.binary_search_by(|known| known.as_bytes().cmp(lower)).is_ok();
    match dialect {
        Dialect::MySql => known(MYSQL_AND_MARIADB) || known(MYSQL),
        Dialect::MariaDb => known(MYSQL_AND_MARIADB),
        Dialect::PostgreSql => known(POSTGRESQL),
        Dialect::Sqlite => known(SQLITE),
        Dialect::Other => known(OTHER),
    }
}

/// Whether an expression may begin after `word`, so that a name after it may be called.
pub fn begins_operand(word: &str, dialect: Dialect) -> bool {
    calls_nothing(word, dialect) || PREFIXES.iter().any(|known| known.eq_ignore_ascii_case(word))
}

/// Whether a keyword is a value by itself, so that an expression may end with it.
pub fn is_value(word: &str) -> bool {
    ["null", "true", "false", "end", "current_date", "current_time", "current_timestamp", "localtime", "localtimestamp"]
        .iter()
        .any(|known| known.eq_ignore_ascii_case(word))
}

/// No listed word is longer.
const LONGEST: usize = 20;

/// Words that some server takes as names, and that an expression may follow.
#[rustfmt::skip]
const PREFIXES: &[&str] = &[
    "analyse", "analyze", "asc", "at", "binary", "both", "by", "check", "collate", "content", "distinctrow", "div",
    "do", "document", "escape", "exclude", "explain", "fetch", "first", "following", "for", "glob", "groups",
    "high_priority", "if", "ilike", "in", "interval", "is", "key", "last", "leading", "like", "limit", "local",
    "match", "mod", "next", "not", "of", "offset", "only", "overlaps", "passing", "preceding", "quick",
    "raise", "range", "recursive", "regexp", "returning", "rlike", "rows", "separator", "similar", "sounds",
    "sql_no_cache", "straight_join", "to", "trailing", "unbounded", "value", "variadic", "version", "window", "xor",
    "zone",
];

#[rustfmt::skip]
const MYSQL_AND_MARIADB: &[&str] = &[
    "all", "and", "any", "as", "between", "bigint", "binary", "bit", "boolean", "by", "case", "char", "character",
    "collate", "convert", "current_date", "current_time", "current_timestamp", "current_user", "date", "datetime",
    "dec", "decimal", "default", "distinct", "distinctrow", "div", "double", "else", "except", "exists", "float",
    "float4", "float8", "for", "force", "from", "group", "having", "high_priority", "if", "ignore", "in", "index",
    "insert", "int", "int2", "int4", "int8", "integer", "intersect", "interval", "join", "key", "left", "like",
    "limit", "localtime", "localtimestamp", "match", "mod", "nchar", "not", "numeric", "nvarchar", "offset", "on",
    "or", "over", "partition", "range", "real", "recursive", "regexp", "replace", "returning", "right", "rlike",
    "row", "rows", "select", "signed", "smallint", "some", "sql_calc_found_rows", "straight_join", "text", "then",
    "time", "timestamp", "to", "union", "unsigned", "use", "using", "values", "varbinary", "varchar", "varying",
    "when", "where", "with", "xor", "year",
];

#[rustfmt::skip]
const MYSQL: &[&str] = &[
    "against", "array", "columns", "cube", "escape", "grouping", "groups", "json_table", "lateral", "member", "of",
    "rollup", "sql_no_cache", "vector",
];

/// PostgreSQL's reserved words, and those that its grammar takes for no function's name (`pg_get_keywords()`).
#[rustfmt::skip]
const POSTGRESQL: &[&str] = &[
    "all", "and", "any", "array", "as", "asymmetric", "between", "bigint", "bit", "boolean", "both", "case", "cast",
    "char", "character", "coalesce", "current_date", "current_time", "current_timestamp", "dec", "decimal",
    "default", "distinct", "else", "except", "exists", "extract", "float", "for", "from", "greatest", "group",
    "grouping", "having", "in", "int", "integer", "intersect", "interval", "lateral", "leading", "least", "limit",
    "localtime", "localtimestamp", "nchar", "normalize", "not", "nullif", "numeric", "offset", "on", "only", "or",
    "placing", "position", "real", "returning", "row", "select", "smallint", "some", "symmetric", "then", "time",
    "timestamp", "to", "trailing", "treat", "trim", "union", "using", "values", "varchar", "variadic", "when",
    "where", "with", "xmlattributes", "xmlconcat", "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces",
    "xmlparse", "xmlpi", "xmlroot", "xmlserialize", "xmltable",
];

#[rustfmt::skip]
const SQLITE: &[&str] = &[
    "all", "and", "as", "between", "case", "cast", "default", "distinct", "else", "escape", "except", "exists",
    "from", "group", "having", "in", "intersect", "not", "on", "or", "order", "select", "then", "union", "using",
    "values", "when", "where",
];

/// Reserved everywhere.
#[rustfmt::skip]
const OTHER: &[&str] = &[
    "all", "and", "as", "between", "case", "cast", "default", "distinct", "else", "except", "exists", "from",
    "group", "having", "in", "intersect", "not", "on", "or", "select", "then", "union", "using", "values", "when",
    "where",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_can_be_searched() {
        for list in [MYSQL_AND_MARIADB, MYSQL, POSTGRESQL, SQLITE, OTHER, PREFIXES] {
            assert!(list.is_sorted(), "sorted");
            assert!(list.iter().all(|word| word.len() <= LONGEST && *word == word.to_lowercase()));
        }
    }

    #[test]
    fn one_servers_keyword_is_a_users_own_function_on_another() {
        for word in ["key", "use", "ignore", "force", "unnest", "jsonb", "glob", "bpchar"] {
            assert!(!calls_nothing(word, Dialect::PostgreSql), "{word}");
        }
        for word in ["unnest", "placing", "jsonb", "glob", "bpchar", "ilike", "overlay"] {
            assert!(!calls_nothing(word, Dialect::MySql) && !calls_nothing(word, Dialect::MariaDb), "{word}");
        }
        assert!(calls_nothing("LATERAL", Dialect::MySql) && !calls_nothing("lateral", Dialect::MariaDb));
        assert!(calls_nothing("Placing", Dialect::PostgreSql) && calls_nothing("key", Dialect::MySql));
    }
}
