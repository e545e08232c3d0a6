//! Why a statement is refused, and the words that decide it.

use crate::sql::surroundings::{DEEPEST, is};

/// Why a statement may not be sent to a replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The verb or the construct, for messages: `"SELECT ... FOR UPDATE"`.
    pub what: String,
    /// The function that is not known, as the statement names it; it may be one that only reads.
    pub function: Option<String>,
}

impl Refusal {
    /// Refuses `what`.
    pub(super) fn of(what: impl Into<String>) -> Self {
        Self { what: what.into(), function: None }
    }
}

/// Whether what was read may be sent.
pub(super) type Verdict = Result<(), Refusal>;

/// Whether a query begins with a word.
pub(super) fn is_query(word: &str) -> bool {
    ["select", "with", "values", "table"].iter().any(|verb| is(word, verb))
}

/// Whether a word is a verb that changes data, unless a column has the name.
pub(super) fn changes(word: &str) -> bool {
    ["insert", "update", "delete", "merge", "replace"].iter().any(|verb| is(word, verb))
}

pub(super) fn changing(verb: &str) -> Refusal {
    Refusal::of(format!("WITH ... {}", verb.to_uppercase()))
}

pub(super) fn unknown(called: String) -> Refusal {
    Refusal { what: format!("{called}()"), function: Some(called) }
}

pub(super) fn too_deep() -> Refusal {
    Refusal::of(format!("a statement of more than {DEEPEST} nested parentheses"))
}

pub(super) fn unsure() -> Refusal {
    Refusal::of("text that servers read in different ways")
}

/// The settings that make a session writable again.
const READ_ONLY: [&str; 3] = ["transaction_read_only", "default_transaction_read_only", "tx_read_only"];
/// Whether a word is one of these.
pub(super) fn one_of(word: &str, known: &[&str]) -> bool {
    known.iter().any(|known| is(word, known))
}

/// Whether assigning to a setting may make the session writable again.
pub(super) fn makes_writable(setting: &str) -> bool {
    one_of(setting, &READ_ONLY)
}
