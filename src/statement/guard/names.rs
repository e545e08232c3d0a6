//! Names as they are written: `f`, `schema.f`, `"schema"."f"`.

use std::fmt;

use super::super::Dialect;
use super::super::lexer::Token;

/// Whether a word is a keyword or a name, which SQL compares without regard to case.
pub fn is(word: &str, known: &str) -> bool {
    word.eq_ignore_ascii_case(known)
}

impl Token<'_> {
    /// Whether this is the bare word `known`.
    pub fn is_word(&self, known: &str) -> bool {
        matches!(self, Token::Word(word) if is(word, known))
    }
}

/// The name that is being read, part by part.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    parts: [Token<'a>; 3],
    length: usize,
    /// What stands before it.
    pub before: Token<'a>,
}

impl Default for Path<'_> {
    fn default() -> Self {
        Self { parts: [Token::Other; 3], length: 0, before: Token::Semicolon }
    }
}

impl<'a> Path<'a> {
    /// Reads one token on.
    pub fn follow(&mut self, token: Token<'a>, last: Token<'a>) {
        match token {
            Token::Dot if matches!(last, Token::Word(_) | Token::Quoted(_)) => {}
            Token::Word(_) | Token::Quoted(_) => {
                if last != Token::Dot {
                    self.length = 0;
                    self.before = last;
                }
                if let Some(part) = self.parts.get_mut(self.length) {
                    *part = token;
                }
                self.length += 1;
            }
            _ => self.length = 0,
        }
    }

    /// How many parts it has.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Its last part; `None` if no name was read.
    pub fn name(&self) -> Option<Token<'a>> {
        self.length.checked_sub(1).map(|last| self.parts.get(last).copied().unwrap_or(Token::Other))
    }

    /// Whether what it names is the server's own: nothing qualifies it, or PostgreSQL's own schemas do.
    pub fn is_the_servers_own(&self, dialect: Dialect) -> bool {
        match self.parts {
            [_, ..] if self.length == 1 => true,
            [schema, _, _] if self.length == 2 && dialect == Dialect::PostgreSql => {
                schema.is_word("pg_catalog") || schema == Token::Quoted("pg_catalog")
            }
            _ => false,
        }
    }
}

impl fmt::Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, part) in self.parts.iter().take(self.length).enumerate() {
            if number > 0 {
                f.write_str(".")?;
            }
            match part {
                Token::Word(name) | Token::Quoted(name) => f.write_str(name)?,
                _ => f.write_str("?")?,
            }
        }
        Ok(())
    }
}
