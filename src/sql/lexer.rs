//! SQL text as tokens, in the detail that is needed to distinguish reads from writes.
//!
//! This file is longer than others because a lexer is one state machine: its parts make no sense alone.

use super::dialect::Dialect;

/// A token. Words, names, strings and numbers carry their text; the others are distinguished by kind only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A bare word: a keyword, a name, a function.
    Word(&'a str),
    /// A quoted name (or, for MySQL, perhaps a string), without its quotes.
    Quoted(&'a str),
    /// A string, without its quotes.
    Text(&'a str),
    /// A number.
    Number(&'a str),
    /// `(`.
    Open,
    /// `)`.
    Close,
    /// `.`, between the parts of a name.
    Dot,
    /// `,`.
    Comma,
    /// `=`.
    Equals,
    /// `::`, which PostgreSQL writes before a type.
    Cast,
    /// `;` between statements.
    Semicolon,
    /// Anything else: operators, parameters.
    Other,
    /// Text that has no certain meaning: an executed comment, a string without an end.
    Unsure,
    /// The end of the text.
    End,
}

/// The meaning of a backslash in a string, which depends on settings of the server that are not visible here
/// (`NO_BACKSLASH_ESCAPES`, `standard_conforming_strings`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backslash {
    /// Where it decides which quote ends a string, the rest of the text is unsure.
    Unknown,
    /// It removes the special meaning of the next character.
    Escapes,
    /// It is a character as any other.
    Plain,
}

/// Reads tokens off a text.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts, not the states of one machine")]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    backslash: Backslash,
    is_ambiguous: bool,
    saw_analyse: bool,
    /// The last token begins where the one before it ends.
    is_adjacent: bool,
    /// The last token was PostgreSQL's `E`, or a string that it stood before: the string that follows is of its kind.
    is_escape_string: bool,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, dialect: Dialect) -> Self {
        // SQLite knows no settings.
        let backslash = if dialect == Dialect::Sqlite { Backslash::Plain } else { Backslash::Unknown };
        Self::reading(text, dialect, backslash)
    }

    /// Reads the text as a server does on which a backslash has this meaning. A string that has no end then ends the
    /// text: for such a server it is an error, and nothing after it is executed.
    pub fn reading(text: &'a str, dialect: Dialect, backslash: Backslash) -> Self {
        Self {
            text,
            at: 0,
            dialect,
            backslash,
            is_ambiguous: false,
            saw_analyse: false,
            is_adjacent: false,
            is_escape_string: false,
        }
    }

    /// Whether the meaning of a backslash was all that kept the text from being read to its end.
    pub fn is_ambiguous(&self) -> bool {
        self.is_ambiguous
    }

    /// Whether the word ANALYZE (or ANALYSE) has been read.
    pub fn saw_analyse(&self) -> bool {
        self.saw_analyse
    }

    /// Whether the last token begins where the one before it ends: neither a space nor a comment stands between them.
    pub fn is_adjacent(&self) -> bool {
        self.is_adjacent
    }

    fn bytes(&self) -> &'a [u8] {
        self.text.as_bytes()
    }

    fn peek(&self, ahead: usize) -> u8 {
        self.bytes().get(self.at + ahead).copied().unwrap_or(0)
    }

    /// Skips to the end of the statement. A text with no semicolon and no comment left ends with it, so that a
    /// bulk INSERT of many placeholders is not read through.
    pub fn skip_statement(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let semicolon = rest.find(';');
        #[cfg(test)]
        steps::count(semicolon.unwrap_or(2 * rest.len()));
        if semicolon.is_none() && !rest.contains("/*") {
            self.at = self.text.len();
        }
        self.next()
    }

    /// The next token.
    pub fn next(&mut self) -> Token<'a> {
        let start = self.at;
        let token = self.next_from(start);
        #[cfg(test)]
        steps::count(self.at - start + 1);
        token
    }

    fn next_from(&mut self, start: usize) -> Token<'a> {
        loop {
            let byte = self.peek(0);
            match byte {
                0 if self.at >= self.text.len() => return Token::End,
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => match (self.dialect, self.peek(2)) {
                    // For MySQL `5--1` is 6: its comment needs white space (or the end) after the dashes.
                    (_, 0..=b' ') | (Dialect::PostgreSql | Dialect::Sqlite, _) => self.skip_line(),
                    (Dialect::MySql | Dialect::MariaDb, _) => return self.one(Token::Other),
                    (Dialect::Other, _) => return self.unsure(),
                },
                b'#' if self.dialect.is_mysql() => self.skip_line(),
                b'/' if self.peek(1) == b'*' => {
                    if !self.skip_comment() {
                        return Token::Unsure;
                    }
                }
                _ => {
                    self.is_adjacent = self.at == start;
                    return self.token(byte);
                }
            }
        }
    }

    fn token(&mut self, byte: u8) -> Token<'a> {
        let is_escape_string = std::mem::take(&mut self.is_escape_string);
        match byte {
            b'(' => self.one(Token::Open),
            b')' => self.one(Token::Close),
            b'.' => self.one(Token::Dot),
            b',' => self.one(Token::Comma),
            b'=' => self.one(Token::Equals),
            b';' => self.one(Token::Semicolon),
            b'\'' => self.string(is_escape_string),
            b'"' => self.quoted_name(b'"'),
            b'`' => self.quoted_name(b'`'),
            b'[' if matches!(self.dialect, Dialect::Sqlite | Dialect::Other) => self.quoted_name(b']'),
            b':' if self.peek(1) == b':' => {
                self.at += 2;
                Token::Cast
            }
            b'%' if self.peek(1) == b'(' => self.parameter(),
            b'$' if self.dialect == Dialect::PostgreSql => self.dollar_quoted(),
            b'0'..=b'9' => self.number(),
            _ if is_word(byte) => self.word(),
            // For MySQL some of them end a comment's dashes, and none belongs there.
            0..b' ' | 0x7f => self.unsure(),
            _ => self.one(Token::Other),
        }
    }

    fn one(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    /// Gives up: nothing after this is read.
    fn unsure(&mut self) -> Token<'a> {
        self.at = self.text.len();
        Token::Unsure
    }

    /// Skips a comment to the end of its line, which for PostgreSQL a carriage return is, too.
    fn skip_line(&mut self) {
        let rest = &self.bytes()[self.at..];
        let returns = matches!(self.dialect, Dialect::PostgreSql | Dialect::Other);
        let ends = |byte: &u8| *byte == b'\n' || (returns && *byte == b'\r');
        self.at += rest.iter().position(ends).map_or(rest.len(), |end| end + 1);
    }

    /// Skips a comment; `false` if it is executed (`/*! */`, `/*M! */`) or has no end.
    fn skip_comment(&mut self) -> bool {
        let executed =
            self.dialect.is_mysql() && (self.peek(2) == b'!' || (self.peek(2) == b'M' && self.peek(3) == b'!'));
        let nests = self.dialect == Dialect::PostgreSql;
        self.at += 2;
        let mut depth = 1;
        while self.at < self.text.len() {
            match (self.peek(0), self.peek(1)) {
                (b'*', b'/') => {
                    self.at += 2;
                    depth -= 1;
                    if depth == 0 {
                        return !executed;
                    }
                }
                (b'/', b'*') if nests => {
                    self.at += 2;
                    depth += 1;
                }
                // Some servers nest comments and others do not, so their readings differ.
                (b'/', b'*') if self.dialect == Dialect::Other => return false,
                _ => self.at += 1,
            }
        }
        false
    }

    /// Skips a string.
    fn string(&mut self, is_escape_string: bool) -> Token<'a> {
        let backslash = if is_escape_string { Backslash::Escapes } else { self.backslash };
        self.is_escape_string = is_escape_string;
        self.quoted(b'\'', backslash).map_or_else(|token| token, Token::Text)
    }

    /// Skips a quoted name. What MySQL quotes with `"` may be a string.
    fn quoted_name(&mut self, end: u8) -> Token<'a> {
        let may_be_string = end == b'"' && matches!(self.dialect, Dialect::MySql | Dialect::MariaDb | Dialect::Other);
        let backslash = if may_be_string { Backslash::Unknown } else { Backslash::Plain };
        match self.quoted(end, backslash) {
            Ok(name) => Token::Quoted(name),
            // Another setting decides which of the two it is: no single reading is right.
            Err(_) => self.unsure(),
        }
    }

    /// Skips to the quote that ends what begins here, and what is doubled inside of it.
    fn quoted(&mut self, end: u8, backslash: Backslash) -> Result<&'a str, Token<'a>> {
        self.at += 1;
        let start = self.at;
        let escapes = backslash != Backslash::Plain;
        loop {
            let rest = &self.bytes()[self.at..];
            let Some(length) = rest.iter().position(|&byte| byte == end || (byte == b'\\' && escapes)) else { break };
            self.at += length + 1;
            if rest[length] == b'\\' {
                // It escapes itself, or a quote, or what does not matter.
                if backslash == Backslash::Unknown && self.peek(0) == end {
                    self.is_ambiguous = end == b'\'';
                    return Err(self.unsure());
                }
                self.at = (self.at + 1).min(self.text.len());
            } else if self.peek(0) == end && end != b']' {
                self.at += 1;
            } else {
                return Ok(&self.text[start..self.at - 1]);
            }
        }
        self.at = self.text.len();
        Err(if self.backslash == Backslash::Unknown || self.dialect == Dialect::Sqlite {
            Token::Unsure
        } else {
            Token::End
        })
    }

    /// A named parameter, `%(name)s`: the name says nothing.
    fn parameter(&mut self) -> Token<'a> {
        let rest = &self.bytes()[self.at + 2..];
        let name = rest.iter().take_while(|byte| is_word(**byte)).count();
        if rest.get(name..name + 2) == Some(b")s") && !rest.get(name + 2).is_some_and(|byte| is_word(*byte)) {
            self.at += name + 3;
        }
        self.one(Token::Other)
    }

    /// PostgreSQL's `$tag$ ... $tag$`, or a parameter such as `$1`.
    fn dollar_quoted(&mut self) -> Token<'a> {
        let rest = &self.text[self.at + 1..];
        let tag = rest.bytes().take_while(|&byte| is_word(byte) && byte != b'$').count();
        if rest.as_bytes().get(tag) != Some(&b'$') || rest.as_bytes()[0].is_ascii_digit() {
            return self.one(Token::Other);
        }
        let delimiter = &self.text[self.at..=self.at + 1 + tag];
        let start = self.at + delimiter.len();
        if let Some(length) = self.text[start..].find(delimiter) {
            self.at = start + length + delimiter.len();
            return Token::Other;
        }
        self.unsure()
    }

    /// A number. Where letters follow one directly, servers disagree: for one `1FOR` is a name, for another a number
    /// and a keyword.
    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        let after_dot = start > 0 && self.bytes()[start - 1] == b'.';
        while is_word(self.peek(0)) || self.peek(0) == b'.' {
            self.at += 1;
        }
        let text = &self.text[start..self.at];
        if is_number(text.as_bytes()) {
            return Token::Number(text);
        }
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let exponent = matches!(text.as_bytes()[digits..], [b'e' | b'E', b'0'..=b'9', ..]);
        if self.dialect.is_mysql() && !after_dot && !exponent && !text.contains('.') && !may_be_several(text) {
            return Token::Word(text);
        }
        self.unsure()
    }

    fn word(&mut self) -> Token<'a> {
        let rest = &self.text[self.at..];
        let length = rest.bytes().position(|byte| !is_word(byte)).unwrap_or(rest.len());
        let word = &rest[..length];
        self.at += length;
        if may_be_several(word) {
            return self.unsure();
        }
        // PostgreSQL's `U&"\0061"` is the name a: the text does not show the called name.
        if self.dialect == Dialect::PostgreSql
            && word.eq_ignore_ascii_case("u")
            && self.text[self.at..].starts_with("&\"")
        {
            return self.unsure();
        }
        self.is_escape_string =
            self.dialect == Dialect::PostgreSql && self.peek(0) == b'\'' && word.eq_ignore_ascii_case("e");
        self.saw_analyse |=
            length == 7 && (word.eq_ignore_ascii_case("analyze") || word.eq_ignore_ascii_case("analyse"));
        Token::Word(word)
    }

    /// After FOR: the locking clause that follows (`UPDATE`, `SHARE`, `NO KEY UPDATE`, `KEY SHARE`), not the FROM ...
    /// FOR of SUBSTRING. Takes its words, so that its UPDATE is not mistaken for the verb.
    pub fn lock_that_follows(&mut self) -> Option<&'static str> {
        let mut ahead = self.clone();
        let mut words = [""; 3];
        for number in 0..3 {
            let Token::Word(word) = ahead.next() else { return None };
            words[number] =
                ["no", "key", "update", "share"].into_iter().find(|known| word.eq_ignore_ascii_case(known))?;
            let clause = match words {
                ["update", ..] => "FOR UPDATE",
                ["share", ..] => "FOR SHARE",
                ["key", "share", _] => "FOR KEY SHARE",
                ["no", "key", "update"] => "FOR NO KEY UPDATE",
                _ => continue,
            };
            *self = ahead;
            return Some(clause);
        }
        None
    }
}

