//! SQL text as tokens, as far as telling reads from writes needs them.

use super::Dialect;

/// A token. Only words carry their text: the rest is told apart by kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Token<'a> {
    /// A bare word: a keyword, a name, a function.
    Word(&'a str),
    /// A quoted name.
    Quoted,
    /// A number.
    Number(&'a str),
    /// `(`.
    Open,
    /// `.`, between the parts of a name.
    Dot,
    /// `,`.
    Comma,
    /// `=`.
    Equals,
    /// `;` between statements.
    Semicolon,
    /// Anything else: strings, operators, parameters.
    Other,
    /// Text whose meaning is not known for sure: an executed comment, a string without an end.
    Unsure,
    /// The end of the text.
    End,
}

/// Reads tokens off a text.
#[derive(Clone, Debug)]
pub struct Lexer<'a> {
    text: &'a str,
    at: usize,
    dialect: Dialect,
    saw_analyse: bool,
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a str, dialect: Dialect) -> Self {
        Self { text, at: 0, dialect, saw_analyse: false }
    }

    /// Whether the word ANALYZE (or ANALYSE) has been read.
    pub fn saw_analyse(&self) -> bool {
        self.saw_analyse
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
        if !rest.contains(';') && !rest.contains("/*") {
            self.at = self.text.len();
        }
        self.next()
    }

    /// The next token.
    pub fn next(&mut self) -> Token<'a> {
        loop {
            let byte = self.peek(0);
            match byte {
                0 if self.at >= self.text.len() => return Token::End,
                b' ' | b'\t' | b'\r' | b'\n' | 0x0b | 0x0c => self.at += 1,
                b'-' if self.peek(1) == b'-' => match (self.dialect, self.peek(2)) {
                    // For MySQL `5--1` is 6: its comment needs white space (or the end) after the dashes.
                    (_, 0..=b' ') | (Dialect::PostgreSql | Dialect::Sqlite, _) => self.skip_line(),
                    (Dialect::MySql, _) => return self.one(Token::Other),
                    (Dialect::Other, _) => return self.unsure(),
                },
                b'#' if self.dialect == Dialect::MySql => self.skip_line(),
                b'/' if self.peek(1) == b'*' => {
                    if !self.skip_comment() {
                        return Token::Unsure;
                    }
                }
                _ => return self.token(byte),
            }
        }
    }

    fn token(&mut self, byte: u8) -> Token<'a> {
        match byte {
            b'(' => self.one(Token::Open),
            b'.' => self.one(Token::Dot),
            b',' => self.one(Token::Comma),
            b'=' => self.one(Token::Equals),
            b';' => self.one(Token::Semicolon),
            b'\'' => self.string(b'\''),
            b'"' => self.quoted_name(b'"'),
            b'`' => self.quoted_name(b'`'),
            b'[' if matches!(self.dialect, Dialect::Sqlite | Dialect::Other) => self.quoted_name(b']'),
            b'$' if self.dialect == Dialect::PostgreSql => self.dollar_quoted(),
            b'0'..=b'9' => self.number(),
            _ if is_word(byte) => self.word(),
            _ => self.one(Token::Other),
        }
    }

    fn one(&mut self, token: Token<'a>) -> Token<'a> {
        self.at += 1;
        token
    }

    /// Gives up: nothing after this is believed.
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
            self.dialect == Dialect::MySql && (self.peek(2) == b'!' || (self.peek(2) == b'M' && self.peek(3) == b'!'));
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
                // Some servers nest and others do not: what they make of it differs.
                (b'/', b'*') if self.dialect == Dialect::Other => return false,
                _ => self.at += 1,
            }
        }
        false
    }

    /// Skips a string. Whether a backslash escapes depends on settings we cannot see (`NO_BACKSLASH_ESCAPES`,
    /// `standard_conforming_strings`): where that decides which quote ends the string, the rest of the text is unsure.
    fn string(&mut self, quote: u8) -> Token<'a> {
        self.at += 1;
        let mut escaped = false;
        while self.at < self.text.len() {
            let byte = self.peek(0);
            self.at += 1;
            if byte != quote {
                escaped = byte == b'\\' && !escaped;
            } else if escaped {
                break;
            } else if self.peek(0) == quote {
                self.at += 1;
            } else {
                return Token::Other;
            }
        }
        self.unsure()
    }

    fn quoted_name(&mut self, end: u8) -> Token<'a> {
        match self.string(end) {
            Token::Other => Token::Quoted,
            token => token,
        }
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

    fn number(&mut self) -> Token<'a> {
        let start = self.at;
        while is_word(self.peek(0)) || self.peek(0) == b'.' {
            self.at += 1;
        }
        Token::Number(&self.text[start..self.at])
    }

    fn word(&mut self) -> Token<'a> {
        let start = self.at;
        while is_word(self.peek(0)) {
            self.at += 1;
        }
        let word = &self.text[start..self.at];
        self.saw_analyse |= word.eq_ignore_ascii_case("analyze") || word.eq_ignore_ascii_case("analyse");
        Token::Word(word)
    }

    /// After FOR: whether a locking clause follows (`UPDATE`, `SHARE`, `NO KEY UPDATE`, `KEY SHARE`), not the FROM ...
    /// FOR of SUBSTRING. Takes its words, so that its UPDATE is not mistaken for the verb.
    pub fn locks_follow(&mut self) -> bool {
        let mut ahead = self.clone();
        for _ in 0..3 {
            match ahead.next() {
                Token::Word(word) if ["no", "key"].iter().any(|known| word.eq_ignore_ascii_case(known)) => {}
                Token::Word(word) if ["update", "share"].iter().any(|known| word.eq_ignore_ascii_case(known)) => {
                    *self = ahead;
                    return true;
                }
                _ => return false,
            }
        }
        false
    }
}

/// A byte of a bare word. Bytes above 127 belong to letters of other scripts.
fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'$') || byte >= 0x80
}
