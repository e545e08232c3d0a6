//! The surroundings of a parenthesis, and whether the parenthesis may call a function.
//!
//! A name before a parenthesis is a keyword only where the grammar of the dialect cannot read it as the name of a
//! function. A keyword of one server is the name of a user's own function on another.

use std::fmt;

use super::dialect::Dialect;
use super::lexer::{Lexer, Token};
use super::{functions, keywords};

/// How many parentheses may be open at once. Text that is nested deeper is not read, and is not surely a read.
pub const DEEPEST: u32 = 127;

/// The part of a query that is being read at one depth, as far as it matters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Clause {
    /// Any other.
    #[default]
    Other,
    /// The list of a WITH, before the statement that it belongs to.
    With,
    /// A parenthesis that holds a statement: `WITH x AS (`, `COPY (`.
    Statement,
    /// FROM, with its joins.
    From,
    /// GROUP BY.
    GroupBy,
}

/// The construct that a parenthesis begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opens {
    /// No call: an expression, a query, a list, the length of a type.
    Nothing,
    /// The call of a function that is known neither to write nor to lock.
    HarmlessCall,
    /// Perhaps the call of any other function.
    Call,
}

/// The last tokens of a statement, and their depth in parentheses.
#[derive(Clone, Debug)]
pub struct Surroundings<'a> {
    /// The last token; `Other` after a parenthesis that an expression follows.
    pub last: Token<'a>,
    /// The name that was read last, part by part, if nothing has followed it yet.
    parts: [Token<'a>; 3],
    length: usize,
    /// The token before that name, and the one before that.
    pub before: Token<'a>,
    before_that: Token<'a>,
    /// How many parentheses are open.
    pub depth: u32,
    /// The depths, as bits, at which a parenthesis is open that an expression follows: DISTINCT ON (...),
    /// OPERATOR(...).
    expression_follows: u128,
    /// The clause that is being read, by depth.
    clauses: [Clause; DEEPEST as usize + 1],
}

impl<'a> Surroundings<'a> {
    pub fn new() -> Self {
        Self {
            last: Token::Semicolon,
            parts: [Token::Other; 3],
            length: 0,
            before: Token::Semicolon,
            before_that: Token::Semicolon,
            depth: 0,
            expression_follows: 0,
            clauses: [Clause::Other; DEEPEST as usize + 1],
        }
    }

    /// Remembers a token. `false` if it opens one parenthesis too many.
    pub fn follow(&mut self, token: Token<'a>) -> bool {
        match token {
            Token::Word(_) | Token::Quoted(_) => {
                if let Token::Word(word) = token {
                    self.begin_clause(word);
                }
                if self.last != Token::Dot {
                    self.length = 0;
                    self.before_that =
                        if matches!(self.last, Token::Word(_) | Token::Quoted(_)) { self.before } else { Token::Other };
                    self.before = self.last;
                }
                if let Some(part) = self.parts.get_mut(self.length) {
                    *part = token;
                }
                self.length += 1;
            }
            Token::Dot if matches!(self.last, Token::Word(_) | Token::Quoted(_)) => {}
            Token::Open => {
                self.length = 0;
                if self.depth == DEEPEST {
                    return false;
                }
                self.depth += 1;
                self.set_clause(Clause::Other);
            }
            Token::Close => {
                self.length = 0;
                self.depth = self.depth.saturating_sub(1);
                if self.expression_follows & self.bit() != 0 {
                    self.expression_follows &= !self.bit();
                    self.last = Token::Other;
                    return true;
                }
            }
            _ => self.length = 0,
        }
        self.last = token;
        true
    }

    fn bit(&self) -> u128 {
        1 << self.depth
    }

    /// The clause that is being read.
    pub fn clause(&self) -> Clause {
        self.clauses[self.depth as usize]
    }

    /// Sets the clause that is being read from here on.
    pub fn set_clause(&mut self, clause: Clause) {
        self.clauses[self.depth as usize] = clause;
    }

