//! Texts that were made to pass: each passed once, or is a neighbour of one that did.

use proptest::prelude::*;

use super::*;
use crate::sql::analyse::analyse;
use crate::sql::effects::Effects;
use crate::sql::lexer::steps;
use crate::sql::surroundings::DEEPEST;

const DIALECTS: [Dialect; 5] = [Dialect::MySql, Dialect::MariaDb, Dialect::PostgreSql, Dialect::Sqlite, Dialect::Other];
const MYSQL_FAMILY: [Dialect; 2] = [Dialect::MySql, Dialect::MariaDb];

fn is_refused(sql: &str, dialect: Dialect) -> bool {
    refusal(sql, dialect, &[]).is_some()
}

#[track_caller]
fn assert_refused(dialects: &[Dialect], texts: &[&str]) {
    for &dialect in dialects {
        for sql in texts {
            assert!(is_refused(sql, dialect), "{dialect:?} {sql}");
        }
    }
}

#[track_caller]
fn assert_allowed(dialects: &[Dialect], texts: &[&str]) {
    for &dialect in dialects {
        for sql in texts {
            assert_eq!(refusal(sql, dialect, &[]), None, "{dialect:?} {sql}");
        }
    }
}

/// `text` in so many parentheses.
fn nested(count: u32, text: &str) -> String {
    let count = count as usize;
    format!("SELECT {}{text}{}", "(".repeat(count), ")".repeat(count))
}

#[test]
fn what_is_nested_deeper_than_the_bound_is_not_surely_a_read() {
    for dialect in DIALECTS {
        assert!(!is_refused(&nested(DEEPEST, "1"), dialect) && !analyse(&nested(DEEPEST, "1"), dialect).writes);
        for beyond in [DEEPEST + 1, DEEPEST + 2, 2 * DEEPEST, 255, 256, 257, 1000] {
            assert!(is_refused(&nested(beyond, "1"), dialect) && analyse(&nested(beyond, "1"), dialect).writes);
        }
    }
    for depth in 0..300 {
        for call in [
            "SELECT DISTINCT ON (a) pg_advisory_lock(b) FROM (SELECT 1 a, 77 b) x",
            "SELECT DISTINCT ON (a) touch(b) FROM (SELECT 1 a, 77 b) x",
            "SELECT DISTINCT ON (a) over(b) FROM (SELECT 1 a, 77 b) x",
            "SELECT 1 OPERATOR(pg_catalog.+) touch(1)",
            "SELECT * FROM (WITH x AS (DELETE FROM t RETURNING 1) SELECT 1) y",
        ] {
            let sql = nested(depth, call);
            assert!(is_refused(&sql, Dialect::PostgreSql), "{depth} {sql}");
            assert!(analyse(&sql, Dialect::PostgreSql).writes, "{depth} {sql}");
        }
    }
}

#[test]
fn a_text_longer_than_the_bound_is_not_surely_a_read() {
    let of_length = |length: usize| format!("SELECT {}", " ".repeat(length - "SELECT 1".len())) + "1";
    for dialect in DIALECTS {
        let longest = of_length(LONGEST_TEXT);
        assert!(!is_refused(&longest, dialect) && analyse(&longest, dialect) == Effects::default());
        let longer = of_length(LONGEST_TEXT + 1);
        assert!(is_refused(&longer, dialect) && analyse(&longer, dialect).writes && analyse(&longer, dialect).at_once);
        // It is not read: that takes no longer than a short text does.
        assert!(steps::of(|| drop(refusal(&longer, dialect, &[]))) == 0);
        let bulk = format!("INSERT INTO t VALUES {}", "(%s), ".repeat(LONGEST_TEXT / 4));
        let effects = analyse(&bulk, dialect);
        assert!(effects.writes && !effects.at_once, "{effects:?}");
        let hidden = format!("{bulk}; COMMIT");
        assert!(analyse(&hidden, dialect).at_once);
    }
}

