//! `analyse`: whether a statement writes, as flags. `refusal`: whether a replica may run it.

use pyo3::prelude::*;

use crate::sql::dialect::Dialect;
use crate::sql::{self, replica_guard, session, tables};

const WRITES: u8 = 1;
const LOCKS: u8 = 2;
const AT_ONCE: u8 = 4;
const BEGINS: u8 = 8;
const COMMITS: u8 = 16;
const ROLLS_BACK: u8 = 32;
const AUTOCOMMIT_OFF: u8 = 64;
const AUTOCOMMIT_ON: u8 = 128;
const SESSION: u16 = 256;

/// Django's `connection.vendor` as a dialect. Django's vendor of `MariaDB` is "mysql", too; a caller that knows the
/// difference passes "mariadb".
fn dialect(vendor: &str) -> Dialect {
    match vendor {
        "mysql" => Dialect::MySql,
        "mariadb" => Dialect::MariaDb,
        "postgresql" => Dialect::PostgreSql,
        "sqlite" => Dialect::Sqlite,
        _ => Dialect::Other,
    }
}

/// The first word of a statement, in capitals.
#[pyfunction]
pub fn verb(sql: &str, vendor: &str) -> String {
    sql::analyse::verb(sql, dialect(vendor))
}

/// The effects of a statement, as a sum of flags.
#[pyfunction]
pub fn analyse(sql: &str, vendor: &str) -> u16 {
    let dialect = dialect(vendor);
    let effects = sql::analyse::analyse(sql, dialect);
    let flags = [
        (effects.writes, WRITES),
        (effects.locks, LOCKS),
        (effects.at_once, AT_ONCE),
        (effects.begins, BEGINS),
        (effects.commits, COMMITS),
        (effects.rolls_back, ROLLS_BACK),
        (effects.autocommit == Some(false), AUTOCOMMIT_OFF),
        (effects.autocommit == Some(true), AUTOCOMMIT_ON),
    ]
    .iter()
    .filter(|(set, _)| *set)
    .fold(0, |flags, (_, flag)| flags | flag);
    u16::from(flags) | if session::may_change(sql, dialect) { SESSION } else { 0 }
}

/// The changes that a statement makes to its session: the action, the name of the setting or kind of thing, and whether
/// it may change the meaning of later reads.
#[pyfunction]
#[pyo3(signature = (sql, vendor, allowed = Vec::new()))]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts a list as a vector")]
pub fn session_changes(sql: &str, vendor: &str, allowed: Vec<String>) -> Vec<(&'static str, String, bool)> {
    let changes = session::changes(sql, dialect(vendor), &allowed);
    changes.into_iter().map(|change| (change.action.name(), change.name, change.reads)).collect()
}

/// The one table that a statement surely writes to, by the parts of its name; None if it may write to another.
#[pyfunction]
pub fn target_table(sql: &str, vendor: &str) -> Option<Vec<String>> {
    tables::target(sql, dialect(vendor))
}

/// Whether a statement that has a target table names no other table, and calls nothing that might use one.
#[pyfunction]
pub fn names_one_table(sql: &str, vendor: &str) -> bool {
    tables::names_one(sql, dialect(vendor))
}

/// Why a statement may not be sent to a replica: the verb or construct, and the unknown function if that is all.
#[pyfunction]
#[pyo3(signature = (sql, vendor, allowed = Vec::new()))]
#[expect(clippy::needless_pass_by_value, reason = "PyO3 extracts a list as a vector")]
pub fn refusal(sql: &str, vendor: &str, allowed: Vec<String>) -> Option<(String, Option<String>)> {
    replica_guard::refusal(sql, dialect(vendor), &allowed).map(|refusal| (refusal.what, refusal.function))
}

/// Whether each byte of ASCII is a character of its own in a character set, by the server's name for the set.
#[pyfunction]
pub fn keeps_ascii_apart(character_set: &str, vendor: &str) -> bool {
    replica_guard::keeps_ascii_apart(character_set, dialect(vendor))
}

pub fn add_flags(module: &Bound<'_, PyModule>) -> PyResult<()> {
    for (name, flag) in [
        ("WRITES", WRITES),
        ("LOCKS", LOCKS),
        ("AT_ONCE", AT_ONCE),
        ("BEGINS", BEGINS),
        ("COMMITS", COMMITS),
        ("ROLLS_BACK", ROLLS_BACK),
        ("AUTOCOMMIT_OFF", AUTOCOMMIT_OFF),
        ("AUTOCOMMIT_ON", AUTOCOMMIT_ON),
    ] {
        module.add(name, flag)?;
    }
    module.add("SESSION", SESSION)
}
