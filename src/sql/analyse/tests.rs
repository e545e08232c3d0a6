use proptest::prelude::*;

use super::*;

const DIALECTS: [Dialect; 5] = [Dialect::MySql, Dialect::MariaDb, Dialect::PostgreSql, Dialect::Sqlite, Dialect::Other];

fn writes(sql: &str) -> Vec<Dialect> {
    DIALECTS.into_iter().filter(|&dialect| analyse(sql, dialect).writes).collect()
}

#[track_caller]
fn assert_read(sql: &str) {
    assert_eq!(writes(sql), [], "{sql}");
}

#[track_caller]
fn assert_write(sql: &str) {
    assert_eq!(writes(sql), DIALECTS, "{sql}");
}

#[test]
fn what_the_orm_asks_is_a_read() {
    for sql in [
        "SELECT `a`.`id`, `a`.`name` FROM `a` WHERE `a`.`id` = %s LIMIT 21",
        r#"SELECT "a"."id" FROM "a" WHERE ("a"."id" IN (%s, %s) AND NOT ("a"."b" = %s)) ORDER BY 1 ASC"#,
        "SELECT COUNT(*) AS `__count` FROM `a`",
        "SELECT 1 AS `a` FROM `b` WHERE EXISTS(SELECT 1 AS `a` FROM `c` LIMIT 1) LIMIT 1",
        "(SELECT a FROM b) UNION (SELECT a FROM c)",
        "SELECT SUM(CASE WHEN (a = 1) THEN 2 ELSE 0 END), COALESCE(MAX(b), 0) FROM t GROUP BY (c)",
        "SELECT ROW_NUMBER() OVER (PARTITION BY a ORDER BY b) FROM t",
        "SELECT CAST(a AS decimal(10, 2)), SUBSTRING(b FROM 1 FOR 3) FROM t",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "VALUES (1), (2)",
        "/* a hint; with DELETE in it */ SELECT 1",
        "SELECT 1 -- INSERT INTO t\n",
        "SELECT 'INSERT INTO t; DELETE', 'it''s'",
        "SHOW VARIABLES LIKE 'a'",
        "EXPLAIN SELECT 1",
        "EXPLAIN UPDATE t SET a = 1",
        "",
        ";",
        "  ;  ",
        "SELECT 1;",
    ] {
        assert_read(sql);
    }
}

#[test]
fn what_changes_data_or_schema_is_a_write() {
    for sql in [
        "INSERT INTO t VALUES (1)",
        "update t set a = 1",
        "\n DELETE FROM t",
        "REPLACE INTO t VALUES (1)",
        "MERGE INTO t USING s ON (a = b) WHEN MATCHED THEN DELETE",
        "COPY t FROM STDIN",
        "CREATE TABLE t (a int)",
        "ALTER TABLE t ADD b int",
        "DROP TABLE t",
        "TRUNCATE t",
        "CALL p()",
        "DO 1",
        "LOAD DATA INFILE 'f' INTO TABLE t",
        "GRANT SELECT ON t TO u",
        "VACUUM",
        "WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x",
        "WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x",
        "SELECT a INTO u FROM t",
        "SELECT my_function(1)",
        r#"SELECT "my_function"(1)"#,
        "SELECT `my_function` (1)",
        "SELECT my_schema.my_function(1)",
        "SELECT nextval('s')",
        "SELECT GET_LOCK('a', 1)",
        "SELECT 1; DELETE FROM t",
        "/* SELECT */ DELETE FROM t",
        "-- SELECT\nDELETE FROM t",
        "SELECT 'unterminated",
        "SELECT 1 /* unterminated",
        "EXPLAIN ANALYZE DELETE FROM t",
        "EXPLAIN (ANALYZE, BUFFERS) INSERT INTO t VALUES (1)",
        "SET PASSWORD = 'a'",
        "SET GLOBAL a = 1",
        "SET @a = my_function()",
        "PRAGMA user_version = 5",
        "PREPARE TRANSACTION 'a'",
        "COMMIT PREPARED 'a'",
        "XA COMMIT 'a'",
        "XA PREPARE 'a'",
        "nonsense",
        "SET STATEMENT max_statement_time=5 FOR INSERT INTO t VALUES (1)",
        "SELECT NEXT VALUE FOR s",
        "SELECT s.nextval",
        "SELECT public.count(1)",
        r#"SELECT "public".count(1)"#,
        "EXPLAIN ANALYZE CREATE TABLE u AS SELECT 1",
        "EXPLAIN ANALYZE EXECUTE prepared",
        "PRAGMA optimize",
        "\u{a0}SELECT 1",
        "{{",
    ] {
        assert_write(sql);
    }
}

