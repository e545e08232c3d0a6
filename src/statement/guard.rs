//! What may be sent to a replica.
//!
//! A read-only session refuses most writes by itself. It lets through what takes locks that nobody else sees, what
//! makes the session writable again, and temporary tables. [`refusal`] finds these, and more: what is not surely a read
//! is refused. [`analyse`](super::analyse) asks another question (did data change?), so that the two differ: a BEGIN
//! READ WRITE changes nothing, and a locking read does not either.
//!
//! What no text shows stays with the server: a view, an operator, a cast or a column whose definition calls a function.

mod control;
mod names;

use self::names::{Path, is};
use super::lexer::{Backslash, Lexer, Token};
use super::{Dialect, functions};

/// Why a statement may not be sent to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verb or the construct, for messages: `"SELECT ... FOR UPDATE"`.
    pub what: String,
    /// The function that is not known, as the statement names it; it may be one that only reads.
    pub function: Option<String>,
}

impl Refusal {
    fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), function: None }
    }
}

type Verdict = Result<(), Refusal>;

/// Why `sql` may not be sent to a replica; `None` if it may. Linear in its length.
///
/// `allowed` are functions that are known to read only, in lower case and as they are called: `"f"`, `"schema.f"`.
#[must_use]
pub fn refusal(sql: &str, dialect: Dialect, allowed: &[String]) -> Option<Refusal> {
    let mut reader = Reader::new(Lexer::new(sql, dialect), dialect, allowed);
    let refusal = reader.text().err()?;
    if !reader.lexer.is_ambiguous() {
        return Some(refusal);
    }
    // A server reads it in one of two ways: neither may do harm.
    [Backslash::Escapes, Backslash::Plain]
        .into_iter()
        .find_map(|backslash| Reader::new(Lexer::reading(sql, dialect, backslash), dialect, allowed).text().err())
}

/// Reads a text statement by statement.
struct Reader<'a> {
    lexer: Lexer<'a>,
    dialect: Dialect,
    allowed: &'a [String],
    /// The last token.
    last: Token<'a>,
    /// The name that was read last, if nothing has followed it yet.
    path: Path<'a>,
    /// How many parentheses are open.
    depth: u32,
    /// At which depths, of those that are open, a WITH's list is being read, as bits.
    with_lists: u128,
    /// At which depths the parentheses after DISTINCT ON end, as bits.
    distinct_on: u128,
    /// The statement begins with WITH: its verb may come anywhere.
    begins_with: bool,
    /// COPY: outside of parentheses it calls nothing.
    is_copy: bool,
}

impl<'a> Reader<'a> {
    fn new(lexer: Lexer<'a>, dialect: Dialect, allowed: &'a [String]) -> Self {
        Self {
            lexer,
            dialect,
            allowed,
            last: Token::Semicolon,
            path: Path::default(),
            depth: 0,
            with_lists: 0,
            distinct_on: 0,
            begins_with: false,
            is_copy: false,
        }
    }

    /// One statement, or several that only set something: what Django sends MySQL when it connects.
    fn text(&mut self) -> Verdict {
        let mut only_sets = true;
        let mut is_first = true;
        loop {
            match self.next() {
                Token::End => return Ok(()),
                Token::Open | Token::Semicolon => {}
                token => {
                    let sets = matches!(token, Token::Word(word) if is(word, "set"));
                    only_sets &= sets;
                    if !is_first && !only_sets {
                        return Err(Refusal::of("a text of several statements"));
                    }
                    is_first = false;
                    self.statement(token)?;
                    if self.last == Token::End {
                        return Ok(());
                    }
                    self.depth = 0;
                    self.begins_with = false;
                }
            }
        }
    }

