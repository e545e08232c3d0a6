//! Whether a statement reads or writes.
//!
//! Every write must be detected when it happens, whatever code sent it. Where the server does not report it, the text
//! has to tell, and then one rule holds: **what is not surely a read counts as a write**. Counting too much costs a few
//! reads on the primary; missing one costs a stale page.
//!
//! The text is read by a lexer, not by regular expressions: comments nest, strings hold keywords, and MySQL executes
//! some comments. See [`analyse`].

use super::dialect::{Dialect, LONGEST_TEXT};
use super::effects::{Effects, finish_after};
use super::lexer::{Lexer, Token};
use super::set_and_pragma as settings;
use super::surroundings::{Opens, Surroundings};

/// The effects of `sql`. Linear in its length; a single INSERT, UPDATE or DELETE is recognised by its first word.
#[must_use]
pub fn analyse(sql: &str, dialect: Dialect) -> Effects {
    let mut lexer = Lexer::new(sql, dialect);
    if sql.len() > LONGEST_TEXT {
        return too_long(&mut lexer);
    }
    let mut all: Option<Effects> = None;
    loop {
        let (effects, ended) = one(&mut lexer, dialect);
        if let Some(effects) = effects {
            all = Some(all.map_or(effects, |before| before.then(effects)));
        }
        if ended {
            return all.unwrap_or_default();
        }
    }
}

/// The effects of a text that is too long to be read to its end: a single INSERT is still recognised.
fn too_long(lexer: &mut Lexer<'_>) -> Effects {
    if matches!(lexer.next(), Token::Word(word) if Keyword::of(word) == Keyword::Change)
        && lexer.skip_statement() == Token::End
    {
        Effects { writes: true, ..Effects::NONE }
    } else {
        Effects::UNKNOWN
    }
}

/// The first word of `sql` in capitals, for messages: `"INSERT"`. Empty if the text does not begin with a word.
#[must_use]
pub fn verb(sql: &str, dialect: Dialect) -> String {
    let mut lexer = Lexer::new(sql, dialect);
    loop {
        match lexer.next() {
            Token::Open | Token::Semicolon => {}
            Token::Word(word) => return word.to_uppercase(),
            _ => return String::new(),
        }
    }
}

/// Reads one statement; `None` for an empty one. The second value says whether the text ended.
fn one(lexer: &mut Lexer<'_>, dialect: Dialect) -> (Option<Effects>, bool) {
    let first = loop {
        match lexer.next() {
            Token::End => return (None, true),
            Token::Semicolon => return (None, false),
            Token::Open => {}
            token => break token,
        }
    };
    let Token::Word(word) = first else { return finish(lexer, Effects::UNKNOWN) };
    let keyword = Keyword::of(word);
    match keyword {
        Keyword::Query => query(lexer, dialect),
        Keyword::Change => finish(lexer, Effects { writes: true, ..Effects::default() }),
        Keyword::Show | Keyword::Cursor => finish(lexer, Effects::default()),
        Keyword::Explain => explain(lexer, dialect),
        Keyword::Set => settings::set(lexer, dialect),
        Keyword::Pragma => settings::pragma(lexer),
        Keyword::Begin => match lexer.next() {
            // MariaDB's BEGIN NOT ATOMIC is a block of statements.
            Token::Word(word) if dialect.is_mysql() && !word.eq_ignore_ascii_case("work") => {
                finish(lexer, Effects::UNKNOWN)
            }
            token => finish_after(lexer, token, begin(dialect)),
        },
        Keyword::Start => match lexer.next() {
            Token::Word(word) if word.eq_ignore_ascii_case("transaction") => finish(lexer, begin(dialect)),
            token => finish_after(lexer, token, Effects::UNKNOWN),
        },
        Keyword::Commit | Keyword::Rollback => end_of_transaction(lexer, keyword == Keyword::Commit),
        Keyword::Savepoint => {
            // Outside a transaction SQLite begins one with SAVEPOINT, and commits it with the matching RELEASE.
            let begins = dialect == Dialect::Sqlite && word.eq_ignore_ascii_case("savepoint");
            let commits = dialect == Dialect::Sqlite && word.eq_ignore_ascii_case("release");
            finish(lexer, Effects { begins, commits, ..Effects::default() })
        }
        Keyword::Xa => xa(lexer),
        // MySQL's RESET drops binary logs and replication settings.
        Keyword::Reset if dialect == Dialect::PostgreSql => finish(lexer, Effects::default()),
        Keyword::Schema if matches!(dialect, Dialect::PostgreSql | Dialect::Sqlite) => {
            finish(lexer, Effects { writes: true, ..Effects::default() })
        }
        Keyword::Schema | Keyword::Reset | Keyword::Other => finish(lexer, Effects::UNKNOWN),
    }
}

