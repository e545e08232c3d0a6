use proptest::prelude::*;

use super::*;

const DIALECTS: [Dialect; 5] = [Dialect::MySql, Dialect::MariaDb, Dialect::PostgreSql, Dialect::Sqlite, Dialect::Other];

fn what(sql: &str, dialect: Dialect) -> Option<String> {
    refusal(sql, dialect, &[]).map(|refusal| refusal.what)
}

#[track_caller]
fn assert_refused(dialect: Dialect, cases: &[(&str, &str)]) {
    for (sql, expected) in cases {
        assert_eq!(what(sql, dialect).as_deref(), Some(*expected), "{sql}");
    }
}

#[track_caller]
fn assert_allowed(dialect: Dialect, cases: &[&str]) {
    for sql in cases {
        assert_eq!(what(sql, dialect), None, "{sql}");
    }
}

#[test]
fn the_verb_or_construct_is_named() {
    for dialect in DIALECTS {
        assert_refused(
            dialect,
            &[
                (" delete from t", "DELETE"),
                ("SELECT a FROM t FOR UPDATE", "SELECT ... FOR UPDATE"),
                ("SELECT a FROM t FOR NO KEY UPDATE OF t", "SELECT ... FOR NO KEY UPDATE"),
                ("SELECT a FROM t LOCK IN SHARE MODE", "SELECT ... LOCK IN SHARE MODE"),
                ("SELECT a INTO b FROM t", "SELECT ... INTO"),
                ("SELECT GET_LOCK('a', 1)", "GET_LOCK()"),
                ("SELECT NEXT VALUE FOR s", "NEXT VALUE FOR"),
                ("WITH x AS (SELECT 1) DELETE FROM t", "WITH ... DELETE"),
                ("WITH x AS (DELETE FROM t RETURNING a) SELECT 1", "WITH ... DELETE"),
                ("CREATE TEMPORARY TABLE t (a int)", "CREATE TEMPORARY TABLE"),
                ("START TRANSACTION READ WRITE", "START TRANSACTION READ WRITE"),
                ("CALL p()", "CALL"),
                ("SELECT 1; SELECT 1", "a text of several statements"),
                ("SELECT my_schema.f(1)", "my_schema.f()"),
            ],
        );
    }
    assert_refused(Dialect::MySql, &[("SET GLOBAL a = 1", "SET GLOBAL"), ("SET @@persist.a = 1", "SET PERSIST")]);
}

#[test]
fn an_unknown_function_is_named_so_that_it_can_be_allowed() {
    for (sql, name) in [("SELECT F(1)", "F"), ("SELECT \"s\".f (1)", "s.f"), ("SELECT a.b.c(1)", "a.b.c")] {
        let refusal = refusal(sql, Dialect::PostgreSql, &[]).expect("refused");
        assert_eq!(refusal.function.as_deref(), Some(name));
        assert_eq!(super::refusal(sql, Dialect::PostgreSql, &["x".into(), name.to_lowercase()]), None);
    }
    let nextval = ["nextval".to_owned()];
    assert_eq!(
        refusal("SELECT nextval('s')", Dialect::PostgreSql, &nextval).and_then(|refusal| refusal.function),
        None
    );
}

#[test]
fn a_name_before_a_parenthesis_is_not_always_called() {
    assert_allowed(
        Dialect::PostgreSql,
        &[
            "WITH x (a) AS (SELECT 1), y (b, c) AS MATERIALIZED (SELECT 1) SELECT 1",
            "WITH x (a) AS (SELECT 1) (SELECT 1) UNION (SELECT 2)",
            "SELECT * FROM (WITH RECURSIVE x (a) AS (SELECT 1) SELECT a FROM x) y (b)",
            "SELECT * FROM generate_series(1, 2) AS g (n), (VALUES (1)) v (a)",
            "SELECT * FROM unnest(a) WITH ORDINALITY cols (n, place)",
            "SELECT a::my_type(3), CAST(a AS my_type(3))",
            "SELECT DISTINCT ON (a) lower(b) FROM t",
            "COPY t (a, b) TO STDOUT (FORMAT csv)",
        ],
    );
    assert_refused(
        Dialect::PostgreSql,
        &[
            ("WITH x (a) AS (SELECT f(1)) SELECT 1", "f()"),
            ("WITH x (a) AS (SELECT 1) SELECT f(1)", "f()"),
            ("SELECT DISTINCT ON (a) f(b) FROM t", "f()"),
            ("WITH x AS (SELECT 1) (SELECT 1) LIMIT f(1)", "f()"),
            ("WITH x AS (SELECT 1) (SELECT 1) ORDER BY 1, f(a)", "f()"),
            ("SELECT (WITH x AS (SELECT 1) (SELECT 2)), (f(1))", "f()"),
            ("SELECT * FROM (WITH x AS (SELECT 1) (SELECT 2)) y, ROWS FROM (f(a) AS (b int)) z", "f()"),
            ("SELECT (1) OPERATOR(s.+) f(b)", "OPERATOR()"),
            ("SELECT * FROM f(a) AS (b int)", "f()"),
            ("COPY (SELECT f(1)) TO STDOUT", "f()"),
        ],
    );
}

