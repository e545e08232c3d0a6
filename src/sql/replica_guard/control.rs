//! Statements by their first word, and those that set something or control a transaction.

use super::charset;
use super::reader::Reader;
use super::refusal::{Refusal, Verdict, changes, is_query, makes_writable, one_of, unsure};
use crate::sql::dialect::Dialect;
use crate::sql::lexer::Token;
use crate::sql::set_and_pragma as settings;
use crate::sql::surroundings::{Clause, is};

/// The setting with which every SELECT in a transaction of MySQL or MariaDB takes row locks, and the values that do not.
const ISOLATION: [&str; 2] = ["transaction_isolation", "tx_isolation"];
const ISOLATION_WITHOUT_LOCKS: [&str; 3] = ["read-uncommitted", "read-committed", "repeatable-read"];
/// The settings with which a session of MySQL or MariaDB names the transactions that it makes.
const REPLICATION: [&str; 8] = [
    "gtid_next",
    "gtid_seq_no",
    "gtid_domain_id",
    "server_id",
    "sql_log_bin",
    "pseudo_slave_mode",
    "pseudo_replica_mode",
    "wsrep_on",
];

impl<'a> Reader<'a> {
    /// Judges one statement after its first token, and reads to its end.
    pub(super) fn statement(&mut self, first: Token<'a>) -> Verdict {
        let word = match first {
            Token::Word(word) => word,
            Token::Unsure => return Err(unsure()),
            _ => return Err(Refusal::of("a statement without a verb")),
        };
        let refused = || Err(Refusal::of(word.to_uppercase()));
        let mysql = self.dialect.is_mysql();
        let postgresql = self.dialect == Dialect::PostgreSql;
        // The most frequent first.
        match word.to_ascii_lowercase().as_str() {
            "select" | "values" | "table" | "show" | "savepoint" | "release" | "deallocate" => self.scan(),
            "with" => {
                self.around.set_clause(Clause::With);
                self.scan()
            }
            "set" => self.set(),
            "begin" | "start" => self.begin(word),
            "commit" | "rollback" | "end" | "abort" => self.end(word),
            "explain" | "describe" | "desc" => self.explain(word),
            "analyze" if mysql && !self.words_after(&["table", "tables", "local", "no_write_to_binlog"]) => {
                self.explain(word)
            }
            "pragma" if self.dialect == Dialect::Sqlite => self.pragma(),
            "declare" if postgresql => self.declare(),
            "copy" if postgresql => self.copy(),
            "reset" if postgresql => self.reset(),
            "create" => self.create(),
            "check" if mysql && self.words_after(&["table", "tables"]) => self.scan(),
            other if one_of(other, concerns_the_session(self.dialect)) => self.scan(),
            _ => refused(),
        }
    }

    /// Whether the next token is one of these words.
    fn words_after(&self, words: &[&str]) -> bool {
        matches!(self.lexer.clone().next(), Token::Word(word) if one_of(word, words))
    }

    fn create(&mut self) -> Verdict {
        let mut ahead = self.lexer.clone();
        for _ in 0..3 {
            if let Token::Word(word) = ahead.next()
                && one_of(word, &["temporary", "temp"])
            {
                return Err(Refusal::of("CREATE TEMPORARY TABLE"));
            }
        }
        Err(Refusal::of("CREATE"))
    }

