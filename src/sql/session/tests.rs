use super::Action::{Back, Discard, Hold, Local, Release, ReleaseAll, Reset, ResetAll, Set};
use super::change::{LOCK, PREPARED, TEMPORARY, UNKNOWN};
use super::*;

const MYSQL: Dialect = Dialect::MySql;
const POSTGRESQL: Dialect = Dialect::PostgreSql;
const SQLITE: Dialect = Dialect::Sqlite;

/// The changes of a statement; the quick check must miss none of them.
fn done(sql: &str, dialect: Dialect) -> Vec<(Action, String, bool)> {
    let found = changes(sql, dialect, &[]);
    assert!(found.is_empty() || may_change(sql, dialect), "{sql} {dialect:?}");
    found.into_iter().map(|change| (change.action, change.name, change.reads)).collect()
}

fn one(action: Action, name: &str) -> Vec<(Action, String, bool)> {
    vec![(action, name.to_owned(), true)]
}

#[test]
fn settings_of_postgresql() {
    for (sql, action, name) in [
        ("SET search_path TO acme", Set, "search_path"),
        ("set SESSION Search_Path = acme, public", Set, "search_path"),
        ("SET \"search_path\" = 'acme'", Set, "search_path"),
        ("SET SCHEMA 'acme'", Set, "search_path"),
        ("SET app.tenant = '7'", Set, "app.tenant"),
        ("SET LOCAL app.tenant = '7'", Local, "app.tenant"),
        ("SET TIME ZONE 'Asia/Tokyo'", Set, "timezone"),
        ("SET LOCAL TIME ZONE 'Asia/Tokyo'", Local, "timezone"),
        ("SET TIME ZONE LOCAL", Reset, "timezone"),
        ("SET TimeZone TO DEFAULT", Reset, "timezone"),
        ("SET ROLE acme", Set, "role"),
        ("SET ROLE NONE", Reset, "role"),
        ("SET SESSION AUTHORIZATION acme", Set, "session_authorization"),
        ("SET SESSION SESSION AUTHORIZATION acme", Set, "session_authorization"),
        ("SET LOCAL SESSION AUTHORIZATION acme", Local, "session_authorization"),
        ("SET SESSION AUTHORIZATION DEFAULT", Reset, "session_authorization"),
        ("SET row_security = off", Set, "row_security"),
        ("SET NAMES 'latin1'", Set, "client_encoding"),
        ("RESET search_path", Reset, "search_path"),
        ("RESET app.tenant", Reset, "app.tenant"),
        ("RESET ROLE", Reset, "role"),
        ("RESET TIME ZONE", Reset, "timezone"),
        ("RESET SESSION AUTHORIZATION", Reset, "session_authorization"),
        ("RESET ALL", ResetAll, ""),
        ("DISCARD ALL", Discard, ""),
        ("DISCARD TEMP", Reset, TEMPORARY),
        ("SELECT set_config('app.tenant', %s, false)", Set, "app.tenant"),
        ("SELECT pg_catalog.set_config('App.Tenant', %s, FALSE)", Set, "app.tenant"),
        ("SELECT \"set_config\"('app.tenant', concat('a', 'b'), true)", Local, "app.tenant"),
        ("SELECT SET_CONFIG('app.tenant', '7', 't')", Local, "app.tenant"),
        ("SELECT set_config(%s, %s, %s)", Set, UNKNOWN),
        ("SELECT set_config('app.tenant', %s, %s)", Set, "app.tenant"),
        ("INSERT INTO t SELECT set_config('search_path', 'acme', false)", Set, "search_path"),
        ("/* hello */ SET search_path = acme", Set, "search_path"),
        ("SELECT pg_advisory_lock(1)", Hold, LOCK),
        ("SELECT pg_try_advisory_lock(1, 2)", Hold, LOCK),
        ("SELECT pg_advisory_lock_shared(1)", Hold, LOCK),
        ("SELECT pg_advisory_unlock(1)", Release, LOCK),
        ("SELECT pg_advisory_unlock_all()", ReleaseAll, LOCK),
        ("CREATE TEMPORARY TABLE t (id int)", Set, TEMPORARY),
        ("CREATE LOCAL TEMP TABLE t AS SELECT 1", Set, TEMPORARY),
        ("CREATE OR REPLACE TEMP VIEW v AS SELECT 1", Set, TEMPORARY),
        ("CREATE TABLE pg_temp.t (id int)", Set, TEMPORARY),
        ("SELECT * INTO TEMP t FROM u", Set, TEMPORARY),
        ("PREPARE p AS SELECT 1", Hold, PREPARED),
        ("DEALLOCATE p", Release, PREPARED),
        ("DEALLOCATE ALL", ReleaseAll, PREPARED),
        ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Hold, "cursor"),
        ("ROLLBACK TO SAVEPOINT s", Back, ""),
        ("DO $$ BEGIN PERFORM set_config('a.b', 'c', false); END $$", Set, UNKNOWN),
        ("DO $$ BEGIN SET\n search_path TO acme; END $$", Set, UNKNOWN),
        ("DO $a$BEGIN EXECUTE 'S' || 'ET search_path TO acme'; END$a$", Set, UNKNOWN),
        ("DO $$ BEGIN CALL choose(7); END $$", Set, UNKNOWN),
        ("DO $$ plpy.choose(7) $$ LANGUAGE plpython3u", Set, UNKNOWN),
        ("DO LANGUAGE plperl $$ choose(7) $$", Set, UNKNOWN),
        ("DO E'BEGIN S\\105T search_path TO acme; END'", Set, UNKNOWN),
        ("DO $$ BEGIN PERFORM U&\"\\0073et_config\"('a.b', 'c', false); END $$", Set, UNKNOWN),
        ("EXECUTE choose", Set, UNKNOWN),
        ("EXECUTE choose(7)", Set, UNKNOWN),
        ("EXPLAIN ANALYZE EXECUTE choose(7)", Set, UNKNOWN),
        ("CREATE TABLE t AS EXECUTE choose(7)", Set, UNKNOWN),
        ("CALL choose(7)", Set, UNKNOWN),
        ("SELECT 1; CALL choose(7)", Set, UNKNOWN),
        ("SELECT U&\"\\0073et_config\"('app.tenant', '7', false)", Set, UNKNOWN),
        ("UPDATE pg_settings SET setting = 'acme' WHERE name = 'search_path'", Set, UNKNOWN),
    ] {
        assert_eq!(done(sql, POSTGRESQL), one(action, name), "{sql}");
    }
}