/// The highest cost of reading a text: so many steps a byte, one step being a byte that is taken or a token.
const STEPS_PER_BYTE: usize = 16;

fn cost(sql: &str, dialect: Dialect) -> usize {
    steps::of(|| {
        let _ = refusal(sql, dialect, &[]);
        let _ = analyse(sql, dialect);
    })
}

#[test]
fn known_patterns_are_read_in_linear_time() {
    for count in [100, 1000, 3000] {
        let deep = (DEEPEST - 2) as usize;
        for sql in [
            format!("SELECT {}{}", "() a(".repeat(count), ")".repeat(count)),
            format!("SELECT {}", "() a(b) ".repeat(count)),
            format!("SELECT {}", "() a(b, ".repeat(deep.min(count)) + &"c, ".repeat(count)),
            format!("WITH {}", "a(".repeat(count)),
            format!("WITH {}", "a(b) AS (SELECT 1), ".repeat(count)),
            format!("WITH {}", "a(b, ".repeat(deep) + &"b, ".repeat(count)),
            format!("SELECT {}", "FOR NO KEY ".repeat(count)),
            format!("SELECT {}", "LOCK IN ".repeat(count)),
            format!("SELECT {}", "FOR /* ' */ ".repeat(count)),
            format!("SELECT 1 {}", "OPERATOR(pg_catalog.++++++++".repeat(count)),
            format!("SELECT {}", "FROM a b(c), ".repeat(count)),
            format!("SELECT {}", "%(aaaaaaaaaaaaaaaa".repeat(count)),
            format!("SELECT {}", "$aaaaaaaaaaaaaaaa ".repeat(count)),
            format!("SELECT {}", "$a$ ".repeat(count)),
            format!("SELECT {}", "'\\' ".repeat(count)),
            format!("SELECT {}", "/*".repeat(count)),
            format!("SELECT {}", "SELECT;".repeat(count)),
            "SET a = 1;".repeat(count),
            "SET STATEMENT a = 1 FOR ".repeat(count),
            format!("EXPLAIN {}", "(".repeat(count)),
            format!("EXPLAIN {}", "FORMAT = ".repeat(count)),
            format!("COPY ({} TO STDOUT", "COPY (".repeat(count)),
            format!("DECLARE {}", "FOR (".repeat(count)),
            format!("SELECT {}", "set_config('a', ".repeat(count)),
            format!("SELECT {}", "last_insert_id(".repeat(count)),
        ] {
            for dialect in DIALECTS {
                let steps = cost(&sql, dialect);
                assert!(
                    steps <= STEPS_PER_BYTE * sql.len() + 64,
                    "{dialect:?} {steps} for {} bytes: {:.80}",
                    sql.len(),
                    sql
                );
            }
        }
    }
}