    /// BEGIN and START TRANSACTION, with any mode but READ WRITE.
    fn begin(&mut self, verb: &str) -> Verdict {
        let mut is_first = true;
        loop {
            let token = self.next();
            match token {
                Token::End | Token::Semicolon if is_first && is(verb, "start") => return Err(Refusal::of("START")),
                Token::End | Token::Semicolon => return Ok(()),
                Token::Unsure => return Err(unsure()),
                Token::Word(word) if is(word, "write") => {
                    return Err(Refusal::of(format!("{} READ WRITE", transaction(verb))));
                }
                // START REPLICA; MariaDB's BEGIN NOT ATOMIC is a block of statements.
                Token::Word(word) if is_first => {
                    let known: &[&str] = match (is(verb, "start"), self.dialect) {
                        (true, _) => &["transaction"],
                        (false, Dialect::MySql | Dialect::MariaDb) => &["work"],
                        (false, Dialect::Sqlite) => &["transaction", "deferred"],
                        (false, _) => &["work", "transaction", "isolation", "read", "deferrable", "not"],
                    };
                    if !one_of(word, known) {
                        return Err(Refusal::of(format!("{} {}", verb.to_uppercase(), word.to_uppercase())));
                    }
                }
                _ => {}
            }
            is_first = false;
        }
    }

    /// COMMIT and ROLLBACK, but not of another session's prepared transaction.
    fn end(&mut self, verb: &str) -> Verdict {
        loop {
            match self.next() {
                Token::End | Token::Semicolon => return Ok(()),
                Token::Unsure => return Err(unsure()),
                Token::Word(word) if is(word, "prepared") => {
                    return Err(Refusal::of(format!("{} PREPARED", verb.to_uppercase())));
                }
                _ => {}
            }
        }
    }

    /// SET: assignments that concern this session alone, and leave it read-only.
    fn set(&mut self) -> Verdict {
        // MariaDB's settings for one statement.
        let is_for_statement = self.dialect.is_mysql() && self.words_after(&["statement"]);
        let mut is_value = false;
        loop {
            let token = self.lexer.next();
            match token {
                Token::End | Token::Semicolon => return self.follow(token),
                Token::Equals => is_value = true,
                // The next setting; for PostgreSQL, the next value.
                Token::Comma if self.dialect != Dialect::PostgreSql && self.around.depth == 0 => is_value = false,
                Token::Word(word) if is_for_statement && self.around.depth == 0 && is(word, "for") => {
                    let first = self.next();
                    if first.is_word("set") {
                        return Err(Refusal::of("SET STATEMENT ... FOR SET"));
                    }
                    return self.statement(first);
                }
                Token::Word(word) if is_value => self.word(word)?,
                Token::Word(word) if is(word, "to") => is_value = true,
                Token::Word(setting) | Token::Quoted(setting) if !is_value => self.setting(setting)?,
                _ => {}
            }
            self.step(token)?;
        }
    }

    /// A word on the left side of a SET.
    fn setting(&self, word: &str) -> Verdict {
        let refused = |what: &str| Err(Refusal::of(format!("SET {}", what.to_uppercase())));
        if makes_writable(word) {
            return if self.is_assigned(&["on", "true", "1"]) { Ok(()) } else { refused(word) };
        }
        if is(word, "write") {
            return refused("TRANSACTION READ WRITE");
        }
        self.character_set(word)?;
        if self.dialect == Dialect::PostgreSql {
            return Ok(());
        }
        if is(word, "default") && self.words_after(&["role"]) {
            return refused("DEFAULT ROLE");
        }
        if is(word, "serializable") {
            return refused("TRANSACTION ISOLATION LEVEL SERIALIZABLE");
        }
        if one_of(word, &ISOLATION) && !self.is_assigned(&ISOLATION_WITHOUT_LOCKS) {
            return refused(word);
        }
        let far = ["global", "persist", "persist_only", "password", "resource"];
        if one_of(word, &far) || one_of(word, &REPLICATION) { refused(word) } else { Ok(()) }
    }