/// Whether there is a character in a word that is a space in another character set.
fn may_be_several(word: &str) -> bool {
    !word.is_ascii() && word.contains(|c: char| c.is_whitespace() || c.is_control())
}

/// Whether a run of letters, digits and dots is a number, and nothing else, for every server.
fn is_number(text: &[u8]) -> bool {
    let digits = |text: &[u8]| text.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b'_').count();
    if let [b'0', b'x' | b'X', hex @ ..] = text {
        return !hex.is_empty() && hex.iter().all(u8::is_ascii_hexdigit);
    }
    let mut rest = &text[digits(text)..];
    if let [b'.', fraction @ ..] = rest {
        rest = &fraction[digits(fraction)..];
    }
    if let [b'e' | b'E', exponent @ ..] = rest {
        // A sign, and what follows it, are tokens of their own.
        rest = &exponent[digits(exponent)..];
    }
    rest.is_empty()
}

/// A byte of a bare word. Bytes above 127 belong to letters of other scripts.
fn is_word(byte: u8) -> bool {
    WORD[byte as usize]
}

const WORD: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte: u8 = 255;
    loop {
        table[byte as usize] = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80;
        if byte == 0 {
            break table;
        }
        byte -= 1;
    }
};

/// The cost of reading a text, for the tests: bytes taken and tokens returned.
#[cfg(test)]
pub mod steps {
    use std::cell::Cell;

    thread_local!(static STEPS: Cell<usize> = const { Cell::new(0) });

    pub fn count(steps: usize) {
        STEPS.with(|total| total.set(total.get() + steps));
    }

    /// How many steps `read` takes.
    pub fn of(read: impl FnOnce()) -> usize {
        STEPS.with(|total| total.set(0));
        read();
        STEPS.with(Cell::get)
    }
}
