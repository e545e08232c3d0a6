//! The changes that a statement makes to its session: the settings, temporary tables, locks and prepared statements
//! that later statements of the same session find, and that a session with another server lacks.
//!
//! One rule holds: **a change that the text shows is never missed**. A text that cannot be read to its end counts as a
//! change if it contains a word of such a change. A statement that runs other statements, which its text does not show
//! (EXECUTE, CALL), always counts as one. The body of a user's function or trigger is not considered.

mod change;
mod found;
mod harmless;
mod indirect;
mod words;

use super::dialect::Dialect;
use super::lexer::{Lexer, Token};

pub use change::{Action, Change};
use found::Found;
use words::{contains, is, one_of};

/// Whether `sql` may change its session. A quick check that answers no for most statements.
#[must_use]
pub fn may_change(sql: &str, dialect: Dialect) -> bool {
    let dialect = family(dialect);
    let mut lexer = Lexer::new(sql, dialect);
    let first = loop {
        match lexer.next() {
            Token::Open | Token::Semicolon => {}
            token => break token,
        }
    };
    let Token::Word(word) = first else { return first != Token::End };
    match word.len() {
        4 if one_of(word, &["show", "move", "drop"]) => has_word_of_change(sql, dialect),
        4 | 7 | 8 if one_of(word, &["desc", "explain", "analyze", "describe"]) => {
            contains(sql, "execute") || has_word_of_change(sql, dialect)
        }
        4 if is(word, "with") => has_word_of_change(sql, dialect),
        5 if one_of(word, &["table", "merge", "fetch", "close", "alter", "grant"]) => has_word_of_change(sql, dialect),
        5 if is(word, "begin") => dialect == Dialect::MySql || sql.contains(';'),
        6 if one_of(word, &["select", "insert", "update", "delete", "values", "commit"]) => {
            has_word_of_change(sql, dialect)
        }
        7 if one_of(word, &["replace", "release", "comment"]) => has_word_of_change(sql, dialect),
        8 if is(word, "truncate") => has_word_of_change(sql, dialect),
        9 if is(word, "savepoint") => has_word_of_change(sql, dialect),
        _ => true,
    }
}

/// The dialect that stands for all whose statements change a session in the same ways.
fn family(dialect: Dialect) -> Dialect {
    if dialect.is_mysql() { Dialect::MySql } else { dialect }
}

/// Whether something in a text may change the session, whatever the first word is.
fn has_word_of_change(sql: &str, dialect: Dialect) -> bool {
    let statement_follows = || sql.find(';').is_some_and(|at| sql[at + 1..].bytes().any(|byte| byte > b' '));
    let into = |words: &[&str]| {
        let bytes = sql.as_bytes();
        // The words of this list have an underscore: there are few of them in a text of parameters.
        sql.match_indices('_').any(|(at, _)| {
            words.iter().any(|word| {
                let before = word.find('_').unwrap_or(0);
                at.checked_sub(before)
                    .and_then(|start| bytes.get(start..start + word.len()))
                    .is_some_and(|found| found.eq_ignore_ascii_case(word.as_bytes()))
            })
        })
    };
    match dialect {
        Dialect::MySql | Dialect::MariaDb => {
            sql.contains(":=")
                || sql.contains("/*!")
                || sql.contains("/*M!")
                || (sql.contains('@') && contains(sql, "into"))
                || into(&["get_lock", "release_lock", "release_all_locks"])
                || statement_follows()
        }
        Dialect::PostgreSql => {
            into(&["set_config", "_advisory_lock", "_advisory_unlock", "pg_settings"])
                || (contains(sql, "into") && contains(sql, "temp"))
                || indirect::has_escaped_name(sql)
                || statement_follows()
        }
        Dialect::Sqlite => statement_follows(),
        Dialect::Other => into(&["set_config", "get_lock", "_advisory_"]) || statement_follows(),
    }
}

/// The changes that `sql` makes to its session, in order.
///
/// `allowed` are procedures that are known to change no session, in lower case and as they are called: `"p"`, `"schema.p"`.
#[must_use]
pub fn changes(sql: &str, dialect: Dialect, allowed: &[String]) -> Vec<Change> {
    let dialect = family(dialect);
    let mut found = Found { dialect, allowed, changes: Vec::new() };
    let mut lexer = Lexer::new(sql, dialect);
    loop {
        let mut tokens = Vec::new();
        let mut token = lexer.next();
        // Parentheses before a statement.
        while token == Token::Open {
            token = lexer.next();
        }
        while !matches!(token, Token::End | Token::Semicolon | Token::Unsure) {
            tokens.push(token);
            token = lexer.next();
        }
        found.statement(sql, &tokens);
        match token {
            Token::Unsure => {
                found.unsure(sql);
                // The lexer continues after an executed comment; after any other unsure text it is at the end.
                if lexer.clone().next() == Token::End {
                    return found.changes;
                }
            }
            Token::End => return found.changes,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests;