#[test]
fn a_locking_read_is_a_read_that_locks() {
    for sql in [
        "SELECT a FROM t FOR UPDATE",
        "SELECT a FROM t FOR NO KEY UPDATE OF t NOWAIT",
        "SELECT a FROM t FOR KEY SHARE SKIP LOCKED",
        "SELECT a FROM t LOCK IN SHARE MODE",
        "SELECT a FROM t FOR /* */ UPDATE",
    ] {
        for dialect in DIALECTS {
            let effects = analyse(sql, dialect);
            assert!(effects.locks && !effects.writes, "{sql} {effects:?}");
        }
    }
    assert!(!analyse("SELECT SUBSTRING(a FROM 1 FOR 2) FROM t", Dialect::PostgreSql).locks);
    assert!(!analyse("SELECT 'FOR UPDATE' FROM t", Dialect::PostgreSql).locks);
}

#[test]
fn mysql_executes_some_comments() {
    for sql in ["SELECT 1 /*! INTO OUTFILE 'f' */", "/*!50000 DELETE */ FROM t", "SELECT /*M!100000 f() */ 1"] {
        assert!(analyse(sql, Dialect::MySql).writes, "{sql}");
    }
    assert!(!analyse("SELECT /*+ MAX_EXECUTION_TIME(9) */ 1", Dialect::MySql).writes);
    // Its dashes need a space after them, or they are two minus signs and the text goes on.
    assert!(analyse("SELECT 1--1; DELETE FROM t", Dialect::MySql).writes);
    assert!(!analyse("SELECT 1 -- 1; DELETE FROM t", Dialect::MySql).writes);
    assert!(!analyse("SELECT 1 # ; DELETE FROM t", Dialect::MySql).writes);
}

#[test]
fn postgresql_nests_comments_and_quotes_with_dollars() {
    assert!(!analyse("SELECT /* a /* DELETE */ b */ 1", Dialect::PostgreSql).writes);
    assert!(analyse("SELECT /* a /* b */ */ 1; DELETE FROM t", Dialect::PostgreSql).writes);
    assert!(!analyse("SELECT $$; DELETE FROM t$$, $a$ $$ ; $a$, $1", Dialect::PostgreSql).writes);
    assert!(analyse("SELECT $a$ ; $b$", Dialect::PostgreSql).writes);
    assert!(!analyse("SELECT pg_catalog.count(1)", Dialect::PostgreSql).writes);
    // A carriage return ends its comments.
    assert!(analyse("SELECT 1 -- x\r; DELETE FROM t", Dialect::PostgreSql).writes);
    assert!(!analyse("SELECT 1 -- x\r; DELETE FROM t", Dialect::Sqlite).writes);
}

#[test]
fn a_quote_behind_a_backslash_is_not_believed() {
    for dialect in DIALECTS {
        assert!(analyse(r"SELECT '\'; DELETE FROM t; -- '", dialect).writes, "{dialect:?}");
        assert!(!analyse(r"SELECT 'a\%b', '\\'", dialect).writes, "{dialect:?}");
    }
}

