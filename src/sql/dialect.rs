//! Whose rules a text follows, and how much of it is read.

/// The longest text that is read to its end, in bytes. What is longer is not surely a read.
pub const LONGEST_TEXT: usize = 1 << 20;

/// Whose rules the text follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// MySQL.
    MySql,
    /// `MariaDB`, which has functions of its own and other keywords.
    MariaDb,
    /// PostgreSQL.
    PostgreSql,
    /// SQLite.
    Sqlite,
    /// Any other: only what all have in common is believed.
    Other,
}

impl Dialect {
    /// Whether the text follows the rules that MySQL and `MariaDB` share.
    #[must_use]
    pub fn is_mysql(self) -> bool {
        matches!(self, Self::MySql | Self::MariaDb)
    }
}