#[test]
fn a_statement_inside_of_a_set_statement_is_not_read_again_and_again() {
    // Each would take a frame of the stack.
    let sql = "SET STATEMENT a = 1 FOR ".repeat(40_000);
    assert!(sql.len() < LONGEST_TEXT);
    assert!(is_refused(&sql, Dialect::MariaDb) && is_refused(&sql, Dialect::MySql));
    assert_allowed(&[Dialect::MariaDb], &["SET STATEMENT max_statement_time = 5 FOR SELECT 1"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Pieces in any order, again and again.
    #[test]
    fn every_text_is_read_in_linear_time(
        pieces in prop::collection::vec(prop::sample::select(vec![
            "SELECT ", "WITH ", "RECURSIVE ", "x(a) AS (", "a(", "() a(", ") b(", "AS ", "MATERIALIZED (", "'", "E'",
            "\"", "`", "--", "\n", "/*", "*/", "/*!", "$$", "$a$", "$b", ";", "(", ")", ",", "\\", "FOR ", "NO ",
            "KEY ", "UPDATE ", "INTO ", "#", "é", "1", "1.e", "SET ", "STATEMENT ", "=", "[", "]", "%(a", ")s", "::",
            ".", "COPY (", " TO STDOUT", "EXPLAIN ", "FORMAT=", "PRAGMA ", "DECLARE ", "DISTINCT ON (", "FROM t u(",
            "OPERATOR(", "pg_catalog.", "+", "SEARCH ", "lower(", "LOCK ", "IN ",
        ]), 1..12),
        times in 1..400_usize,
        dialect in 0..5_usize,
    ) {
        let sql = pieces.concat().repeat(times);
        let steps = cost(&sql, DIALECTS[dialect]);
        prop_assert!(steps <= STEPS_PER_BYTE * sql.len() + 64, "{} for {} bytes", steps, sql.len());
    }
}

#[test]
fn one_servers_keyword_is_a_users_function_on_another() {
    let called = |name: &str| {
        [
            format!("SELECT {name}(1)"),
            format!("SELECT {} (1) FROM t", name.to_uppercase()),
            format!("SELECT 1, {name}(1)"),
            format!("SELECT 1 FROM t WHERE {name}(a) = 1"),
            format!("SELECT 1 FROM t WHERE NOT {name}(a)"),
            format!("SELECT 1 FROM t ORDER BY {name}(a)"),
            format!("SELECT a FROM t GROUP BY a + {name}(a)"),
            format!("SELECT ({name}(1))"),
        ]
    };
    for (dialects, names) in [
        (
            &[Dialect::PostgreSql][..],
            "key use ignore force over filter by sets rollup materialized escape ilike join zone first next system \
             second varying value passing columns json_array_length_of rows groups range match high_priority \
             sql_no_cache nvarchar double xor rlike regexp glob mod_ of repeatable overlaps_of partition",
        ),
        (
            &MYSQL_FAMILY[..],
            "unnest placing jsonb glob bpchar ilike overlay asymmetric symmetric bytea timetz timestamptz varbit \
             materialized trim_array similar setof xmlelement variadic normalize treat zone second_of matched",
        ),
        (&[Dialect::MariaDb][..], "lateral grouping groups array cube rollup columns escape of filter json_table"),
        (&[Dialect::MySql][..], "area x y lastval nvl chr decode within overlaps astext geomfromtext median"),
        (
            &[Dialect::Sqlite][..],
            "key use ignore force over filter by sets rollup materialized ilike join lateral array any some \
             int integer decimal varchar interval row grouping cube rows groups range offset columns zone",
        ),
    ] {
        for &dialect in dialects {
            for name in names.split_whitespace() {
                for sql in called(name) {
                    // `ORDER BY over(...)` aside, where a keyword may stand: after an operand.
                    assert!(is_refused(&sql, dialect), "{dialect:?} {sql}");
                    assert!(analyse(&sql, dialect).writes, "{dialect:?} {sql}");
                }
            }
        }
    }
}

#[test]
fn a_keyword_is_one_where_the_grammar_has_it() {
    assert_allowed(
        &[Dialect::PostgreSql],
        &[
            "SELECT sum(a) OVER (PARTITION BY (a) ORDER BY (b)), sum(a) FILTER (WHERE (a > 1)) OVER (w) FROM t",
            "SELECT a FROM t GROUP BY GROUPING SETS ((a), ROLLUP (a, b), CUBE (a)), ROLLUP (b), (a)",
            "SELECT a FROM t GROUP BY ROLLUP (a) HAVING (a > 1)",
            "WITH x AS MATERIALIZED (SELECT 1), y AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x JOIN (SELECT 1) z ON (true)",
            "SELECT a LIKE ('b') ESCAPE ('c'), a ILIKE ('b'), a NOT ILIKE ('b'), a NOT LIKE ('b') FROM t",
            "SELECT a AT TIME ZONE ('UTC'), (a, b) OVERLAPS (c, d), ARRAY(SELECT 1), ROW(1, 2) FROM t",
            "SELECT * FROM t TABLESAMPLE SYSTEM (1) REPEATABLE (2) OFFSET (1) FETCH NEXT (2) ROWS ONLY",
            "SELECT a::character varying(10), interval second(3), INTERVAL '1' SECOND(3), INTERVAL '1' DAY TO SECOND(3)",
            "SELECT CAST(a AS public.my_type(3)), a::public.my_type(3), b::double precision FROM t LEFT JOIN (SELECT 1) x ON (true)",
            "SELECT a FROM t NATURAL JOIN (SELECT 1) u CROSS JOIN (SELECT 2) v WHERE a = ANY (b) AND (c) IN (SELECT 1)",
        ],
    );
    assert_allowed(
        &MYSQL_FAMILY,
        &[
            "SELECT a FROM t USE INDEX (i), u FORCE KEY (k) IGNORE INDEX FOR ORDER BY (i) WHERE (a) DIV (2) XOR (b)",
            "SELECT MATCH (a) AGAINST ('b'), a REGEXP ('b'), a LIKE ('b') ESCAPE ('c'), VALUES (a) FROM t JOIN (SELECT 1) x",
            "SELECT SUM(a) OVER (ORDER BY (a) ROWS (1) PRECEDING) FROM t PARTITION (p0) AS u",
            "SELECT INSERT('a', 1, 1, 'b'), REPLACE('a', 'b', 'c'), IF(1, 2, 3), INTERVAL(1, 2), DEFAULT(a) FROM t",
        ],
    );
    assert_allowed(
        &[Dialect::Sqlite],
        &[
            "SELECT sum(a) FILTER (WHERE (a > 1)) OVER (PARTITION BY (a)) FROM t JOIN (SELECT 1) x ON (true) LIMIT (1) OFFSET (1)",
            "WITH x AS MATERIALIZED (SELECT 1) SELECT a LIKE ('b') ESCAPE ('c'), a GLOB ('b') FROM t GROUP BY (a)",
        ],
    );
}

#[test]
fn a_space_makes_a_users_function_of_mysqls_own() {
    for name in ["COUNT", "max", "NOW", "Substr", "SUBSTRING", "cast", "trim", "group_concat", "SYSTEM_USER"] {
        for space in [" ", "\n", "/**/", " -- a\n"] {
            let sql = format!("SELECT {name}{space}(1)");
            assert_refused(&MYSQL_FAMILY, &[&sql]);
            assert!(analyse(&sql, Dialect::MySql).writes, "{sql}");
            if name != "SYSTEM_USER" && name != "group_concat" {
                assert!(name == "cast" || !is_refused(&sql, Dialect::PostgreSql) || name == "NOW", "{sql}");
            }
        }
        assert_allowed(&MYSQL_FAMILY, &[&format!("SELECT {name}(1)")]);
    }
    // MySQL has reserved these.
    assert_allowed(&[Dialect::MySql], &["SELECT RANK () OVER (ORDER BY a) FROM t"]);
    assert_refused(&[Dialect::MariaDb], &["SELECT RANK () FROM t"]);
}

#[test]
fn explain_executes_nothing_that_writes() {
    assert_refused(
        &MYSQL_FAMILY,
        &[
            "ANALYZE FORMAT=\"JSON\" DELETE FROM t",
            "ANALYZE FORMAT='JSON' DELETE FROM t",
            "ANALYZE FORMAT=`JSON` UPDATE t SET a = 1",
            "EXPLAIN ANALYZE FORMAT=\"TREE\" DELETE FROM t",
            "EXPLAIN ANALYZE FORMAT=`TREE` DELETE FROM t",
            "EXPLAIN ANALYZE FORMAT = /* a */ \"TREE\" REPLACE INTO t VALUES (1)",
            "DESCRIBE ANALYZE FORMAT=\"TREE\" DELETE FROM t",
            "EXPLAIN FORMAT=\"JSON\" INSERT INTO t VALUES (1)",
            "EXPLAIN FORMAT=\"JSON\" INTO @a SELECT 1",
            "EXPLAIN ANALYZE \"t\" DELETE FROM t",
            "EXPLAIN `t` DELETE FROM t",
            "EXPLAIN t DELETE FROM t",
            "EXPLAIN t.u v w",
            "DESC t GET_LOCK('a', 1)",
            "ANALYZE \"t\"",
            "EXPLAIN FOR CONNECTION 5 DELETE FROM t",
            "EXPLAIN FOR SCHEMA a DELETE FROM t",
            "EXPLAIN DELETE t",
            "EXPLAIN ANALYZE ANALYZE TABLE t",
        ],
    );
    assert_allowed(
        &MYSQL_FAMILY,
        &[
            "DESC t",
            "DESCRIBE `t` a",
            "EXPLAIN a.b 'c%'",
            "DESC format",
            "DESC format.a b",
            "EXPLAIN FOR CONNECTION 5",
            "EXPLAIN FORMAT=\"JSON\" SELECT 1",
            "EXPLAIN FORMAT = tree SELECT 1",
            "EXPLAIN (SELECT 1) UNION (SELECT 2)",
        ],
    );
    for sql in ["EXPLAIN (\"analyze\") DELETE FROM t", "EXPLAIN (\"analyze\" true, costs off) DELETE FROM t"] {
        assert!(is_refused(sql, Dialect::PostgreSql) && analyse(sql, Dialect::PostgreSql).writes, "{sql}");
    }
    for sql in ["DESC `t`", "EXPLAIN \"t\""] {
        assert!(!analyse(sql, Dialect::MySql).writes, "{sql}");
    }
}

#[test]
fn a_verb_is_found_wherever_a_statement_begins() {
    assert_refused(
        &[Dialect::PostgreSql, Dialect::Other],
        &[
            "COPY (DELETE FROM t RETURNING 1) TO STDOUT",
            "COPY (WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY a SET o DELETE FROM t RETURNING 1) TO STDOUT",
            "WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY values SET o DELETE FROM t",
            "WITH RECURSIVE x AS (SELECT 1) SEARCH DEPTH FIRST BY a SET values DELETE FROM t",
            "WITH RECURSIVE x AS (SELECT 1) CYCLE a SET b USING c UPDATE t SET a = 1",
            "WITH values AS (SELECT 1) DELETE FROM t",
            "WITH a AS (SELECT 1), values AS (SELECT 1) UPDATE t SET a = 1",
            "WITH delete AS (SELECT 1) DELETE FROM t",
            "WITH x AS ((DELETE FROM t RETURNING 1)) SELECT 1",
            "WITH x AS NOT MATERIALIZED (DELETE FROM t RETURNING 1) SELECT 1",
            "WITH x (a, b) AS (UPDATE t SET a = 1 RETURNING 1) SELECT 1",
            "WITH x AS (WITH y AS (SELECT 1) DELETE FROM t RETURNING 1) SELECT 1",
            "WITH x AS (SELECT 1), y AS (MERGE INTO t USING u ON (true) WHEN MATCHED THEN DELETE) SELECT 1",
            "SELECT * FROM (WITH x AS (DELETE FROM t RETURNING 1) SELECT 1) y",
            "(WITH x AS (SELECT 1) DELETE FROM t)",
            "WITH x AS (SELECT 1) (SELECT 1) FOR UPDATE",
            "WITH x AS (SELECT 1) SET GLOBAL a = 1",
            "(SET a = '', transaction_read_only = 0",
            "(DELETE FROM t)",
        ],
    );
    assert_allowed(
        &[Dialect::PostgreSql],
        &[
            "SELECT COALESCE(delete(hstore, 'a'), '') FROM t",
            "WITH h AS (SELECT 1) SELECT delete(v, 'a') FROM h",
            "WITH update AS (SELECT 1), delete (insert, merge) AS (SELECT 1, 2) SELECT merge FROM delete",
            "SELECT (update), (delete IS NULL), count(insert), lower(merge) FROM t WHERE (delete = 1) ORDER BY merge",
            "WITH x AS (SELECT 1) SELECT update, delete, insert, merge, x.delete FROM t WHERE delete > 1",
            "SELECT x.delete FROM (SELECT 1) x (delete)",
            "SELECT * FROM json_to_record('{}') AS (delete int, update text)",
            "WITH RECURSIVE x (n) AS (SELECT 1) SEARCH DEPTH FIRST BY n SET o SELECT n FROM x",
        ],
    );
}

#[test]
fn quotes_do_not_change_what_is_known_to_act() {
    let allowed = ["get_lock", "pg_advisory_lock", "nextval", "set_config", "last_insert_id", "load_extension", "f"];
    let allowed = allowed.map(str::to_owned);
    for (sql, dialect) in [
        ("SELECT `get_lock`('a', 1)", Dialect::MySql),
        ("SELECT \"get_lock\"('a', 1)", Dialect::MySql),
        ("SELECT `GET_LOCK` ('a', 1)", Dialect::MariaDb),
        ("SELECT `last_insert_id`(5)", Dialect::MariaDb),
        ("SELECT \"nextval\"('s')", Dialect::PostgreSql),
        ("SELECT \"pg_catalog\".\"pg_advisory_lock\"(1)", Dialect::PostgreSql),
        ("SELECT pg_catalog.\"nextval\"('s')", Dialect::PostgreSql),
        ("SELECT \"set_config\"('transaction_read_only', 'off', false)", Dialect::PostgreSql),
        ("SELECT [load_extension]('a')", Dialect::Sqlite),
        ("SELECT 'a', \"load_extension\"('a')", Dialect::Sqlite),
    ] {
        assert!(refusal(sql, dialect, &allowed).is_some(), "{sql}");
    }
    assert_eq!(refusal("SELECT `f`(1), \"f\"(1), f(1)", Dialect::MySql, &allowed), None);
}

#[test]
fn quoted_names_of_the_servers_own_functions_are_known() {
    assert_allowed(
        &[Dialect::PostgreSql],
        &[
            "SELECT \"lower\"('A'), pg_catalog.\"lower\"('A'), \"pg_catalog\".lower('A'), \"pg_catalog\".\"lower\"('A')",
            "SELECT 1 OPERATOR(pg_catalog.+) 2, 1 OPERATOR(\"pg_catalog\".>=) (2), OPERATOR(pg_catalog.-) 2",
            "SELECT * FROM tbl t (a, b), s.tbl u (c), \"tbl\" \"v\" (d) JOIN tbl w (e) ON (true) WHERE (a) = 1",
        ],
    );
    assert_refused(
        &[Dialect::PostgreSql],
        &[
            "SELECT \"Lower\"('A')",
            "SELECT \"coalesce\"(1)",
            "SELECT \"select\"(1)",
            "SELECT pg_catalog.\"f\"(1)",
            "SELECT 1 OPERATOR(public.+) 2",
            "SELECT 1 OPERATOR(pg_catalog.f(1)) 2",
            "SELECT operator(1)",
            "SELECT operator(pg_catalog.f)",
            "SELECT 1 OPERATOR(pg_catalog.+) f(2)",
            "SELECT * FROM tbl WHERE a f(1)",
            "SELECT a f(1) FROM t",
            "SELECT * FROM tbl t ('a')",
            "SELECT * FROM tbl, f(a)",
            "SELECT * FROM tbl JOIN f(a) x ON (true)",
            "SELECT * FROM ONLY f(a)",
            "SELECT * FROM LATERAL f(a)",
        ],
    );
    assert_refused(&MYSQL_FAMILY, &["SELECT `count`(1)", "SELECT `lower`('A')", "SELECT * FROM tbl t (a)"]);
}

#[test]
fn a_character_set_that_hides_backslashes_is_refused() {
    for name in ["gbk", "big5", "sjis", "gb18030", "cp932", "swe7", "GBK", "'gbk'", "\"gbk\"", "`gbk`", "%s", "DEFAULT"]
    {
        for set in [
            format!("SET NAMES {name}"),
            format!("set /* a */ names {name}"),
            format!("SET NAMES {name} COLLATE gbk_chinese_ci"),
            format!("SET CHARACTER SET {name}"),
            format!("SET CHARSET {name}"),
            format!("SET character_set_client = {name}"),
            format!("SET SESSION character_set_client = {name}"),
            format!("SET @@character_set_client = {name}"),
            format!("SET @@session.character_set_client := {name}"),
            format!("SET `character_set_client` = {name}"),
            format!("SET sql_mode = '', NAMES {name}"),
            format!("SET STATEMENT character_set_client = {name} FOR SELECT 1"),
        ] {
            assert_refused(&MYSQL_FAMILY, &[&set]);
        }
    }
    for sql in [
        "SET NAMES 'GBK'",
        "SET client_encoding = big5",
        "SET client_encoding TO 'SJIS'",
        "SET SESSION client_encoding TO \"uhc\"",
        "SELECT set_config('client_encoding', 'GBK', false)",
        "SELECT set_config('client_encoding', %s, false)",
    ] {
        assert_refused(&[Dialect::PostgreSql], &[sql]);
    }
    assert_allowed(
        &MYSQL_FAMILY,
        &[
            "SET NAMES utf8mb4",
            "SET NAMES 'utf8' COLLATE 'utf8_bin'",
            "SET CHARACTER SET latin1",
            "SET character_set_results = gbk",
            "SET @names = 1, @charset := 2",
            "SET character_set_client = 'utf8mb4', sql_mode = ''",
        ],
    );
    assert_allowed(
        &[Dialect::PostgreSql],
        &[
            "SET NAMES 'UTF8'",
            "SET client_encoding TO DEFAULT",
            "SET client_encoding = 'LATIN1'",
            "SELECT set_config('client_encoding', 'UTF8', false)",
        ],
    );
}

#[test]
fn what_a_statement_does_in_passing_counts() {
    for sql in ["SET @a = NEXT VALUE FOR s", "SET @a = s.nextval", "SET @a = NEXTVAL(s)", "SET @a = (SELECT f(1))"] {
        assert!(analyse(sql, Dialect::MariaDb).writes, "{sql}");
    }
    assert!(!analyse("SET @a = PREVIOUS VALUE FOR s", Dialect::MariaDb).writes);
    for dialect in DIALECTS {
        let effects = analyse("EXPLAIN ANALYZE SELECT a FROM t FOR UPDATE", dialect);
        assert!(effects.locks && !effects.writes, "{effects:?}");
        assert!(!analyse("EXPLAIN SELECT a FROM t FOR UPDATE", dialect).locks);
    }
}

#[test]
fn previous_values_and_tables_that_are_checked_are_reads() {
    assert_allowed(
        &[Dialect::MariaDb],
        &[
            "SELECT PREVIOUS VALUE FOR s, LASTVAL(s)",
            "SELECT COLUMN_GET(COLUMN_CREATE('a', 1), 'a' AS INT), AsText(GeomFromText('POINT(1 1)')), X(p), Y(p), Area(p)",
            "CHECK TABLE t",
            "check tables t, u EXTENDED",
        ],
    );
    assert_refused(
        &MYSQL_FAMILY,
        &[
            "SELECT NEXT VALUE FOR s",
            "SELECT PREVIOUS VALUE FOR s FOR UPDATE",
            "CHECK VIEW v",
            "CHECK TABLE t; DROP TABLE t",
        ],
    );
    assert_allowed(&MYSQL_FAMILY, &["SELECT SYSTEM_USER(), LOAD_FILE('a'), sys.format_bytes(1), DEFAULT(a) FROM t"]);
    assert_refused(&MYSQL_FAMILY, &["SELECT sys.f(1)", "SELECT other.format_bytes(1)", "SELECT `sys`.f(1)"]);
}
