//! Which table a statement writes to.
//!
//! Only the plain forms are recognised: one INSERT, REPLACE, UPDATE or DELETE of one table. Everything else may write
//! to any table: a query inside, a join, a list of tables, a function that is not the server's own, several statements.
//! Effects that no text shows (a trigger, a rule, a view, a cascade of the database) are not considered.

use super::dialect::Dialect;
use super::lexer::{Lexer, Token};
use super::surroundings::{Opens, Surroundings};

/// The table that `sql` writes to, by the parts of its name as the server compares them (`["public", "app_item"]`). Reads no
/// further than that name.
#[must_use]
pub fn target(sql: &str, dialect: Dialect) -> Option<Vec<String>> {
    begin(&mut Lexer::new(sql, dialect), dialect).map(|(_, parts, _)| parts)
}

/// Whether `sql` is of a plain form, names no table but its [`target`], and calls nothing that might use one.
#[must_use]
pub fn names_one(sql: &str, dialect: Dialect) -> bool {
    let mut lexer = Lexer::new(sql, dialect);
    let Some((verb, _, mut token)) = begin(&mut lexer, dialect) else { return false };
    // A list of tables.
    if token == Token::Comma {
        return false;
    }
    let mut around = Surroundings::new();
    let mut is_conflict = false;
    let mut is_first_list = verb == Verb::Insert;
    let mut has_begun = verb != Verb::Update;
    // How many parentheses are open since that of UNNEST. A comma after it lists another table.
    let mut unnested: Option<u32> = None;
    loop {
        match token {
            Token::End => return has_begun,
            Token::Semicolon => return has_begun && lexer.next() == Token::End,
            Token::Unsure => return false,
            // A list of tables, one of which has another name here.
            Token::Comma if !has_begun => return false,
            Token::Open => {
                // The columns of an INSERT, and those of its conflict.
                let is_list = std::mem::take(&mut is_first_list) || is_conflict;
                if !is_list && around.opens(&lexer, dialect) == Opens::Call {
                    return false;
                }
            }
            Token::Word(word) if verb == Verb::Insert && word.eq_ignore_ascii_case("select") => {
                // Django passes the rows of a `bulk_create` to PostgreSQL in this form: SELECT * FROM UNNEST(...).
                let mut ahead = lexer.clone();
                let is_unnested = dialect == Dialect::PostgreSql
                    && ahead.next() == Token::Other
                    && matches!(ahead.next(), Token::Word(word) if word.eq_ignore_ascii_case("from"))
                    && matches!(ahead.next(), Token::Word(word) if word.eq_ignore_ascii_case("unnest"))
                    && ahead.next() == Token::Open;
                if !is_unnested {
                    return false;
                }
                lexer = ahead;
                token = Token::Open;
                unnested = Some(1);
            }
            Token::Comma if unnested == Some(0) => return false,
            Token::Word(word) => {
                if is_one_of(word, &["returning", "on"]) {
                    unnested = None;
                }
                has_begun |= word.eq_ignore_ascii_case("set");
                if is_one_of(word, &OTHER_TABLES) {
                    return false;
                }
                if is_one_of(word, &["values", "value", "set", "default"]) {
                    is_first_list = false;
                }
            }
            _ => {}
        }
        is_conflict = matches!(token, Token::Word(word) if word.eq_ignore_ascii_case("conflict"));
        if !around.follow(token) {
            return false;
        }
        token = lexer.next();
        unnested = match token {
            Token::Open => unnested.map(|depth| depth + 1),
            Token::Close => unnested.map(|depth| depth.saturating_sub(1)),
            _ => unnested,
        };
    }
}

/// Words that another table may follow.
const OTHER_TABLES: [&str; 11] =
    ["select", "from", "join", "using", "with", "table", "into", "union", "call", "execute", "straight_join"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verb {
    Insert,
    Update,
    Delete,
}

/// Reads up to the target table: the verb, the parts of the table's name, and the token that follows them.
fn begin<'a>(lexer: &mut Lexer<'a>, dialect: Dialect) -> Option<(Verb, Vec<String>, Token<'a>)> {
    const MODIFIERS: [&str; 7] = ["low_priority", "high_priority", "delayed", "ignore", "quick", "only", "into"];
    let Token::Word(word) = lexer.next() else { return None };
    let verb = match word.len() {
        6 if word.eq_ignore_ascii_case("insert") => Verb::Insert,
        6 if word.eq_ignore_ascii_case("update") => Verb::Update,
        6 if word.eq_ignore_ascii_case("delete") => Verb::Delete,
        7 if word.eq_ignore_ascii_case("replace") && dialect != Dialect::PostgreSql => Verb::Insert,
        _ => return None,
    };
    let mut saw_from = false;
    loop {
        match lexer.next() {
            Token::Word(word) if is_one_of(word, &MODIFIERS) => {}
            // SQLite's INSERT OR IGNORE.
            Token::Word(word) if word.eq_ignore_ascii_case("or") && dialect == Dialect::Sqlite => {
                lexer.next();
            }
            Token::Word(word) if word.eq_ignore_ascii_case("from") && verb == Verb::Delete => saw_from = true,
            // MySQL's DELETE a, b FROM ... has no FROM before its tables.
            _ if verb == Verb::Delete && !saw_from => return None,
            token => {
                let (parts, following) = table_name(lexer, token, dialect)?;
                return Some((verb, parts, following));
            }
        }
    }
}