    /// The next token, remembered.
    fn next(&mut self) -> Token<'a> {
        let token = self.lexer.next();
        self.follow(token);
        token
    }

    /// Remembers a token: those that come later are judged by what stood before them.
    fn follow(&mut self, token: Token<'a>) {
        match token {
            Token::Open => self.depth += 1,
            Token::Close => {
                self.with_lists &= !self.at_depth();
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
        self.path.follow(token, self.last);
        self.last = token;
    }

    fn at_depth(&self) -> u128 {
        1_u128.checked_shl(self.depth).unwrap_or(0)
    }

    /// Reads an expression, a query or whatever else is harmless but for what its words and calls do, to the end of
    /// the statement.
    fn scan(&mut self) -> Verdict {
        loop {
            let token = self.lexer.next();
            match token {
                Token::Word(word) => self.word(word)?,
                Token::Open => {
                    if self.last.is_word("on") && self.path.before.is_word("distinct") {
                        self.distinct_on |= self.at_depth();
                    } else {
                        self.call()?;
                    }
                }
                Token::Close if self.distinct_on != 0 && self.distinct_on & (self.at_depth() >> 1) != 0 => {
                    self.distinct_on &= !(self.at_depth() >> 1);
                    self.follow(token);
                    // An expression follows it, not an alias.
                    self.last = Token::Other;
                    continue;
                }
                Token::Unsure => return Err(unsure()),
                Token::End | Token::Semicolon => {
                    self.follow(token);
                    return Ok(());
                }
                _ => {}
            }
            self.follow(token);
        }
    }

    /// A word that is no part of a string or of a quoted name.
    fn word(&mut self, word: &'a str) -> Verdict {
        let before = self.last;
        if before == Token::Dot {
            // MariaDB in Oracle's mode: sequence.nextval. Any other is a column's name.
            return if is(word, "nextval") { Err(Refusal::of(word)) } else { Ok(()) };
        }
        match word.len() {
            3 if is(word, "for") => {
                if let Some(clause) = self.lexer.lock_that_follows() {
                    return Err(Refusal::of(format!("SELECT ... {clause}")));
                }
                if before.is_word("value") {
                    return Err(Refusal::of("NEXT VALUE FOR"));
                }
            }
            4 if is(word, "into") => return Err(Refusal::of("SELECT ... INTO")),
            4 if is(word, "lock") && self.words_follow(["in", "share"]) => {
                return Err(Refusal::of("SELECT ... LOCK IN SHARE MODE"));
            }
            4 if is(word, "with") && matches!(before, Token::Open | Token::Semicolon) => {
                self.with_lists |= self.at_depth();
            }
            5 if is(word, "table") => self.with_lists &= !self.at_depth(),
            5 if is(word, "merge") => return self.change(word),
            6 if is(word, "select") || is(word, "values") => self.with_lists &= !self.at_depth(),
            6 if ["insert", "update", "delete"].iter().any(|verb| is(word, verb)) => return self.change(word),
            _ => {}
        }
        Ok(())
    }

    /// A verb that changes data, unless a column has the name.
    fn change(&self, verb: &str) -> Verdict {
        // MySQL's string function INSERT().
        let is_function =
            self.dialect == Dialect::MySql && is(verb, "insert") && self.lexer.clone().next() == Token::Open;
        if !is_function && (self.begins_with || matches!(self.last, Token::Open | Token::Close)) {
            return Err(Refusal::of(format!("WITH ... {}", verb.to_uppercase())));
        }
        Ok(())
    }

    fn words_follow(&self, words: [&str; 2]) -> bool {
        let mut ahead = self.lexer.clone();
        words.iter().all(|word| ahead.next().is_word(word))
    }

    /// A parenthesis is opened: whether that calls what may write or lock.
    fn call(&self) -> Verdict {
        let path = &self.path;
        let Some(name) = path.name() else { return Ok(()) };
        if let Token::Word(word) = name
            && path.is_the_servers_own(self.dialect)
        {
            // set_config is harmless to data, but not here.
            if functions::is_harmless(word, self.dialect) && !is(word, "set_config") {
                return Ok(());
            }
        }
        if path.len() == 1 && self.is_no_call() {
            return Ok(());
        }
        if let Token::Word(word) = name
            && path.is_the_servers_own(self.dialect)
        {
            if functions::acts(word, self.dialect) {
                return self.acting(word);
            }
            if functions::only_waits(word, self.dialect) {
                return Ok(());
            }
        }
        let called = path.to_string();
        if self.allowed.iter().any(|allowed| called.eq_ignore_ascii_case(allowed)) {
            return Ok(());
        }
        Err(Refusal { what: format!("{called}()"), function: Some(called) })
    }

    /// Whether the parenthesis after a single name lists columns, or belongs to a type.
    fn is_no_call(&self) -> bool {
        const PAIRS: [(&str, &str); 7] = [
            ("grouping", "sets"),
            ("fetch", "first"),
            ("fetch", "next"),
            ("time", "zone"),
            ("tablesample", "system"),
            ("tablesample", "bernoulli"),
            ("member", "of"),
        ];
        let before = self.path.before;
        let name = self.last;
        // COPY table (columns) TO STDOUT (options).
        (self.is_copy && self.depth == 0)
            // WITH name (columns) AS. The query after the list may stand in parentheses, and calls may follow it.
            || (self.with_lists & self.at_depth() != 0 && self.after_names().is_some_and(|next| next.is_word("as")))
            // FROM ... AS name (columns), CAST(... AS type(length)), ...::type(length).
            || before.is_word("as")
            || before == Token::Cast
            || PAIRS.iter().any(|(first, second)| before.is_word(first) && name.is_word(second))
            // FROM (...) name (columns), WITH ORDINALITY name (columns): an expression cannot follow another one.
            || ((before == Token::Close || before.is_word("ordinality")) && self.after_names().is_some())
    }

    /// A call of a function that is known to do more than read, at least with some arguments.
    fn acting(&self, name: &str) -> Verdict {
        let mut ahead = self.lexer.clone();
        let harmless = match name.len() {
            14 if is(name, "last_insert_id") => ahead.next() == Token::Close,
            10 if is(name, "set_config") => match (ahead.next(), ahead.next()) {
                (Token::Text(setting), Token::Comma) => !control::makes_writable(setting),
                _ => false,
            },
            _ => false,
        };
        if harmless { Ok(()) } else { Err(Refusal::of(format!("{name}()"))) }
    }

    /// What stands after the parentheses that were opened, if nothing but names, and perhaps their types, is in them.
    fn after_names(&self) -> Option<Token<'a>> {
        let mut ahead = self.lexer.clone();
        let mut depth = 1;
        while depth > 0 {
            match ahead.next() {
                Token::Open => depth += 1,
                Token::Close => depth -= 1,
                Token::Word(_) | Token::Quoted(_) | Token::Comma | Token::Number(_) => {}
                _ => return None,
            }
        }
        Some(ahead.next())
    }
}

fn unsure() -> Refusal {
    Refusal::of("text that servers read in different ways")
}

#[cfg(test)]
mod tests;