#[test]
fn variables_of_mysql() {
    for (sql, action, name) in [
        ("USE acme", Set, "database"),
        ("SET sql_mode = ''", Set, "sql_mode"),
        ("SET SESSION sql_mode = 'ANSI'", Set, "sql_mode"),
        ("SET @@SESSION.sql_mode := 'ANSI'", Set, "sql_mode"),
        ("SET @@sql_mode = 'ANSI'", Set, "sql_mode"),
        ("SET LOCAL time_zone = '+09:00'", Set, "time_zone"),
        ("SET time_zone = DEFAULT", Reset, "time_zone"),
        ("SET @tenant = 7", Set, "@tenant"),
        ("SET @`tenant` := 7", Set, "@tenant"),
        ("SELECT @tenant := 7", Set, "@tenant"),
        ("SELECT id INTO @tenant FROM t LIMIT 1", Set, "@tenant"),
        ("SET ROLE acme", Set, "role"),
        ("CREATE TEMPORARY TABLE t (id int)", Set, TEMPORARY),
        ("SELECT GET_LOCK('a', 1)", Hold, LOCK),
        ("DO get_lock('a', 1)", Hold, LOCK),
        ("SELECT RELEASE_LOCK('a')", Release, LOCK),
        ("SELECT RELEASE_ALL_LOCKS()", ReleaseAll, LOCK),
        ("LOCK TABLES t READ", Hold, "tables"),
        ("UNLOCK TABLES", ReleaseAll, "tables"),
        ("FLUSH TABLES WITH READ LOCK", Hold, "tables"),
        ("PREPARE p FROM 'SELECT 1'", Hold, PREPARED),
        ("HANDLER t OPEN", Hold, "handler"),
        ("HANDLER t CLOSE", Release, "handler"),
        ("/*!40101 SET NAMES utf8 */", Set, UNKNOWN),
        ("/*!50000SET @tenant = 7*/", Set, UNKNOWN),
        ("/*M!100100 SET sql_mode = 'ANSI' */", Set, UNKNOWN),
        ("SELECT 7 /*! INTO @tenant */", Set, UNKNOWN),
        ("/*! USE acme */", Set, UNKNOWN),
        ("EXECUTE IMMEDIATE 'SET @tenant = 7'", Set, UNKNOWN),
        ("EXECUTE IMMEDIATE CONCAT('SET @ten', 'ant = 7')", Set, UNKNOWN),
        ("EXECUTE p", Set, UNKNOWN),
        ("EXECUTE p USING @a", Set, UNKNOWN),
        ("SELECT 1; EXECUTE p", Set, UNKNOWN),
        ("CALL choose(7)", Set, UNKNOWN),
        ("CALL `acme`.choose(7)", Set, UNKNOWN),
        ("SET STATEMENT max_statement_time = 1 FOR SET @tenant = 7", Set, "@tenant"),
        ("SET STATEMENT sort_buffer_size = (1), sql_mode = '' FOR SELECT GET_LOCK('a', 1)", Hold, LOCK),
        ("SET STATEMENT max_statement_time = 1 FOR EXECUTE IMMEDIATE 'SET @tenant = 7'", Set, UNKNOWN),
        ("SET STATEMENT max_statement_time = 1 FOR PREPARE p FROM 'SELECT 1'", Hold, PREPARED),
        ("SET STATEMENT max_statement_time = 1 FOR CREATE TEMPORARY TABLE t (id int)", Set, TEMPORARY),
        ("IF 1 THEN SET @tenant = 7", Set, UNKNOWN),
        ("GET DIAGNOSTICS @tenant = ROW_COUNT", Set, UNKNOWN),
        ("LOAD DATA INFILE 'a' INTO TABLE t (@tenant)", Set, "@?"),
    ] {
        assert_eq!(done(sql, MYSQL), one(action, name), "{sql}");
    }
    let several = done("SET @a = 1, SESSION sql_mode = CONCAT('A', ','), GLOBAL time_zone = 'UTC', @@x = 2", MYSQL);
    let names: Vec<&str> = several.iter().map(|(_, name, _)| name.as_str()).collect();
    assert_eq!(names, ["@a", "sql_mode", "x"]);
    assert_eq!(done("SET NAMES latin1", MYSQL).len(), 4);
    let into = done("SELECT 7, 8 INTO @a, @`b`", MYSQL);
    assert_eq!(into.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), ["@a", "@b"]);
    assert_eq!(done("BEGIN NOT ATOMIC IF 1 THEN SET @tenant = 7; END IF; END", MYSQL)[0], one(Set, UNKNOWN)[0]);
}

