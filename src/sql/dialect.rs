//! The dialect of a text, and the length up to which a text is read.

/// The longest text that is read to its end, in bytes. A longer text is not surely a read.
pub const LONGEST_TEXT: usize = 1 << 20;

/// The server whose rules the text follows.
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
    /// Any other: only what all servers have in common counts.
    Other,
}

impl Dialect {
    /// Whether the text follows the rules that MySQL and `MariaDB` share.
    #[must_use]
    pub fn is_mysql(self) -> bool {
        matches!(self, Self::MySql | Self::MariaDb)
    }
}