    fn begin_clause(&mut self, word: &str) {
        let clause = match word.len() {
            2 if is(word, "by") && self.last.is_word("group") => Clause::GroupBy,
            4 if is(word, "from") => Clause::From,
            5 if ["where", "group", "order", "limit", "union", "fetch"].iter().any(|known| is(word, known)) => {
                Clause::Other
            }
            6 if ["select", "having", "offset", "window", "except"].iter().any(|known| is(word, known)) => {
                Clause::Other
            }
            9 if is(word, "intersect") => Clause::Other,
            _ => return,
        };
        if self.last != Token::Dot && self.clause() != Clause::With {
            self.set_clause(clause);
        }
    }

    /// Whether NEXT VALUE was read last, which FOR and the name of a sequence follow. PREVIOUS VALUE only reads.
    pub fn is_after_next_value(&self) -> bool {
        self.last.is_word("value") && !self.before.is_word("previous")
    }

    /// The last part of the name that was read last; `None` if no name was.
    pub fn name(&self) -> Option<Token<'a>> {
        self.length.checked_sub(1).map(|last| self.parts.get(last).copied().unwrap_or(Token::Other))
    }

    /// Judges an opening parenthesis that the lexer has just read.
    pub fn opens(&mut self, lexer: &Lexer<'a>, dialect: Dialect) -> Opens {
        match self.name() {
            None => return Opens::Nothing,
            Some(Token::Word(word)) if self.length == 1 => {
                if is(word, "on") && self.before.is_word("distinct")
                    || dialect == Dialect::PostgreSql && is(word, "operator") && is_operators_name(lexer.clone())
                {
                    self.expression_follows |= self.bit();
                    return Opens::Nothing;
                }
                if keywords::calls_nothing(word, dialect) {
                    return Opens::Nothing;
                }
                if self.is_harmless(lexer, dialect) {
                    return Opens::HarmlessCall;
                }
                if self.is_keyword_here(word, dialect) {
                    return Opens::Nothing;
                }
            }
            Some(_) if self.is_harmless(lexer, dialect) => return Opens::HarmlessCall,
            // FROM ... AS "name" (columns), CAST(... AS schema.type(length)), ...::schema.type(length).
            Some(_) if self.before.is_word("as") || self.before == Token::Cast => return Opens::Nothing,
            Some(_) => {}
        }
        Opens::Call
    }

    /// Whether a word that is the name of a function elsewhere is a keyword, a type or an alias here.
    fn is_keyword_here(&self, word: &str, dialect: Dialect) -> bool {
        let before = self.before;
        // FROM ... AS name (columns), CAST(... AS type(length)), ...::type(length).
        if before.is_word("as") || before == Token::Cast {
            return true;
        }
        let before_words = |words: &[&str]| words.iter().any(|known| before.is_word(known));
        let after_operand =
            || ends_operand(before, dialect) || (before.is_word("not") && ends_operand(self.before_that, dialect));
        match (word.to_ascii_lowercase().as_str(), dialect) {
            ("by", _) => before_words(&["order", "group", "partition"]),
            ("over", _) => before == Token::Close || before_words(&["nulls"]),
            ("filter" | "overlaps" | "repeatable" | "against", _) => before == Token::Close,
            ("materialized", _) => before.is_word("not") && self.before_that.is_word("as"),
            ("zone", _) => before.is_word("time"),
            ("first" | "next", _) => before.is_word("fetch"),
            ("of", _) => before.is_word("member"),
            ("sets", _) => before.is_word("grouping"),
            ("system" | "bernoulli", _) => before.is_word("tablesample"),
            ("varying", _) => before_words(&["character", "char", "nchar", "bit"]),
            ("rollup", _) => {
                self.clause() == Clause::GroupBy
                    && (before_words(&["by", "all", "distinct"]) || matches!(before, Token::Comma | Token::Open))
            }
            // interval second(3), day to second(3), '1' second(3).
            ("second", Dialect::PostgreSql) => before_words(&["interval", "to"]) || matches!(before, Token::Text(_)),
            ("json_table", _) => {
                before_words(&["from", "join"]) || (before == Token::Comma && self.clause() == Clause::From)
            }
            ("like" | "ilike", Dialect::PostgreSql | Dialect::Other) => after_operand(),
            ("join" | "escape" | "columns" | "value" | "passing" | "offset", _) => ends_operand(before, dialect),
            _ => false,
        }
    }

    /// Whether a FROM item precedes the name, so that a parenthesis after the name lists its columns: `FROM (...) name
    /// (columns)`, `WITH ORDINALITY name (columns)`, for PostgreSQL also `FROM table name (columns)`. No expression
    /// follows another one directly.
    pub fn may_be_alias(&self, dialect: Dialect) -> bool {
        if self.length != 1 {
            return false;
        }
        match self.before {
            Token::Close => true,
            Token::Word(word) if is(word, "ordinality") => true,
            Token::Word(_) | Token::Quoted(_) => {
                dialect == Dialect::PostgreSql
                    && self.clause() == Clause::From
                    && ends_operand(self.before, dialect)
                    && (self.before_that == Token::Comma
                        || ["from", "join", "only"].iter().any(|known| self.before_that.is_word(known)))
            }
            _ => false,
        }
    }

    /// Whether the function that is called is known neither to write nor to lock.
    fn is_harmless(&self, lexer: &Lexer<'a>, dialect: Dialect) -> bool {
        match self.parts {
            [name, _, _] if self.length == 1 => match name {
                Token::Word(name) => {
                    functions::is_harmless(name, dialect)
                        // `count (1)` is a user's own function for MySQL, unlike `count(1)`.
                        && (lexer.is_adjacent() || !functions::must_be_adjacent(name, dialect))
                }
                Token::Quoted(name) => is_harmless_quoted(name, dialect),
                _ => false,
            },
            [schema, name, _] if self.length == 2 => match (schema, name, dialect) {
                (schema, Token::Word(name), Dialect::PostgreSql) => {
                    is_pg_catalog(schema) && functions::is_harmless(name, dialect)
                }
                (schema, Token::Quoted(name), Dialect::PostgreSql) => {
                    is_pg_catalog(schema) && is_harmless_quoted(name, dialect)
                }
                (Token::Word(schema), Token::Word(name), Dialect::MySql | Dialect::MariaDb) => {
                    is(schema, "sys") && functions::is_harmless_in_sys(name)
                }
                _ => false,
            },
            _ => false,
        }
    }

    /// The name of the function that is called, if it may be the server's own: nothing qualifies it, or PostgreSQL's
    /// own schema does.
    pub fn servers_own(&self, dialect: Dialect) -> Option<&'a str> {
        let own = match self.parts {
            [name, _, _] if self.length == 1 => name,
            [schema, name, _] if self.length == 2 && dialect == Dialect::PostgreSql && is_pg_catalog(schema) => name,
            _ => return None,
        };
        match own {
            Token::Word(name) | Token::Quoted(name) => Some(name),
            _ => None,
        }
    }
}