/// A transaction begins; on MySQL and MariaDB that commits the one that is open.
fn begin(dialect: Dialect) -> Effects {
    Effects { begins: true, commits: dialect.is_mysql(), ..Effects::default() }
}

/// The first words that matter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keyword {
    Query,
    Change,
    Schema,
    Show,
    Explain,
    Cursor,
    Reset,
    Set,
    Pragma,
    Begin,
    Start,
    Commit,
    Rollback,
    Savepoint,
    Xa,
    Other,
}

impl Keyword {
    fn of(word: &str) -> Self {
        const WORDS: [(&str, Keyword); 36] = [
            ("select", Keyword::Query),
            ("with", Keyword::Query),
            ("values", Keyword::Query),
            ("table", Keyword::Query),
            ("declare", Keyword::Query),
            ("insert", Keyword::Change),
            ("update", Keyword::Change),
            ("delete", Keyword::Change),
            ("replace", Keyword::Change),
            ("merge", Keyword::Change),
            ("copy", Keyword::Change),
            ("create", Keyword::Schema),
            ("alter", Keyword::Schema),
            ("drop", Keyword::Schema),
            ("truncate", Keyword::Schema),
            ("show", Keyword::Show),
            ("explain", Keyword::Explain),
            ("describe", Keyword::Explain),
            ("desc", Keyword::Explain),
            ("fetch", Keyword::Cursor),
            ("move", Keyword::Cursor),
            ("close", Keyword::Cursor),
            ("use", Keyword::Cursor),
            ("reset", Keyword::Reset),
            ("set", Keyword::Set),
            ("pragma", Keyword::Pragma),
            ("begin", Keyword::Begin),
            ("start", Keyword::Start),
            ("commit", Keyword::Commit),
            ("end", Keyword::Commit),
            ("rollback", Keyword::Rollback),
            ("abort", Keyword::Rollback),
            ("savepoint", Keyword::Savepoint),
            ("release", Keyword::Savepoint),
            ("xa", Keyword::Xa),
            ("analyze", Keyword::Schema),
        ];
        WORDS.iter().find(|(known, _)| known.eq_ignore_ascii_case(word)).map_or(Self::Other, |&(_, keyword)| keyword)
    }
}

/// Skips the rest of a statement if its first words told enough.
fn finish(lexer: &mut Lexer<'_>, effects: Effects) -> (Option<Effects>, bool) {
    let token = lexer.skip_statement();
    finish_after(lexer, token, effects)
}

/// SELECT and similar queries: a read, unless a word or a function in it says otherwise.
fn query(lexer: &mut Lexer<'_>, dialect: Dialect) -> (Option<Effects>, bool) {
    let mut effects = Effects::default();
    let mut around = Surroundings::new();
    loop {
        let token = lexer.next();
        match token {
            Token::End => return (Some(effects), true),
            Token::Semicolon => return (Some(effects), false),
            Token::Unsure => effects = effects.then(Effects::UNKNOWN),
            Token::Open => effects.writes |= around.opens(lexer, dialect) == Opens::Call,
            Token::Word(word) => match word.len() {
                3 if word.eq_ignore_ascii_case("for") => {
                    effects.locks |= lexer.lock_that_follows().is_some();
                    effects.writes |= around.is_after_next_value();
                }
                4 if word.eq_ignore_ascii_case("lock") => effects.locks = true,
                4 if word.eq_ignore_ascii_case("into") || word.eq_ignore_ascii_case("call") => effects.writes = true,
                5 if word.eq_ignore_ascii_case("merge") => effects.writes = true,
                6 => {
                    let verbs = ["insert", "update", "delete"];
                    effects.writes |= verbs.iter().any(|verb| word.eq_ignore_ascii_case(verb));
                }
                // MariaDB in Oracle's mode: sequence.nextval.
                7 if word.eq_ignore_ascii_case("nextval") => effects.writes = true,
                _ => {}
            },
            _ => {}
        }
        // Nested so deep that the called function cannot be determined.
        effects.writes |= !around.follow(token);
    }
}