#[test]
fn a_procedure_that_is_said_to_be_harmless_changes_nothing() {
    let allowed = ["total".to_owned(), "reports.total".to_owned()];
    for dialect in [MYSQL, POSTGRESQL] {
        for sql in ["CALL total(7)", "call Reports.Total()", "CALL total"] {
            assert_eq!(changes(sql, dialect, &allowed), [], "{sql}");
        }
        for sql in ["CALL acme.total(7)", "CALL other()", "EXECUTE total", "CALL total(7); CALL other()"] {
            assert_eq!(changes(sql, dialect, &allowed).len(), 1, "{sql}");
        }
    }
}

#[test]
fn pragmas_and_other_files_of_sqlite() {
    for (sql, action, name) in [
        ("PRAGMA case_sensitive_like = ON", Set, "case_sensitive_like"),
        ("PRAGMA main.case_sensitive_like(1)", Set, "case_sensitive_like"),
        ("ATTACH DATABASE 'x' AS acme", Hold, "attached"),
        ("DETACH acme", Release, "attached"),
        ("CREATE TEMP TABLE t (id int)", Set, TEMPORARY),
        ("CREATE TABLE temp.t (id int)", Set, TEMPORARY),
    ] {
        assert_eq!(done(sql, SQLITE), one(action, name), "{sql}");
    }
}

#[test]
fn what_changes_no_meaning_is_told_apart() {
    for (sql, dialect) in [
        ("SET statement_timeout = 5000", POSTGRESQL),
        ("SET SESSION enable_seqscan = off", POSTGRESQL),
        ("LISTEN channel", POSTGRESQL),
        ("SET SESSION wait_timeout = 60", MYSQL),
        ("PRAGMA cache_size = 10", SQLITE),
    ] {
        let found = changes(sql, dialect, &[]);
        assert!(found.len() == 1 && !found[0].reads, "{sql}");
    }
}

