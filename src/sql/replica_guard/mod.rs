//! The guard: whether a statement may be sent to a replica.
//!
//! A read-only session refuses most writes by itself. It lets through locks that no other session sees, statements that
//! make the session writable again, and temporary tables. [`refusal`] finds these, and more: what is not surely a read
//! is refused. [`analyse`](super::analyse::analyse) answers another question (did data change?), so the two differ: a
//! BEGIN READ WRITE changes nothing, and a locking read does not either.
//!
//! What no text shows is left to the server: a view, an operator, a cast or a column that calls a function by its
//! definition.

mod charset;
mod control;
mod reader;
mod refusal;

use super::dialect::{Dialect, LONGEST_TEXT};
use super::lexer::{Backslash, Lexer};

pub use charset::keeps_ascii_apart;
use reader::Reader;
pub use refusal::Refusal;

/// Why `sql` may not be sent to a replica; `None` if it may. Linear in its length.
///
/// `allowed` are functions that are known to read only, in lower case and as they are called: `"f"`, `"schema.f"`.
#[must_use]
pub fn refusal(sql: &str, dialect: Dialect, allowed: &[String]) -> Option<Refusal> {
    if sql.len() > LONGEST_TEXT {
        return Some(Refusal::of(format!("a text of more than {LONGEST_TEXT} bytes")));
    }
    let mut reader = Reader::new(Lexer::new(sql, dialect), dialect, allowed);
    let refusal = reader.text().err()?;
    if !reader.lexer.is_ambiguous() {
        return Some(refusal);
    }
    // A server reads the text in one of two ways: neither may do harm.
    [Backslash::Escapes, Backslash::Plain]
        .into_iter()
        .find_map(|backslash| Reader::new(Lexer::reading(sql, dialect, backslash), dialect, allowed).text().err())
}

#[cfg(test)]
mod attacks;
#[cfg(test)]
mod tests;
