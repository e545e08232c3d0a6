//! Finds the changes that one statement makes.

use crate::sql::dialect::Dialect;
use crate::sql::lexer::Token;

use super::change::{Action, Change, LOCK, PREPARED, TEMPORARY, UNKNOWN};
use super::words::{contains, has, is, name, one_of, setting_name, word};
use super::{harmless, indirect};

/// The changes that were found so far.
pub(super) struct Found<'a> {
    pub(super) dialect: Dialect,
    pub(super) allowed: &'a [String],
    pub(super) changes: Vec<Change>,
}

impl Found<'_> {
    fn add(&mut self, action: Action, name: impl Into<String>, reads: bool) {
        let change = Change { action, name: name.into(), reads };
        if action != Action::Set || !self.changes.contains(&change) {
            self.changes.push(change);
        }
    }

    /// A setting is changed, or reset.
    fn setting(&mut self, action: Action, name: &str) {
        let name = name.to_lowercase();
        if harmless::is_no_state(&name, self.dialect) {
            return;
        }
        let reads = !harmless::is_harmless(&name, self.dialect);
        self.add(action, name, reads);
    }

    /// Adds the changes of one statement.
    pub(super) fn statement(&mut self, sql: &str, tokens: &[Token<'_>]) {
        let Some(&Token::Word(first)) = tokens.first() else { return self.calls(sql, tokens) };
        let rest = &tokens[1..];
        match (first.to_ascii_lowercase().as_str(), self.dialect) {
            // MariaDB's settings for one statement, which follows them.
            ("set", Dialect::MySql) if indirect::is_for_statement(rest) => {
                let Some(end) = indirect::end_of_settings(rest) else { return self.setting(Action::Set, UNKNOWN) };
                self.calls(sql, &rest[..end]);
                return self.statement(sql, &rest[end + 1..]);
            }
            ("set", Dialect::MySql) => self.set_mysql(rest),
            ("set", _) => self.set(rest),
            ("reset", Dialect::PostgreSql | Dialect::Other) => self.reset(rest),
            ("discard", _) => match word(rest, 0) {
                Some(what) if is(what, "all") => self.add(Action::Discard, "", true),
                Some(what) if is(what, "temp") || is(what, "temporary") => self.add(Action::Reset, TEMPORARY, true),
                _ => {}
            },
            ("use", Dialect::MySql | Dialect::Other) => self.setting(Action::Set, "database"),
            ("create", _) => {
                self.create(rest);
                if indirect::runs_prepared(rest) {
                    self.setting(Action::Set, UNKNOWN);
                }
            }
            ("prepare", _) if !word(rest, 0).is_some_and(|name| is(name, "transaction")) => {
                self.add(Action::Hold, PREPARED, true);
            }
            ("deallocate", _) => {
                let all = rest.iter().any(|token| matches!(token, Token::Word(word) if is(word, "all")));
                self.add(if all { Action::ReleaseAll } else { Action::Release }, PREPARED, true);
            }
            ("drop", Dialect::MySql) if word(rest, 0).is_some_and(|what| is(what, "prepare")) => {
                self.add(Action::Release, PREPARED, true);
            }
            ("listen", Dialect::PostgreSql) => self.add(Action::Hold, "listen", false),
            ("unlisten", Dialect::PostgreSql) => self.add(Action::ReleaseAll, "listen", false),
            ("load", Dialect::PostgreSql) => self.add(Action::Hold, "library", true),
            // LOAD DATA assigns to user variables.
            ("load", Dialect::MySql) if sql.contains('@') => self.setting(Action::Set, "@?"),
            // A rule of the server's own calls set_config().
            ("update", Dialect::PostgreSql) if contains(sql, "pg_settings") => self.setting(Action::Set, UNKNOWN),
            ("call" | "exec" | "execute", _) => self.run(&first.to_ascii_lowercase(), rest),
            ("explain" | "analyze" | "describe" | "desc", _) if has(rest, "execute") => {
                self.setting(Action::Set, UNKNOWN);
            }
            ("declare", Dialect::PostgreSql) if has(rest, "hold") && !has(rest, "without") => {
                self.add(Action::Hold, "cursor", true);
            }
            ("lock", Dialect::MySql) if word(rest, 0).is_some_and(|what| one_of(what, &["table", "tables"])) => {
                self.add(Action::Hold, "tables", true);
            }
            ("flush", Dialect::MySql) if has(rest, "lock") || has(rest, "export") => {
                self.add(Action::Hold, "tables", true);
            }
            ("unlock", Dialect::MySql) => self.add(Action::ReleaseAll, "tables", true),
            ("handler", Dialect::MySql) if has(rest, "open") => self.add(Action::Hold, "handler", true),
            ("handler", Dialect::MySql) if has(rest, "close") => self.add(Action::Release, "handler", true),
            ("attach", Dialect::Sqlite) => self.add(Action::Hold, "attached", true),
            ("detach", Dialect::Sqlite) => self.add(Action::Release, "attached", true),
            ("pragma", Dialect::Sqlite) => self.pragma(rest),
            ("alter", Dialect::Other) if word(rest, 0).is_some_and(|what| is(what, "session")) => {
                self.setting(Action::Set, UNKNOWN);
            }
            ("rollback", _) if has(rest, "to") => self.add(Action::Back, "", true),
            // A block of statements in a string, which cannot be read in another language or behind escapes.
            ("do", Dialect::PostgreSql) => match rest {
                [Token::Other | Token::Text(_)] if !sql.contains('\\') => self.unsure(sql),
                _ => self.setting(Action::Set, UNKNOWN),
            },
            ("begin", dialect) if dialect != Dialect::Other && !has(rest, "not") => {}
            (verb, _) if indirect::SHOWS_ALL.contains(&verb) => {}
            // Blocks of statements that are not parsed here (BEGIN NOT ATOMIC, IF, FOR), and unknown verbs.
            _ => self.unsure(sql),
        }
        self.calls(sql, tokens);
    }

    /// CALL and EXECUTE: the text does not show what they run.
    fn run(&mut self, verb: &str, tokens: &[Token<'_>]) {
        let mut called = name(tokens, 0).unwrap_or_default();
        let mut at = 1;
        while let (Some(Token::Dot), Some(part)) = (tokens.get(at), name(tokens, at + 1)) {
            called = format!("{called}.{part}");
            at += 2;
        }
        if verb != "call" || !self.allowed.contains(&called) {
            self.setting(Action::Set, UNKNOWN);
        }
    }

    /// SET of PostgreSQL, and of servers that resemble it.
    fn set(&mut self, tokens: &[Token<'_>]) {
        let mut rest = tokens;
        let mut action = Action::Set;
        let authorises = |rest: &[Token<'_>]| word(rest, 1).is_some_and(|next| is(next, "authorization"));
        if let Some(scope) = word(rest, 0)
            && one_of(scope, &["session", "local"])
            && !(is(scope, "session") && authorises(rest))
        {
            action = if is(scope, "local") { Action::Local } else { Action::Set };
            rest = &rest[1..];
        }
        let Some(first) = word(rest, 0) else {
            return match setting_name(rest) {
                Some((name, value)) => self.assign(action, &name, value),
                None => self.setting(action, UNKNOWN),
            };
        };
        let value = |at: usize| rest.get(at).copied();
        match first.to_ascii_lowercase().as_str() {
            // They concern transactions, and the constraints of one.
            "transaction" | "characteristics" | "constraints" => {}
            "time" if word(rest, 1).is_some_and(|next| is(next, "zone")) => self.assign(action, "timezone", value(2)),
            "session" if authorises(rest) => self.assign(action, "session_authorization", value(2)),
            "role" if !matches!(value(1), Some(Token::Equals)) => self.assign(action, "role", value(1)),
            "names" => self.assign(action, "client_encoding", value(1)),
            "schema" if !matches!(value(1), Some(Token::Equals)) => self.setting(action, "search_path"),
            "xml" => self.setting(action, "xmloption"),
            _ => match setting_name(rest) {
                Some((name, value)) => self.assign(action, &name, value),
                None => self.setting(action, UNKNOWN),
            },
        }
    }

    /// A setting gets a value. DEFAULT, and for some settings NONE and LOCAL, is the value that the session began with.
    fn assign(&mut self, action: Action, name: &str, value: Option<Token<'_>>) {
        let resets = matches!(value, Some(Token::Word(word)) if is(word, "default")
            || (name == "role" && is(word, "none"))
            || (name == "timezone" && is(word, "local")));
        self.setting(if resets && action == Action::Set { Action::Reset } else { action }, name);
    }

    fn reset(&mut self, tokens: &[Token<'_>]) {
        match word(tokens, 0) {
            Some(what) if is(what, "all") => self.add(Action::ResetAll, "", true),
            Some(what) if is(what, "time") => self.setting(Action::Reset, "timezone"),
            Some(what) if is(what, "session") => self.setting(Action::Reset, "session_authorization"),
            _ => {
                if let Some((name, _)) = setting_name(tokens) {
                    self.setting(Action::Reset, &name);
                }
            }
        }
    }

    /// SET of MySQL and MariaDB: one or several assignments, of the user's variables, of the session's and of the
    /// server's.
    fn set_mysql(&mut self, tokens: &[Token<'_>]) {
        const CHARACTER_SETS: [&str; 4] =
            ["character_set_client", "character_set_connection", "character_set_results", "collation_connection"];
        let first = word(tokens, 0).map(str::to_ascii_lowercase).unwrap_or_default();
        match first.as_str() {
            "password" | "transaction" | "resource" => return,
            "default" if word(tokens, 1).is_some_and(|next| is(next, "role")) => return,
            "role" if !matches!(tokens.get(1), Some(Token::Equals)) => return self.setting(Action::Set, "role"),
            "session" | "local" | "global" if word(tokens, 1).is_some_and(|next| is(next, "transaction")) => return,
            "names" | "charset" => return CHARACTER_SETS.iter().for_each(|name| self.setting(Action::Set, name)),
            "character" => return CHARACTER_SETS.iter().for_each(|name| self.setting(Action::Set, name)),
            _ => {}
        }
        let mut depth = 0_u32;
        let mut start = 0;
        for at in 0..=tokens.len() {
            match tokens.get(at) {
                Some(Token::Open) => depth += 1,
                Some(Token::Close) => depth = depth.saturating_sub(1),
                Some(Token::Comma) | None if depth == 0 || at == tokens.len() => {
                    self.assignment_mysql(&tokens[start..at]);
                    start = at + 1;
                }
                _ => {}
            }
        }
    }

    /// One of the assignments of a SET. Signs before a name: one for a variable of the user's, two for one of the system.
    fn assignment_mysql(&mut self, tokens: &[Token<'_>]) {
        let signs = tokens.iter().take_while(|token| **token == Token::Other).count();
        let mut rest = &tokens[signs..];
        if signs == 1 {
            return match name(rest, 0) {
                Some(name) => self.setting(Action::Set, &format!("@{name}")),
                None => self.setting(Action::Set, "@?"),
            };
        }
        if let Some(scope) = word(rest, 0) {
            let is_scope = one_of(scope, &["session", "local", "global", "persist", "persist_only"]);
            let is_last = matches!(rest.get(1), Some(Token::Equals | Token::Other) | None);
            if is_scope && !is_last {
                if !one_of(scope, &["session", "local"]) {
                    return;
                }
                rest = &rest[1..];
                rest = if rest.first() == Some(&Token::Dot) { &rest[1..] } else { rest };
            }
        }
        match setting_name(rest) {
            Some((name, value)) => self.assign(Action::Set, &name, value),
            None if tokens.is_empty() => {}
            None => self.setting(Action::Set, UNKNOWN),
        }
    }

    /// CREATE: a temporary object belongs to the session.
    fn create(&mut self, tokens: &[Token<'_>]) {
        let words = tokens.iter().take(4);
        let before_kind = words.take_while(
            |token| matches!(token, Token::Word(word) if !one_of(word, &["table", "view", "sequence", "trigger", "index"])),
        );
        let is_marked = before_kind
            .into_iter()
            .any(|token| matches!(token, Token::Word(word) if one_of(word, &["temp", "temporary"])));
        let is_qualified = tokens.windows(2).take(8).any(|pair| match pair {
            [Token::Word(schema) | Token::Quoted(schema), Token::Dot] => one_of(schema, &["temp", "pg_temp"]),
            _ => false,
        });
        let drops = tokens.windows(3).any(|three| match three {
            [Token::Word(on), Token::Word(commit), Token::Word(drop)] => {
                is(on, "on") && is(commit, "commit") && is(drop, "drop")
            }
            _ => false,
        });
        if (is_marked || is_qualified) && !(drops && self.dialect == Dialect::PostgreSql) {
            self.add(Action::Set, TEMPORARY, true);
        }
    }

    /// PRAGMA: with a value it sets something.
    fn pragma(&mut self, tokens: &[Token<'_>]) {
        let tokens = if tokens.get(1) == Some(&Token::Dot) { &tokens[2..] } else { tokens };
        let Some(name) = name(tokens, 0) else { return };
        if tokens.len() > 1 {
            self.setting(Action::Set, &name);
        }
    }

    /// Functions and clauses that change the session, wherever they stand in a statement.
    fn calls(&mut self, sql: &str, tokens: &[Token<'_>]) {
        let assigns = self.dialect == Dialect::MySql && sql.contains(":=");
        for (at, token) in tokens.iter().enumerate() {
            match *token {
                Token::Word(called) | Token::Quoted(called) if tokens.get(at + 1) == Some(&Token::Open) => {
                    self.call(called, &tokens[at + 2..]);
                }
                // MySQL's `:=`. Any other operator that ends in `=` is a comparison, and follows no name with a sign.
                Token::Equals if assigns && at >= 3 && tokens[at - 1] == Token::Other => {
                    if let (Token::Word(name) | Token::Quoted(name), Token::Other) = (tokens[at - 2], tokens[at - 3]) {
                        self.setting(Action::Set, &format!("@{}", name.to_lowercase()));
                    }
                }
                Token::Word(into) if at > 0 && is(into, "into") => match (self.dialect, &tokens[at + 1..]) {
                    (Dialect::MySql, [Token::Other, ..]) => self.assigned_by_into(&tokens[at + 1..]),
                    (Dialect::PostgreSql, [Token::Word(word), ..]) if one_of(word, &["temp", "temporary", "local"]) => {
                        self.add(Action::Set, TEMPORARY, true);
                    }
                    _ => {}
                },
                _ => {}
            }
        }
    }

    /// INTO @a, @b.
    fn assigned_by_into(&mut self, tokens: &[Token<'_>]) {
        let mut rest = tokens;
        while let [Token::Other, following @ ..] = rest {
            let name = name(following, 0).unwrap_or_else(|| UNKNOWN.to_owned());
            self.setting(Action::Set, &format!("@{name}"));
            rest = match following {
                [_, Token::Comma, next @ ..] => next,
                _ => &[],
            };
        }
    }

    fn call(&mut self, called: &str, arguments: &[Token<'_>]) {
        let called = called.to_ascii_lowercase();
        match self.dialect {
            Dialect::MySql | Dialect::MariaDb => match called.as_str() {
                "get_lock" => self.add(Action::Hold, LOCK, true),
                "release_lock" => self.add(Action::Release, LOCK, true),
                "release_all_locks" => self.add(Action::ReleaseAll, LOCK, true),
                _ => {}
            },
            Dialect::PostgreSql | Dialect::Other => match called.as_str() {
                "set_config" => self.set_config(arguments),
                "pg_advisory_unlock" | "pg_advisory_unlock_shared" => self.add(Action::Release, LOCK, true),
                "pg_advisory_unlock_all" => self.add(Action::ReleaseAll, LOCK, true),
                "pg_advisory_lock"
                | "pg_advisory_lock_shared"
                | "pg_try_advisory_lock"
                | "pg_try_advisory_lock_shared" => self.add(Action::Hold, LOCK, true),
                _ => {}
            },
            Dialect::Sqlite => {}
        }
    }

    /// PostgreSQL's `set_config(name, value, is_local)`.
    fn set_config(&mut self, arguments: &[Token<'_>]) {
        let mut parts: [&[Token<'_>]; 3] = [&[]; 3];
        let (mut depth, mut start, mut part) = (0_u32, 0, 0);
        for (at, token) in arguments.iter().enumerate() {
            match token {
                Token::Open => depth += 1,
                Token::Close if depth > 0 => depth -= 1,
                Token::Comma | Token::Close if depth == 0 && part < 3 => {
                    parts[part] = &arguments[start..at];
                    (start, part) = (at + 1, part + 1);
                    if *token == Token::Close {
                        break;
                    }
                }
                _ => {}
            }
        }
        let is_local = match parts[2] {
            [Token::Word(value) | Token::Text(value)] => one_of(value, &["true", "t", "on", "yes", "1"]),
            _ => false,
        };
        let action = if is_local { Action::Local } else { Action::Set };
        match parts[0] {
            [Token::Text(name)] => self.setting(action, name),
            _ => self.setting(action, UNKNOWN),
        }
    }

    /// A text that cannot be read counts as a change if a word of one stands in it.
    pub(super) fn unsure(&mut self, sql: &str) {
        if indirect::has_word_of_change(sql, self.dialect) {
            self.setting(Action::Set, UNKNOWN);
        }
    }
}