#[test]
fn what_django_sends_in_passing_is_no_change() {
    for (sql, dialect) in [
        ("SET CONSTRAINTS ALL IMMEDIATE", POSTGRESQL),
        ("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", POSTGRESQL),
        ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", POSTGRESQL),
        ("SELECT pg_advisory_xact_lock(1)", POSTGRESQL),
        ("CREATE TEMP TABLE t (id int) ON COMMIT DROP", POSTGRESQL),
        ("CREATE TABLE temp (id int)", POSTGRESQL),
        ("PREPARE TRANSACTION 'x'", POSTGRESQL),
        ("DO $$ BEGIN CREATE TYPE mood AS ENUM ('sad'); EXCEPTION WHEN duplicate_object THEN null; END $$", POSTGRESQL),
        ("EXPLAIN ANALYZE SELECT 1", POSTGRESQL),
        ("ALTER TABLE t ALTER a SET DEFAULT 1", POSTGRESQL),
        ("GRANT EXECUTE ON FUNCTION f() TO me", POSTGRESQL),
        ("CREATE TRIGGER t AFTER INSERT ON a EXECUTE FUNCTION f()", POSTGRESQL),
        ("SELECT /*! STRAIGHT_JOIN */ a FROM b LIMIT 1 OFFSET 1", MYSQL),
        ("SET STATEMENT max_statement_time = 1 FOR SELECT 1", MYSQL),
        ("LOAD DATA INFILE 'a' INTO TABLE t (a)", MYSQL),
        ("REVOKE ALL ON a FROM 'me'@'%'", MYSQL),
        ("BEGIN", MYSQL),
        ("RESET MASTER", MYSQL),
        ("LOCK TABLE t IN SHARE MODE", POSTGRESQL),
        ("ROLLBACK", POSTGRESQL),
        ("SELECT 1", POSTGRESQL),
        ("SELECT a INTO b FROM c", POSTGRESQL),
        ("SET foreign_key_checks=0", MYSQL),
        ("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED", MYSQL),
        ("SET autocommit = 0", MYSQL),
        ("SET GLOBAL max_connections = 10", MYSQL),
        ("SET PERSIST max_connections = 10", MYSQL),
        ("SET @@GLOBAL.max_connections = 10", MYSQL),
        ("SET PASSWORD = 'x'", MYSQL),
        ("SET DEFAULT ROLE ALL TO me", MYSQL),
        ("SELECT 1 FROM t WHERE a >= 1 AND b != 2 AND @c <= 3", MYSQL),
        ("LOCK INSTANCE FOR BACKUP", MYSQL),
        ("PRAGMA foreign_keys = OFF", SQLITE),
        ("PRAGMA foreign_key_check(\"t\")", SQLITE),
        ("PRAGMA table_info(\"t\")", SQLITE),
        ("PRAGMA user_version", SQLITE),
    ] {
        assert_eq!(done(sql, dialect), [], "{sql}");
    }
}

#[test]
fn several_statements_at_once_are_read_in_order() {
    let found = done("SELECT 1; SET search_path = a; RESET search_path", POSTGRESQL);
    assert_eq!(found.iter().map(|change| change.0).collect::<Vec<_>>(), [Set, Reset]);
    assert_eq!(done("BEGIN; SET LOCAL search_path = a", POSTGRESQL), one(Local, "search_path"));
}

#[test]
fn what_cannot_be_read_counts_only_with_a_word_of_a_change() {
    assert_eq!(done("INSERT INTO t VALUES ('it\\'s')", MYSQL), []);
    assert_eq!(done("SELECT 'it\\'s', GET_LOCK('a', 1)", MYSQL), one(Set, UNKNOWN));
}

#[test]
fn the_quick_look_spares_what_is_sent_all_day() {
    for dialect in [MYSQL, POSTGRESQL, SQLITE] {
        for sql in [
            "SELECT \"app_item\".\"id\", app_item.search_path FROM app_item WHERE app_item.id = %s",
            "INSERT INTO app_item (name, set_by) VALUES (%s, %s)",
            "UPDATE app_item SET name = %s WHERE id = %s",
            "DELETE FROM app_item WHERE id IN (%s)",
            "SAVEPOINT s1",
            "RELEASE SAVEPOINT s1",
            "COMMIT; ",
        ] {
            assert!(!may_change(sql, dialect), "{sql} {dialect:?}");
        }
    }
}