/// The name that was read last, as the statement writes it, without quotes.
impl fmt::Display for Surroundings<'_> {
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

/// Whether a quoted name is the name of a harmless function of the server's own. PostgreSQL keeps the case of what is
/// quoted. For MySQL a quoted name may be a user's own function though an unquoted one is not.
fn is_harmless_quoted(name: &str, dialect: Dialect) -> bool {
    match dialect {
        Dialect::PostgreSql => {
            !name.bytes().any(|byte| byte.is_ascii_uppercase()) && functions::is_harmless(name, dialect)
        }
        Dialect::Sqlite => functions::is_harmless(name, dialect),
        Dialect::MySql | Dialect::MariaDb | Dialect::Other => false,
    }
}

fn is_pg_catalog(schema: Token<'_>) -> bool {
    schema.is_word("pg_catalog") || schema == Token::Quoted("pg_catalog")
}

/// Whether `pg_catalog.<operator>)` follows: `OPERATOR(pg_catalog.+)`. No operator has more than 63 characters.
fn is_operators_name(mut ahead: Lexer<'_>) -> bool {
    if !is_pg_catalog(ahead.next()) || ahead.next() != Token::Dot {
        return false;
    }
    for length in 0..64 {
        match ahead.next() {
            Token::Other | Token::Equals => {}
            token => return length > 0 && token == Token::Close,
        }
    }
    false
}

/// Whether an expression may end with a token, so that what follows it is an operator or a keyword.
fn ends_operand(token: Token<'_>, dialect: Dialect) -> bool {
    match token {
        Token::Close | Token::Number(_) | Token::Text(_) | Token::Quoted(_) => true,
        Token::Word(word) => keywords::is_value(word) || !keywords::begins_operand(word, dialect),
        _ => false,
    }
}

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
