//! Statements that set something: SET and PRAGMA.

use super::dialect::Dialect;
use super::effects::{Effects, finish_after};
use super::lexer::{Lexer, Token};
use super::surroundings::{Opens, Surroundings};

/// SET: it concerns the session alone, except for a few words. MySQL's `autocommit` decides whether every statement
/// opens a transaction.
pub fn set(lexer: &mut Lexer<'_>, dialect: Dialect) -> (Option<Effects>, bool) {
    let mut effects = Effects::default();
    let mut around = Surroundings::new();
    loop {
        let token = lexer.next();
        match token {
            Token::End => return (Some(effects), true),
            Token::Semicolon => return (Some(effects), false),
            Token::Unsure => effects = effects.then(Effects::UNKNOWN),
            Token::Open => effects.writes |= around.opens(lexer, dialect) == Opens::Call,
            Token::Word(word) if dialect.is_mysql() && word.eq_ignore_ascii_case("autocommit") => {
                effects = effects.then(autocommit(lexer));
            }
            Token::Word(word) => {
                let far = ["global", "persist", "persist_only", "password", "select", "statement"];
                // MySQL's SET DEFAULT ROLE is stored; PostgreSQL's SET ROLE is the session's.
                let role = dialect != Dialect::PostgreSql && word.eq_ignore_ascii_case("role");
                // Sequences of MariaDB: NEXT VALUE FOR, and in Oracle's mode sequence.nextval.
                effects.writes |= word.eq_ignore_ascii_case("nextval")
                    || (word.eq_ignore_ascii_case("for") && around.is_after_next_value());
                if role || far.iter().any(|known| word.eq_ignore_ascii_case(known)) {
                    effects = effects.then(Effects::UNKNOWN);
                }
            }
            _ => {}
        }
        effects.writes |= !around.follow(token);
    }
}

/// After the word AUTOCOMMIT in a SET: whether it is assigned, and what. A value that cannot be read may turn it off,
/// and may turn it on, which commits.
fn autocommit(lexer: &mut Lexer<'_>) -> Effects {
    let mut ahead = lexer.clone();
    let mut token = ahead.next();
    if token == Token::Other {
        // The colon of `:=`.
        token = ahead.next();
    }
    if token != Token::Equals {
        // Only mentioned: @old = @@autocommit.
        return Effects::default();
    }
    let value = ahead.next();
    *lexer = ahead;
    let is = |words: &[&str]| matches!(value, Token::Word(word) if words.iter().any(|known| word.eq_ignore_ascii_case(known)));
    match value {
        Token::Number("0") => Effects { autocommit: Some(false), ..Effects::default() },
        Token::Number("1") => Effects { autocommit: Some(true), ..Effects::default() },
        _ if is(&["off", "false"]) => Effects { autocommit: Some(false), ..Effects::default() },
        _ if is(&["on", "true"]) => Effects { autocommit: Some(true), ..Effects::default() },
        _ => Effects { autocommit: Some(false), commits: true, at_once: true, ..Effects::default() },
    }
}

/// Whether a PRAGMA of SQLite only queries, or sets what concerns this connection alone. `alone`: nothing follows its
/// name.
pub fn pragma_reads(name: &str, alone: bool) -> bool {
    const OWN: [&str; 9] = [
        "foreign_keys",
        "legacy_alter_table",
        "defer_foreign_keys",
        "query_only",
        "busy_timeout",
        "cache_size",
        "synchronous",
        "temp_store",
        "recursive_triggers",
    ];
    const ASKING: [&str; 11] = [
        "function_list",
        "quick_check",
        "table_info",
        "table_xinfo",
        "table_list",
        "index_info",
        "index_xinfo",
        "index_list",
        "foreign_key_list",
        "foreign_key_check",
        "integrity_check",
    ];
    // Without a value these query; others (optimize, incremental_vacuum) act.
    const ASKING_ALONE: [&str; 26] = [
        "page_size",
        "locking_mode",
        "auto_vacuum",
        "mmap_size",
        "max_page_count",
        "cache_spill",
        "secure_delete",
        "wal_autocheckpoint",
        "journal_size_limit",
        "analysis_limit",
        "read_uncommitted",
        "automatic_index",
        "trusted_schema",
        "user_version",
        "application_id",
        "schema_version",
        "data_version",
        "journal_mode",
        "page_count",
        "freelist_count",
        "encoding",
        "database_list",
        "compile_options",
        "pragma_list",
        "collation_list",
        "module_list",
    ];
    let known = |names: &[&str]| names.iter().any(|known| known.eq_ignore_ascii_case(name));
    known(&OWN) || known(&ASKING) || (alone && known(&ASKING_ALONE))
}

/// PRAGMA: a read if [`pragma_reads`] says so.
pub fn pragma(lexer: &mut Lexer<'_>) -> (Option<Effects>, bool) {
    let name = match lexer.next() {
        Token::Word(name) => name,
        token => return finish_after(lexer, token, Effects::UNKNOWN),
    };
    let token = lexer.next();
    let reads = pragma_reads(name, matches!(token, Token::End | Token::Semicolon));
    finish_after(lexer, token, Effects { writes: !reads, ..Effects::default() })
}