#[test]
fn a_backslash_is_read_in_both_ways() {
    assert_allowed(Dialect::PostgreSql, &[r"SELECT a LIKE 'b' ESCAPE '\'", r"SELECT E'it\'s', 'a'"]);
    assert_allowed(Dialect::MySql, &[r"SELECT 'it\'s'", r"SELECT 'a\\', 'b'"]);
    for dialect in [Dialect::MySql, Dialect::PostgreSql] {
        for sql in [
            r"SELECT '\'' FROM t FOR UPDATE",
            r"SELECT '\' FROM t FOR UPDATE -- '",
            r"SELECT '\', f(1) -- '",
            r"SELECT '\'', f(1)",
        ] {
            assert!(what(sql, dialect).is_some(), "{sql}");
        }
    }
    assert!(what("SELECT E'a'\n'\\'', f(1) -- '", Dialect::PostgreSql).is_some());
    assert!(what(r#"SELECT "\" FROM t FOR UPDATE -- ""#, Dialect::MySql).is_some());
    assert_allowed(Dialect::Sqlite, &[r"SELECT a LIKE 'b' ESCAPE '\' AND c = 'd'"]);
}

#[test]
fn what_servers_take_apart_in_different_ways_is_refused() {
    for dialect in DIALECTS {
        for sql in ["SELECT 1.0FOR UPDATE", "SELECT 1e0FOR UPDATE", "SELECT 1\u{a0}FOR\u{a0}UPDATE", "SELECT 1 \0"] {
            assert!(what(sql, dialect).is_some(), "{dialect:?} {sql:?}");
        }
    }
    assert!(what("SELECT 1FOR UPDATE", Dialect::PostgreSql).is_some());
    assert_allowed(Dialect::MySql, &["SELECT 0x1F, 1e5 FROM 2023_orders"]);
    assert!(what("SELECT 1 --\u{7f}'\nFROM t FOR UPDATE -- '", Dialect::MySql).is_some());
}

#[test]
fn a_session_stays_read_only() {
    for sql in [
        "SET transaction_read_only = off",
        "SET default_transaction_read_only TO 'off'",
        "SET \"transaction_read_only\" = off",
        "SET SESSION CHARACTERISTICS AS TRANSACTION READ WRITE",
        "SELECT set_config('transaction_read_only', 'off', true)",
        "SELECT set_config('transaction' || '_read_only', 'off', true)",
        "SELECT set_config(%s, 'off', true)",
        r#"SET U&"default_transaction_read\005fonly" = off"#,
        r#"SET u&"transaction!005fread_only" UESCAPE '!' = off"#,
        r#"RESET U&"default_transaction_read\005fonly""#,
        "RESET ALL",
        "DISCARD ALL",
        "BEGIN READ WRITE",
    ] {
        assert!(what(sql, Dialect::PostgreSql).is_some(), "{sql}");
    }
    assert_allowed(
        Dialect::PostgreSql,
        &["SET transaction_read_only = on", "SELECT set_config('TimeZone', %s, false)", "SET search_path = a, b"],
    );
}

#[test]
fn reads_do_not_begin_to_lock_rows() {
    for sql in [
        "SET TRANSACTION ISOLATION LEVEL SERIALIZABLE",
        "SET SESSION TRANSACTION READ ONLY, ISOLATION LEVEL SERIALIZABLE",
        "SET transaction_isolation = 'SERIALIZABLE'",
        "SET @@session.tx_isolation := Serializable",
        "SET tx_isolation = 3",
        "SET tx_isolation = @a",
        "SET STATEMENT tx_isolation = 'serializable' FOR SELECT 1",
    ] {
        assert!(what(sql, Dialect::MySql).is_some(), "{sql}");
    }
    assert_allowed(
        Dialect::MySql,
        &[
            "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ",
            "SET transaction_isolation = 'READ-COMMITTED', @a = @@tx_isolation",
        ],
    );
    // A standby refuses it, and elsewhere nothing waits for it.
    assert_allowed(Dialect::PostgreSql, &["SET TRANSACTION ISOLATION LEVEL SERIALIZABLE"]);
}

#[test]
fn a_parameters_name_says_nothing() {
    for dialect in DIALECTS {
        assert_eq!(what("SELECT a FROM t WHERE a = %(delete)s AND b = %(into)s", dialect), None);
    }
    assert!(what("SELECT 5 %(f)sleep(%s)", Dialect::PostgreSql).is_some());
}

/// Text that may stand between two words without changing the effect of a statement.
fn space(dialect: Dialect) -> impl Strategy<Value = &'static str> {
    let mut spaces = vec![" ", "\n", "\t ", " /* ' */ ", "/**/ ", " /* \" */ ", " -- '\n", " -- a\n"];
    match dialect {
        Dialect::MySql | Dialect::MariaDb => spaces.extend([" # '\n", " --\t'\n", " /*! */ "]),
        Dialect::PostgreSql => spaces.extend([" /* /* ' */ */ ", " --'\r", " /* $$ */ "]),
        _ => {}
    }
    prop::sample::select(spaces)
}

/// Words of statements that must not be let through, to be put together with any space between them.
const HOSTILE: [&[&str]; 14] = [
    &["DELETE", "FROM", "t"],
    &["SELECT", "a", "FROM", "t", "FOR", "UPDATE"],
    &["(", "SELECT", "a", "FROM", "t", ")", "FOR", "NO", "KEY", "UPDATE"],
    &["SELECT", "a", "FROM", "t", "LOCK", "IN", "SHARE", "MODE"],
    &["WITH", "x", "(", "a", ")", "AS", "(", "SELECT", "1", ")", "UPDATE", "t", "SET", "a", "=", "1"],
    &["WITH", "x", "AS", "(", "INSERT", "INTO", "t", "VALUES", "(", "1", ")", ")", "SELECT", "1"],
    &["SELECT", "GET_LOCK", "(", "'a'", ",", "1", ")"],
    &["SELECT", "pg_advisory_lock", "(", "1", ")"],
    &["SELECT", "my_schema", ".", "f", "(", "1", ")"],
    &["SELECT", "a", "INTO", "b", "FROM", "t"],
    &["START", "TRANSACTION", "READ", "WRITE"],
    &["CREATE", "TEMPORARY", "TABLE", "t", "(", "a", "int", ")"],
    &["SELECT", "1", ";", "DELETE", "FROM", "t"],
    &["SET", "transaction_read_only", "=", "0"],
];

proptest! {
    #[test]
    fn no_text_breaks_the_reader(sql in "[ -~\u{e9}\u{20ac}\u{a0}\n]*", dialect in 0..5_usize) {
        let _ = refusal(&sql, DIALECTS[dialect], &[]);
    }

    #[test]
    fn a_tangle_of_sql_pieces_breaks_nothing(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "WITH", "x(a) AS (", "'", "E'", "\"", "`", "--", "/*", "*/", "/*!", "$$", "$a$", ";", "(", ")",
            "\\", "FOR", "UPDATE", "INTO", "\n", " ", "#", "é", "1", "1.e", "SET", "=", "[", "]", "%(a)s", "::", ".",
            "COPY", "TO", "STDOUT", "EXPLAIN", "PRAGMA", "DECLARE", "DISTINCT ON", "\u{a0}", "\u{0}",
        ]), 0..40),
        dialect in 0..5_usize,
    ) {
        let _ = refusal(&pieces.concat(), DIALECTS[dialect], &[]);
    }

    /// Comments, strings, case and white space hide nothing.
    #[test]
    fn no_disguise_helps(
        (dialect, words, spaces) in (0..4_usize).prop_flat_map(|dialect| (
            Just(DIALECTS[dialect]),
            prop::sample::select(HOSTILE.to_vec()),
            prop::collection::vec(space(DIALECTS[dialect]), 20),
        )),
        lower in prop::collection::vec(any::<bool>(), 20),
        text in prop::sample::select(vec!["", "'it''s', ", "'--', ", "'/*', ", "'\\\\', ", "';', "]),
    ) {
        let mut sql = String::new();
        for ((word, space), lower) in words.iter().zip(&spaces).zip(&lower) {
            sql.push_str(space);
            sql.push_str(&if *lower { word.to_lowercase() } else { (*word).to_owned() });
            if *word == "SELECT" {
                sql.push_str(space);
                sql.push_str(text);
            }
        }
        prop_assert!(refusal(&sql, dialect, &[]).is_some(), "{:?}: {}", dialect, sql);
    }
}