/// EXPLAIN: a read, unless it runs (ANALYZE) what is not one.
fn explain(lexer: &mut Lexer<'_>, dialect: Dialect) -> (Option<Effects>, bool) {
    const READS: [&str; 4] = ["select", "with", "values", "table"];
    const OTHERS: [&str; 10] =
        ["insert", "update", "delete", "merge", "replace", "create", "execute", "declare", "refresh", "call"];
    let one_of = |word: &str, known: &[&str]| known.iter().any(|known| word.eq_ignore_ascii_case(known));
    let mut ahead = lexer.clone();
    // PostgreSQL takes the names of options in quotes, too: EXPLAIN ("analyze") DELETE.
    let mut has_quoted_option = false;
    let explained = loop {
        match ahead.next() {
            Token::Word(word) if one_of(word, &READS) => break true,
            Token::Word(word) if one_of(word, &OTHERS) => break false,
            Token::Quoted(_) => has_quoted_option = !dialect.is_mysql(),
            Token::End | Token::Semicolon => break false,
            _ => {}
        }
    };
    let (effects, ended) = query(lexer, dialect);
    let effects = effects.unwrap_or_default();
    let executes = lexer.saw_analyse() || has_quoted_option;
    let effects = match (executes, explained && !effects.writes) {
        (false, _) => Effects::default(),
        (true, true) => Effects { locks: effects.locks, ..Effects::default() },
        (true, false) => Effects::UNKNOWN,
    };
    (Some(effects), ended)
}

/// COMMIT, END, ROLLBACK, ABORT, with AND CHAIN, TO SAVEPOINT or PREPARED.
fn end_of_transaction(lexer: &mut Lexer<'_>, commit: bool) -> (Option<Effects>, bool) {
    let mut effects = Effects { commits: commit, rolls_back: !commit, ..Effects::default() };
    let mut no = false;
    loop {
        match lexer.next() {
            Token::End => return (Some(effects), true),
            Token::Semicolon => return (Some(effects), false),
            Token::Unsure => effects = effects.then(Effects::UNKNOWN),
            Token::Word(word) if word.eq_ignore_ascii_case("no") => no = true,
            Token::Word(word) if word.eq_ignore_ascii_case("chain") => effects.begins = !no,
            Token::Word(word) if !commit && word.eq_ignore_ascii_case("to") => effects.rolls_back = false,
            // The prepared transaction of another session: its writes become visible here and now.
            Token::Word(word) if word.eq_ignore_ascii_case("prepared") => effects = Effects::UNKNOWN,
            _ => {}
        }
    }
}

/// MySQL's distributed transactions. A transaction that was prepared may be committed by any session at any time.
fn xa(lexer: &mut Lexer<'_>) -> (Option<Effects>, bool) {
    let effects = match lexer.next() {
        Token::Word(word) if ["start", "begin"].iter().any(|known| word.eq_ignore_ascii_case(known)) => {
            Effects { begins: true, ..Effects::default() }
        }
        Token::Word(word) if word.eq_ignore_ascii_case("end") => Effects { begins: true, ..Effects::default() },
        Token::Word(word) if word.eq_ignore_ascii_case("rollback") => {
            Effects { rolls_back: true, ..Effects::default() }
        }
        _ => Effects { commits: true, ..Effects::UNKNOWN },
    };
    finish(lexer, effects)
}

#[cfg(test)]
mod tests;