fn table_name<'a>(lexer: &mut Lexer<'a>, first: Token<'a>, dialect: Dialect) -> Option<(Vec<String>, Token<'a>)> {
    let mut parts = vec![part(first, dialect)?];
    loop {
        match lexer.next() {
            Token::Dot => parts.push(part(lexer.next(), dialect)?),
            following => return Some((parts, following)),
        }
    }
}

/// A part of a name as the server compares it: PostgreSQL folds what is not quoted.
fn part(token: Token<'_>, dialect: Dialect) -> Option<String> {
    match token {
        Token::Word(word) if dialect == Dialect::PostgreSql => Some(word.to_lowercase()),
        Token::Word(word) => Some(word.to_owned()),
        Token::Quoted(name) => Some(name.to_owned()),
        _ => None,
    }
}

fn is_one_of(word: &str, known: &[&str]) -> bool {
    known.iter().any(|known| word.eq_ignore_ascii_case(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIALECTS: [Dialect; 3] = [Dialect::MySql, Dialect::PostgreSql, Dialect::Sqlite];

    #[test]
    fn plain_statements_name_one_table() {
        for sql in [
            "INSERT INTO django_session (session_key, expire_date) VALUES (%s, %s)",
            "insert into django_session values (%s)",
            "UPDATE django_session SET session_data = %s WHERE django_session.session_key = %s",
            "UPDATE django_session SET expire_date = COALESCE(%s, expire_date), session_data = LOWER(%s);",
            "DELETE FROM django_session WHERE session_key IN (%s, %s)",
            "DELETE FROM django_session",
            "INSERT INTO django_session (a) VALUES (%s) RETURNING django_session.a",
        ] {
            for dialect in DIALECTS {
                assert_eq!(target(sql, dialect), Some(vec!["django_session".to_owned()]), "{sql}");
                assert!(names_one(sql, dialect), "{sql} {dialect:?}");
            }
        }
        for (sql, dialect) in [
            (
                "INSERT INTO \"django_session\" (a) VALUES (%s) ON CONFLICT(\"a\") DO UPDATE SET \"a\" = EXCLUDED.\"a\"",
                DIALECTS[1],
            ),
            (
                "INSERT INTO \"django_session\" (a, b) SELECT * FROM UNNEST((%s)::text[], (%s)::int[]) RETURNING a",
                DIALECTS[1],
            ),
            ("INSERT OR IGNORE INTO \"django_session\" (\"a\") VALUES (%s)", DIALECTS[2]),
            (
                "INSERT IGNORE INTO `django_session` (`a`) VALUES (%s) AS new ON DUPLICATE KEY UPDATE `a` = new.`a`",
                DIALECTS[0],
            ),
            ("REPLACE INTO `django_session` (`a`) VALUES (%s)", DIALECTS[0]),
            ("INSERT `django_session` SET a = 1", DIALECTS[0]),
            ("DELETE QUICK FROM `django_session` WHERE 1", DIALECTS[0]),
            ("UPDATE ONLY Django_Session SET a = 1", DIALECTS[1]),
        ] {
            assert_eq!(target(sql, dialect), Some(vec!["django_session".to_owned()]), "{sql}");
            assert!(names_one(sql, dialect), "{sql}");
        }
    }

    #[test]
    fn a_qualified_name_has_its_parts() {
        let sql = "UPDATE \"other\".\"django_session\" SET a = 1";
        assert_eq!(target(sql, Dialect::PostgreSql), Some(vec!["other".to_owned(), "django_session".to_owned()]));
        assert!(names_one(sql, Dialect::PostgreSql));
    }

    #[test]
    fn whatever_may_touch_another_table_is_told() {
        for sql in [
            "INSERT INTO a (x) SELECT x FROM b",
            "INSERT INTO a SELECT 1",
            "INSERT INTO a TABLE b",
            "INSERT INTO a (x) SELECT * FROM UNNEST(touch(1))",
            "INSERT INTO a (x) SELECT * FROM UNNEST((%s)), b",
            "INSERT INTO a (x) VALUES ((SELECT 1))",
            "INSERT INTO a (x) VALUES (touch(1))",
            "UPDATE a SET x = (SELECT y FROM b)",
            "UPDATE a SET x = touch(x)",
            "UPDATE a, b SET a.x = 1",
            "UPDATE a JOIN b ON a.x = b.x SET b.y = 1",
            "UPDATE a SET x = 1 FROM b",
            "UPDATE a SET x = 1; DELETE FROM b",
            "DELETE FROM a USING b WHERE a.x = b.x",
            "DELETE FROM a, b USING a",
            "DELETE FROM a WHERE x IN (SELECT y FROM b)",
            "DELETE a, b FROM a",
            "WITH x AS (DELETE FROM b) DELETE FROM a",
            "CALL a()",
            "TRUNCATE a",
            "MERGE INTO a USING b ON 1 WHEN MATCHED THEN DELETE",
            "UPDATE a",
        ] {
            for dialect in DIALECTS {
                assert!(target(sql, dialect).is_none() || !names_one(sql, dialect), "{sql} {dialect:?}");
            }
        }
        assert!(!names_one("UPDATE a SET x = 'it\\'s'", Dialect::PostgreSql));
        assert!(!names_one("DELETE FROM a /*! , b */ WHERE 1", Dialect::MySql));
    }
}
