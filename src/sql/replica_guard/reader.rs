//! Reads a text statement by statement: its expressions and queries. See `control` for the statements by their verb.

use crate::sql::dialect::Dialect;
use crate::sql::functions;
use crate::sql::lexer::{Lexer, Token};
use crate::sql::surroundings::{Clause, Opens, Surroundings, is};

use super::charset;
use super::refusal::{Refusal, Verdict, changes, changing, is_query, makes_writable, too_deep, unknown, unsure};

/// Reads a text statement by statement.
pub(super) struct Reader<'a> {
    pub(super) lexer: Lexer<'a>,
    pub(super) dialect: Dialect,
    pub(super) allowed: &'a [String],
    pub(super) around: Surroundings<'a>,
    /// COPY: outside of parentheses it calls nothing.
    pub(super) is_copy: bool,
    /// A WITH with SEARCH or CYCLE clauses in its list, which have no recognised end before the verb that follows.
    pub(super) searches: bool,
    /// The depth of an open list of an alias's columns, and the function that would be called if it were no such list.
    pub(super) columns: Option<(u32, String)>,
}

impl<'a> Reader<'a> {
    pub(super) fn new(lexer: Lexer<'a>, dialect: Dialect, allowed: &'a [String]) -> Self {
        Self { lexer, dialect, allowed, around: Surroundings::new(), is_copy: false, searches: false, columns: None }
    }

