//! Statements that run other statements, and texts that do not show what they do.

use crate::sql::dialect::Dialect;
use crate::sql::lexer::Token;

use super::words::{contains, is, one_of, word};

/// Whether a name may be written with escapes, PostgreSQL's `U&"\0073et_config"`: the text does not show it.
pub fn has_escaped_name(sql: &str) -> bool {
    sql.contains("&\"")
}

/// Whether a word of a change stands in a text that cannot be read to its end, or in a block of statements.
pub fn has_word_of_change(sql: &str, dialect: Dialect) -> bool {
    #[rustfmt::skip]
    const WORDS: [&str; 18] = [
        "set", "reset", "set_config", "use", "execute", "prepare", "call", "discard", "lock", "temp", "temporary",
        "pg_temp", "load", "handler", "attach", "pragma", "pg_settings", "hold",
    ];
    let is_word_of_change = |word: &str| {
        // MySQL's executed comments: /*!50000SET.
        let word = word.trim_start_matches(|letter: char| letter.is_ascii_digit());
        one_of(word, &WORDS) || contains(word, "_lock")
    };
    let mut words = sql.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let has_variable = dialect.is_mysql() && sql.contains('@');
    has_variable || words.any(is_word_of_change) || has_escaped_name(sql)
}

/// Verbs of statements that change a session only by the functions and clauses that `Found::calls` knows, or not
/// at all.
#[rustfmt::skip]
pub const SHOWS_ALL: [&str; 53] = [
    "abort", "alter", "analyze", "change", "checkpoint", "close", "comment", "commit", "copy", "declare", "delete",
    "desc", "describe", "discard", "do", "drop", "end", "explain", "fetch", "flush", "grant", "handler", "insert",
    "install", "kill", "load", "lock", "merge", "move", "notify", "optimize", "prepare", "purge", "reassign",
    "refresh", "reindex", "release", "rename", "replace", "reset", "revoke", "rollback", "savepoint", "security",
    "select", "show", "start", "table", "truncate", "update", "vacuum", "values", "with",
];

/// Whether a SET is MariaDB's SET STATEMENT ... FOR.
pub fn is_for_statement(tokens: &[Token<'_>]) -> bool {
    word(tokens, 0).is_some_and(|first| is(first, "statement"))
        && !matches!(tokens.get(1), Some(Token::Equals | Token::Other))
}

/// The index of the FOR that ends the settings of a SET STATEMENT.
pub fn end_of_settings(tokens: &[Token<'_>]) -> Option<usize> {
    let mut depth = 0_u32;
    tokens.iter().position(|token| {
        match token {
            Token::Open => depth += 1,
            Token::Close => depth = depth.saturating_sub(1),
            _ => {}
        }
        depth == 0 && matches!(token, Token::Word(word) if is(word, "for"))
    })
}

/// Whether a table is created from the rows of a prepared statement.
pub fn runs_prepared(tokens: &[Token<'_>]) -> bool {
    tokens.windows(2).any(|pair| match pair {
        [Token::Word(before), Token::Word(verb)] => is(before, "as") && is(verb, "execute"),
        _ => false,
    })
}
