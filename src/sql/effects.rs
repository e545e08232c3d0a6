//! The effects of a text, as far as they are known.

use super::lexer::{Lexer, Token};

/// The effects of a text, as far as they are known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one machine")]
pub struct Effects {
    /// It is not surely a read: data or schema may have changed.
    pub writes: bool,
    /// It takes row locks.
    pub locks: bool,
    /// Its writes may be committed at once, even inside a transaction (MySQL's DDL, procedures).
    pub at_once: bool,
    /// A transaction is open after it.
    pub begins: bool,
    /// It commits, or (SQLite's RELEASE) may do so: its driver knows.
    pub commits: bool,
    /// It rolls back as a whole, not to a savepoint.
    pub rolls_back: bool,
    /// It turns the server's own autocommit off or on (MySQL's `SET autocommit`).
    pub autocommit: Option<bool>,
}

impl Effects {
    pub(super) const NONE: Self = Self {
        writes: false,
        locks: false,
        at_once: false,
        begins: false,
        commits: false,
        rolls_back: false,
        autocommit: None,
    };
    pub(super) const UNKNOWN: Self = Self { writes: true, at_once: true, ..Self::NONE };

    /// The effects of this text followed by `next`.
    pub(super) fn then(self, next: Self) -> Self {
        let controls = next.begins || next.commits || next.rolls_back;
        Self {
            writes: self.writes || next.writes,
            locks: self.locks || next.locks,
            // Effects inside and outside of a transaction are not distinguished in a text of several statements.
            at_once: self.at_once || next.at_once || (self.writes && controls) || (self.begins && next.writes),
            begins: if controls { next.begins } else { self.begins },
            commits: self.commits || next.commits,
            rolls_back: self.rolls_back || next.rolls_back,
            autocommit: next.autocommit.or(self.autocommit),
        }
    }
}

/// Reads to the end of a statement that has these effects, and begins with `token`.
pub(super) fn finish_after<'a>(
    lexer: &mut Lexer<'a>,
    mut token: Token<'a>,
    mut effects: Effects,
) -> (Option<Effects>, bool) {
    loop {
        match token {
            Token::End => return (Some(effects), true),
            Token::Semicolon => return (Some(effects), false),
            // An executed comment, or text that cannot be read, may do anything.
            Token::Unsure => effects = effects.then(Effects::UNKNOWN),
            _ => {}
        }
        token = lexer.next();
    }
}