    /// SET NAMES and similar statements: with some character sets the server would split the text at other places.
    fn character_set(&self, word: &str) -> Verdict {
        let mut ahead = self.lexer.clone();
        let is_variable = self.around.last == Token::Other;
        let value =
            if !is_variable && is(word, "names") || (!is_variable && is(word, "charset") && self.dialect.is_mysql()) {
                ahead.next()
            } else if !is_variable && is(word, "character") && self.dialect.is_mysql() {
                if !ahead.next().is_word("set") {
                    return Ok(());
                }
                ahead.next()
            } else if is(word, "client_encoding") || (is(word, "character_set_client") && self.dialect.is_mysql()) {
                let mut token = ahead.next();
                if token == Token::Other {
                    // The colon of `:=`.
                    token = ahead.next();
                }
                if token != Token::Equals && !token.is_word("to") {
                    return Ok(());
                }
                ahead.next()
            } else {
                return Ok(());
            };
        match value {
            Token::Word(name) | Token::Text(name) | Token::Quoted(name)
                if charset::keeps_ascii_apart(name, self.dialect) =>
            {
                Ok(())
            }
            // PostgreSQL: the encoding of the database, which is never such a one.
            Token::Word(name) if is(name, "default") && self.dialect == Dialect::PostgreSql => Ok(()),
            _ if matches!(self.dialect, Dialect::Sqlite) => Ok(()),
            _ => Err(Refusal::of(format!(
                "SET {} to a character set that is not known to keep ASCII apart",
                word.to_uppercase()
            ))),
        }
    }

    /// Whether one of these values is assigned next, and nothing else.
    fn is_assigned(&self, values: &[&str]) -> bool {
        let mut ahead = self.lexer.clone();
        let mut token = ahead.next();
        if token == Token::Other {
            // The colon of `:=`.
            token = ahead.next();
        }
        (token == Token::Equals || token.is_word("to"))
            && matches!(ahead.next(), Token::Word(value) | Token::Text(value) | Token::Number(value) if one_of(value, values))
            && match ahead.next() {
                Token::End | Token::Semicolon | Token::Comma => true,
                // MariaDB's SET STATEMENT ... FOR.
                token => token.is_word("for"),
            }
    }

    /// RESET of one setting; RESET ALL takes the session's own back, among them that it is read-only.
    fn reset(&mut self) -> Verdict {
        match self.next() {
            Token::Word(word) | Token::Quoted(word) if !makes_writable(word) && !is(word, "all") => self.scan(),
            Token::Word(word) | Token::Quoted(word) => Err(Refusal::of(format!("RESET {}", word.to_uppercase()))),
            _ => Err(Refusal::of("RESET")),
        }
    }

    /// EXPLAIN of a read: with ANALYZE it is executed, and some servers execute parts of it without.
    fn explain(&mut self, verb: &str) -> Verdict {
        const OPTIONS: [&str; 7] = ["verbose", "extended", "partitions", "query", "plan", "settings", "memory"];
        const VERBS: [&str; 13] = [
            "insert", "update", "delete", "replace", "merge", "call", "execute", "create", "declare", "refresh",
            "into", "do", "import",
        ];
        let mut is_executed = is(verb, "analyze");
        loop {
            let token = self.next();
            match token {
                Token::Unsure => return Err(unsure()),
                Token::Open if self.words_after(&["select", "with", "values", "table"]) => {}
                Token::Open if self.dialect == Dialect::PostgreSql && self.lexer.clone().next() != Token::Open => {
                    while !matches!(self.next(), Token::Close | Token::End | Token::Unsure) {}
                }
                Token::Open => {}
                Token::Word(word) if is_query(word) => {
                    return self.statement(token);
                }
                Token::Word(word) if one_of(word, &["analyze", "analyse"]) && !is_executed => is_executed = true,
                Token::Word(word) if one_of(word, &OPTIONS) => {}
                Token::Word(word) if is(word, "format") && self.is_format() => {
                    while self.lexer.clone().next() == Token::Equals {
                        self.next();
                    }
                    self.next();
                }
                Token::Quoted(_) if self.dialect.is_mysql() && !is_executed => return self.describe(verb, token),
                Token::Word(word) if self.dialect.is_mysql() && !is_executed && !one_of(word, &VERBS) => {
                    return self.describe(verb, token);
                }
                Token::Word(word) => {
                    return Err(Refusal::of(format!("{} {}", verb.to_uppercase(), word.to_uppercase())));
                }
                _ => return Err(Refusal::of(verb.to_uppercase())),
            }
        }
    }