#[test]
fn transactions_sent_as_text_are_seen() {
    let effects = |sql| analyse(sql, Dialect::MySql);
    for sql in ["BEGIN", "BEGIN WORK", "BEGIN;"] {
        assert!(effects(sql).begins && !effects(sql).writes, "{sql}");
    }
    // The open transaction is committed.
    assert!(effects("BEGIN").commits && effects("START TRANSACTION").commits);
    assert!(!analyse("BEGIN IMMEDIATE", Dialect::Sqlite).commits);
    assert!(effects("BEGIN NOT ATOMIC INSERT INTO t VALUES (1); END").writes);
    assert!(effects("BEGIN").begins && effects("start transaction READ ONLY").begins);
    assert!(effects("START REPLICA").writes && !effects("START REPLICA").begins);
    assert!(effects("COMMIT").commits && !effects("COMMIT").begins);
    assert!(effects("COMMIT AND CHAIN").begins && !effects("COMMIT AND NO CHAIN").begins);
    assert!(effects("ROLLBACK").rolls_back);
    assert!(!effects("ROLLBACK TO SAVEPOINT a").rolls_back && !effects("ROLLBACK TO a").rolls_back);
    for off in ["SET autocommit = 0", "SET @@session.autocommit=OFF", "set sql_mode = '', AUTOCOMMIT = false"] {
        assert_eq!(effects(off).autocommit, Some(false), "{off}");
    }
    assert_eq!(effects("SET autocommit = 1").autocommit, Some(true));
    assert_eq!(effects("SET @old = @@autocommit, @b = 0"), Effects::default());
    assert_eq!(effects("SET @old = @@autocommit, autocommit := 0").autocommit, Some(false));
    for unreadable in ["SET autocommit = %s", "SET autocommit = 'OFF'", "SET autocommit = @old"] {
        let effects = effects(unreadable);
        assert!(effects.autocommit == Some(false) && effects.commits && effects.at_once, "{unreadable}");
    }
    assert_eq!(analyse("SET autocommit = 0", Dialect::PostgreSql).autocommit, None);
    assert!(effects("XA START 'a'").begins && effects("XA ROLLBACK 'a'").rolls_back);
    assert!(analyse("SAVEPOINT a", Dialect::Sqlite).begins && !effects("SAVEPOINT a").begins);
    assert!(analyse("RELEASE a", Dialect::Sqlite).commits && !effects("RELEASE a").commits);
    for sql in ["BEGIN", "COMMIT", "ROLLBACK", "SAVEPOINT a", "RELEASE a", "SET autocommit = 0"] {
        assert!(!effects(sql).writes, "{sql}");
    }
}

#[test]
fn several_statements_are_taken_together() {
    let effects = |sql| analyse(sql, Dialect::MySql);
    assert_eq!(
        effects("SET SQL_AUTO_IS_NULL = 0; SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED"),
        Effects::default()
    );
    assert!(!effects("BEGIN; SELECT 1; COMMIT").begins);
    assert!(effects("COMMIT; BEGIN").begins);
    let wrote = effects("BEGIN; INSERT INTO t VALUES (1); COMMIT");
    assert!(wrote.writes && wrote.at_once && wrote.commits);
}

#[test]
fn the_verb_is_the_first_word() {
    assert_eq!(verb(" /* SELECT */ ( insert into t", Dialect::MySql), "INSERT");
    assert_eq!(verb("'a'", Dialect::MySql), "");
    assert_eq!(verb("", Dialect::Sqlite), "");
}

#[test]
fn mysql_commits_schema_changes_at_once() {
    assert!(analyse("CREATE TABLE t (a int)", Dialect::MySql).at_once);
    assert!(!analyse("CREATE TABLE t (a int)", Dialect::PostgreSql).at_once);
    assert!(!analyse("INSERT INTO t VALUES (1)", Dialect::MySql).at_once);
    assert!(analyse("CALL p()", Dialect::PostgreSql).at_once);
}

proptest! {
    #[test]
    fn no_text_breaks_the_lexer(sql in "[ -~\u{e9}\u{20ac}\n]*", dialect in 0..5_usize) {
        let _ = analyse(&sql, DIALECTS[dialect]);
    }

    #[test]
    fn a_tangle_of_sql_pieces_breaks_nothing(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "SELECT", "DELETE", "FROM t", "'", "\"", "`", "--", "/*", "*/", "/*!", "$$", "$a$", ";", "(", ")", "\\",
            "FOR", "UPDATE", "INTO", "\n", " ", "#", "é", "1", "COMMIT", "SET", "autocommit", "=", "0", "[", "]",
        ]), 0..30),
        dialect in 0..5_usize,
    ) {
        let _ = analyse(&pieces.concat(), DIALECTS[dialect]);
    }

    /// Whatever stands around it, a statement that deletes is never taken for a read: comments and strings that are
    /// closed cannot hide it.
    #[test]
    fn a_second_statement_is_never_hidden(
        before in prop::collection::vec(prop::sample::select(vec![
            "SELECT 1", " ", "/* a */", "-- b\n", "'c'", "\"d\"", ", 'it''s'", "/* ' */", "-- \"\n", "(", ")",
        ]), 0..12),
        dialect in 0..5_usize,
    ) {
        let sql = format!("{}; DELETE FROM t", before.concat());
        prop_assert!(analyse(&sql, DIALECTS[dialect]).writes, "{}", sql);
    }
}