    /// One statement, or several that only set something: what Django sends MySQL when it connects.
    pub(super) fn text(&mut self) -> Verdict {
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
                    if self.around.depth > 0 && !matches!(token, Token::Word(word) if is_query(word)) {
                        return Err(Refusal::of("a statement in parentheses that is no query"));
                    }
                    self.statement(token)?;
                    if self.around.last == Token::End {
                        return Ok(());
                    }
                    self.around = Surroundings::new();
                }
            }
        }
    }

    /// The next token, remembered.
    pub(super) fn next(&mut self) -> Token<'a> {
        let token = self.lexer.next();
        // Text that is nested too deep counts as text that is not understood.
        if self.around.follow(token) { token } else { Token::Unsure }
    }

    /// Remembers a token: later tokens are judged by the ones before them.
    pub(super) fn follow(&mut self, token: Token<'a>) -> Verdict {
        if self.around.follow(token) { Ok(()) } else { Err(too_deep()) }
    }

    /// Reads to the end of the statement an expression, a query, or other text that is harmless except for its words
    /// and calls.
    pub(super) fn scan(&mut self) -> Verdict {
        loop {
            let token = self.lexer.next();
            if let Token::Word(word) = token {
                self.word(word)?;
            }
            self.step(token)?;
            if matches!(token, Token::End | Token::Semicolon) {
                return Ok(());
            }
        }
    }

    /// Judges a token by its kind, and remembers it; words are judged elsewhere.
    pub(super) fn step(&mut self, token: Token<'a>) -> Verdict {
        match token {
            Token::Open => {
                let clause = self.open()?;
                self.follow(token)?;
                if let Some(clause) = clause {
                    self.around.set_clause(clause);
                }
                return Ok(());
            }
            Token::Close => {
                self.follow(token)?;
                if self.columns.as_ref().is_some_and(|(depth, _)| *depth >= self.around.depth) {
                    self.columns = None;
                }
                return Ok(());
            }
            Token::Unsure => return Err(unsure()),
            Token::Word(_) | Token::Quoted(_) | Token::Comma | Token::Number(_) => {}
            _ => {
                if let Some((_, called)) = self.columns.take() {
                    return Err(unknown(called));
                }
            }
        }
        self.follow(token)
    }

    /// A word that is no part of a string or of a quoted name.
    pub(super) fn word(&mut self, word: &'a str) -> Verdict {
        let before = self.around.last;
        if before == Token::Dot {
            // MariaDB in Oracle's mode: sequence.nextval. Any other is a column's name.
            return if is(word, "nextval") { Err(Refusal::of(word)) } else { Ok(()) };
        }
        if self.around.clause() == Clause::With {
            return self.word_of_list(word);
        }
        match word.len() {
            3 if is(word, "for") => {
                if let Some(clause) = self.lexer.lock_that_follows() {
                    return Err(Refusal::of(format!("SELECT ... {clause}")));
                }
                if self.around.is_after_next_value() {
                    return Err(Refusal::of("NEXT VALUE FOR"));
                }
            }
            4 if is(word, "into") => return Err(Refusal::of("SELECT ... INTO")),
            4 if is(word, "lock") && self.words_follow(["in", "share"]) => {
                return Err(Refusal::of("SELECT ... LOCK IN SHARE MODE"));
            }
            4 if is(word, "with") && matches!(before, Token::Open | Token::Semicolon) => {
                self.around.set_clause(Clause::With);
            }
            5..=7 if (self.searches || self.begins_statement()) && changes(word) => return Err(changing(word)),
            _ => {}
        }
        Ok(())
    }

    /// Whether what comes next is the first word of a statement in parentheses.
    pub(super) fn begins_statement(&self) -> bool {
        self.around.clause() == Clause::Statement && self.around.last == Token::Open
    }

    /// A word in the list of a WITH: the name of a query, or the verb of the statement that the list belongs to.
    pub(super) fn word_of_list(&mut self, word: &str) -> Verdict {
        let before = self.around.last;
        if before == Token::Comma || before.is_word("with") || before.is_word("recursive") {
            return Ok(());
        }
        if changes(word) {
            return Err(changing(word));
        }
        if is(word, "into") {
            return Err(Refusal::of("SELECT ... INTO"));
        }
        if ["select", "values", "table"].iter().any(|verb| is(word, verb)) {
            self.around.set_clause(Clause::Other);
        } else if is(word, "search") || is(word, "cycle") {
            self.searches = true;
        } else if before == Token::Close && !self.searches && !is(word, "as") {
            // Any other verb after the list.
            return Err(changing(word));
        }
        Ok(())
    }

    pub(super) fn words_follow(&self, words: [&str; 2]) -> bool {
        let mut ahead = self.lexer.clone();
        words.iter().all(|word| ahead.next().is_word(word))
    }

    /// Judges an opening parenthesis, which may call a function that writes or locks. Returns the clause that begins in
    /// it, if that is known already.
    pub(super) fn open(&mut self) -> Result<Option<Clause>, Refusal> {
        let last = self.around.last;
        match self.around.clause() {
            // The query after the list stands in parentheses.
            Clause::With if last == Token::Close => self.around.set_clause(Clause::Other),
            Clause::With if last.is_word("as") || last.is_word("materialized") => return Ok(Some(Clause::Statement)),
            // WITH name (columns) AS.
            Clause::With
                if self.around.before == Token::Comma
                    || self.around.before.is_word("with")
                    || self.around.before.is_word("recursive") =>
            {
                return Ok(None);
            }
            Clause::Statement if last == Token::Open => return Ok(Some(Clause::Statement)),
            _ => {}
        }
        if self.is_copy && self.around.depth == 0 {
            // COPY (query), COPY table (columns) TO STDOUT (options).
            return Ok(last.is_word("copy").then_some(Clause::Statement));
        }
        let inner = last.is_word("sets").then_some(Clause::GroupBy);
        self.call()?;
        Ok(inner)
    }

    /// Judges the call that a parenthesis may begin.
    pub(super) fn call(&mut self) -> Verdict {
        let around = &mut self.around;
        let opens = around.opens(&self.lexer, self.dialect);
        let own = around.servers_own(self.dialect);
        // set_config is harmless to data, but not on a replica.
        if opens == Opens::Nothing || (opens == Opens::HarmlessCall && !own.is_some_and(|name| is(name, "set_config")))
        {
            return Ok(());
        }
        if around.may_be_alias(self.dialect) {
            if self.columns.is_none() {
                self.columns = Some((around.depth, around.to_string()));
            }
            return Ok(());
        }
        if let Some(name) = own {
            if functions::acts(name, self.dialect) {
                return self.acting(name);
            }
            if matches!(around.name(), Some(Token::Word(_))) && functions::only_waits(name, self.dialect) {
                return Ok(());
            }
        }
        let called = around.to_string();
        if self.allowed.iter().any(|allowed| called.eq_ignore_ascii_case(allowed)) {
            return Ok(());
        }
        Err(unknown(called))
    }

    /// A call of a function that is known to do more than read, at least with some arguments.
    pub(super) fn acting(&self, name: &str) -> Verdict {
        let mut ahead = self.lexer.clone();
        let harmless = match name.len() {
            14 if is(name, "last_insert_id") => ahead.next() == Token::Close,
            10 if is(name, "set_config") => match (ahead.next(), ahead.next()) {
                (Token::Text(setting), Token::Comma) => {
                    !makes_writable(setting)
                        && (!is(setting, "client_encoding")
                            || matches!(ahead.next(), Token::Text(name) if charset::keeps_ascii_apart(name, self.dialect)))
                }
                _ => false,
            },
            _ => false,
        };
        if harmless { Ok(()) } else { Err(Refusal::of(format!("{name}()"))) }
    }
}