    /// Whether FORMAT, which was read, is the option: a table may have the name.
    fn is_format(&self) -> bool {
        !matches!(self.lexer.clone().next(), Token::End | Token::Semicolon | Token::Dot)
    }

    /// DESCRIBE of a table, perhaps with a column or a pattern, and EXPLAIN FOR CONNECTION.
    fn describe(&mut self, verb: &str, first: Token<'a>) -> Verdict {
        if first.is_word("for") && self.next().is_word("connection") && matches!(self.next(), Token::Number(_)) {
            return match self.next() {
                Token::End | Token::Semicolon => Ok(()),
                _ => Err(Refusal::of(verb.to_uppercase())),
            };
        }
        let mut names = 1;
        loop {
            match self.next() {
                Token::End | Token::Semicolon if !first.is_word("for") => return Ok(()),
                Token::Dot => names -= 1,
                Token::Word(word) if !changes(word) && !is(word, "into") => names += 1,
                Token::Quoted(_) | Token::Text(_) => names += 1,
                _ => return Err(Refusal::of(verb.to_uppercase())),
            }
            if names > 2 {
                return Err(Refusal::of(verb.to_uppercase()));
            }
        }
    }

    /// DECLARE name CURSOR FOR a query.
    fn declare(&mut self) -> Verdict {
        loop {
            match self.next() {
                Token::End | Token::Semicolon => return Err(Refusal::of("DECLARE")),
                Token::Unsure => return Err(unsure()),
                Token::Word(word) if is(word, "for") => break,
                _ => {}
            }
        }
        loop {
            match self.next() {
                Token::Open => {}
                token @ Token::Word(word) if is_query(word) => {
                    return self.statement(token);
                }
                _ => return Err(Refusal::of("DECLARE")),
            }
        }
    }

    /// COPY of a table or of a query's rows to the client.
    fn copy(&mut self) -> Verdict {
        let mut ahead = self.lexer.clone();
        let mut depth = 0_u32;
        let direction = loop {
            match ahead.next() {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                Token::End | Token::Semicolon | Token::Unsure => break "COPY",
                Token::Word(word) if depth == 0 && is(word, "from") => break "COPY ... FROM",
                Token::Word(word) if depth == 0 && is(word, "to") => {
                    if ahead.next().is_word("stdout") {
                        self.is_copy = true;
                        return self.scan();
                    }
                    break "COPY ... TO";
                }
                _ => {}
            }
        };
        Err(Refusal::of(direction))
    }

    /// PRAGMA that queries, or sets what concerns this connection alone, and leaves it read-only.
    fn pragma(&mut self) -> Verdict {
        let refused = |name: &str| Err(Refusal::of(format!("PRAGMA {name}")));
        let mut name = self.next();
        let mut token = self.next();
        if token == Token::Dot {
            name = self.next();
            token = self.next();
        }
        let Token::Word(name) = name else { return refused("") };
        let asks = matches!(token, Token::End | Token::Semicolon);
        let turned_on = matches!(token, Token::Equals | Token::Open)
            && matches!(self.lexer.clone().next(), Token::Number("1"))
            || token == Token::Equals && self.words_after(&["on", "true", "yes"]);
        let reads = if is(name, "query_only") { asks || turned_on } else { settings::pragma_reads(name, asks) };
        if !reads {
            return refused(name);
        }
        if asks { Ok(()) } else { self.scan() }
    }
}

/// Verbs of one server that read, or set what concerns the session alone.
fn concerns_the_session(dialect: Dialect) -> &'static [&'static str] {
    match dialect {
        Dialect::MySql | Dialect::MariaDb => &["use", "help", "checksum"],
        Dialect::PostgreSql => &["fetch", "move", "close"],
        _ => &[],
    }
}

fn transaction(verb: &str) -> &'static str {
    if is(verb, "start") { "START TRANSACTION" } else { "BEGIN" }
}
