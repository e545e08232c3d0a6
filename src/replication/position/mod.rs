//! Positions in a server's history, as each engine counts them.
//!
//! The server that commits a write gives it a [`Position`]. A replica may serve the writer once the replica's own
//! position [contains](Position::contains) that one. The obvious alternative, a point in time, is a guess: clocks
//! differ, and a replica that stands still does not report it.
//!
//! `contains` is a partial order, and never true by guessing: positions of two engines, of two PostgreSQL timelines, or
//! of MariaDB histories that have diverged are not [`comparable`](Position::comparable), and neither contains the
//! other. [`Position::union`] is the least position that contains both.
//!
//! Texts come from servers, but also from tokens that clients send. Parsing is bounded ([`MAX_TEXT`], [`MAX_PARTS`]),
//! takes time proportional to the text (times a logarithm), and answers bad text with an error. Servers also accept
//! texts that they never print (a UUID with no numbers after it, `5-3`, a missing item between two commas). Those are
//! refused: such a text was damaged on its way, and if it were read as less than it was, a stale read could pass.

mod gtid_set;
mod lsn;
mod mariadb;
#[cfg(test)]
mod tests;
mod text;

use std::fmt;
use std::sync::Arc;

use thiserror::Error;

use gtid_set::GtidSet;
use lsn::Lsn;
use mariadb::Gtids;
use text::{Malformed, excerpt};

/// The longest text that is read, in bytes.
pub const MAX_TEXT: usize = 1 << 20;

/// The most intervals of a GTID set, or domains of a MariaDB position.
///
/// The longest such position (each interval with a UUID, the longest tag and the longest numbers: 111 bytes) prints
/// within [`MAX_TEXT`], so that whatever exists can also be read back.
pub const MAX_PARTS: usize = 8192;

/// The engine whose format a position has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// MySQL: a set of GTIDs, `3e11fa47-71ca-11e1-9e33-c80aa9429562:1-5:7:tag:3`.
    MySql,
    /// MariaDB: the last GTID of each domain, `0-1-5,2-3-7`.
    MariaDb,
    /// PostgreSQL: the timeline and the place in its log, `1:0/16B3748`.
    PostgreSql,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Self; 3] = [Self::MySql, Self::MariaDb, Self::PostgreSql];

    /// `"mysql"`, `"mariadb"` or `"postgresql"`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::MySql => "mysql",
            Self::MariaDb => "mariadb",
            Self::PostgreSql => "postgresql",
        }
    }

    /// The kind of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Why a text is no position, or two positions have no union.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum PositionError {
    /// The text is too long to be read.
    #[error("a {kind} position of {length} bytes: {MAX_TEXT} is the most that is read")]
    TooLong {
        /// The kind that was expected.
        kind: Kind,
        /// Its length in bytes.
        length: usize,
    },
    /// It has too many intervals or domains.
    #[error("a {kind} position of {parts} intervals or domains: {MAX_PARTS} is the most")]
    TooManyParts {
        /// The kind that was expected.
        kind: Kind,
        /// How many it has.
        parts: usize,
    },
    /// The text does not have the format of this kind.
    #[error("not a {kind} position: {text:?}: {part:?} is not {expected}")]
    Malformed {
        /// The kind that was expected.
        kind: Kind,
        /// The beginning of the text.
        text: String,
        /// The beginning of the part that is wrong.
        part: String,
        /// The expected text.
        expected: &'static str,
    },
    /// No position contains both, or no such position is the least.
    #[error("{0:?} ({1}) and {2:?} ({3}) cannot be compared")]
    NotComparable(String, Kind, String, Kind),
}

/// A position. Immutable; a clone costs a counter.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Position {
    /// See [`Kind::MySql`].
    MySql(Arc<GtidSet>),
    /// See [`Kind::MariaDb`].
    MariaDb(Arc<Gtids>),
    /// See [`Kind::PostgreSql`].
    PostgreSql(Lsn),
}

impl Position {
    /// Reads a position as servers print it, in any order, letter case and spacing.
    ///
    /// The empty text is the MySQL and MariaDB position of a server without any transaction.
    ///
    /// # Errors
    /// [`PositionError`], if the text is no position of this kind or exceeds a bound. Never panics.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, PositionError> {
        if text.len() > MAX_TEXT {
            return Err(PositionError::TooLong { kind, length: text.len() });
        }
        let trimmed = text.trim_ascii();
        let parsed = match kind {
            Kind::MySql => GtidSet::parse(trimmed).map(|set| Self::MySql(Arc::new(set))),
            Kind::MariaDb => Gtids::parse(trimmed).map(|gtids| Self::MariaDb(Arc::new(gtids))),
            Kind::PostgreSql => Lsn::parse(trimmed).map(Self::PostgreSql),
        };
        let malformed = |Malformed { part, expected }| PositionError::Malformed {
            kind,
            text: excerpt(text),
            part: excerpt(part),
            expected,
        };
        parsed.map_err(malformed)?.bounded()
    }

    /// The engine whose format it has.
    #[must_use]
    pub const fn kind(&self) -> Kind {
        match self {
            Self::MySql(_) => Kind::MySql,
            Self::MariaDb(_) => Kind::MariaDb,
            Self::PostgreSql(_) => Kind::PostgreSql,
        }
    }

    /// Whether a server at this position has all that a server at `other` has. False where they cannot be compared.
    ///
    /// Takes microseconds for sets of a thousand intervals, less than one if `other` is a few transactions.
    #[must_use]
    pub fn contains(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(this), Self::MySql(other)) => Arc::ptr_eq(this, other) || this.contains(other),
            (Self::MariaDb(this), Self::MariaDb(other)) => this.contains(other),
            (Self::PostgreSql(this), Self::PostgreSql(other)) => this.contains(*other),
            _ => false,
        }
    }

    /// Whether one order holds both: the same kind, timeline and history.
    #[must_use]
    pub fn comparable(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::MySql(_), Self::MySql(_)) => true,
            (Self::MariaDb(this), Self::MariaDb(other)) => this.comparable(other),
            (Self::PostgreSql(this), Self::PostgreSql(other)) => this.comparable(*other),
            _ => false,
        }
    }

    /// The least position that contains both.
    ///
    /// # Errors
    /// [`PositionError::NotComparable`], and [`PositionError::TooManyParts`] if it would exceed that bound.
    pub fn union(&self, other: &Self) -> Result<Self, PositionError> {
        if self.contains(other) {
            return Ok(self.clone());
        }
        if other.contains(self) {
            return Ok(other.clone());
        }
        match (self, other) {
            (Self::MySql(this), Self::MySql(other)) => Self::MySql(Arc::new(this.union(other))).bounded(),
            (Self::MariaDb(this), Self::MariaDb(other)) if this.comparable(other) => {
                Self::MariaDb(Arc::new(this.union(other))).bounded()
            }
            // On one timeline one place contains the other.
            _ => Err(PositionError::NotComparable(excerpt(self), self.kind(), excerpt(other), other.kind())),
        }
    }

    /// An equal or larger position whose text takes at most `limit` bytes; `None` if there is none.
    ///
    /// A larger position is safe: it requires more of a replica than necessary. Only a GTID set can be shortened, by
    /// closing gaps, the narrowest first. Gaps are left open for a moment by transactions that are applied or committed
    /// in parallel, and all of them are filled in the end: a source gives out the next free number, so that every
    /// number below its highest one is committed or about to be. A replica that has all up to there has the larger
    /// position too, some transactions later. Wide gaps may stay open for long (each member of a group takes its
    /// numbers from a block of a million), and are closed only as a last resort: then a replica may not get there soon,
    /// and reads go to the primary until the position is given up.
    ///
    /// A position without gaps cannot be shortened: without a UUID, a domain or a digit it would require less.
    #[must_use]
    pub fn shortened(&self, limit: usize) -> Option<Self> {
        if self.to_string().len() <= limit {
            return Some(self.clone());
        }
        match self {
            Self::MySql(set) => {
                // Joining two intervals never makes the text longer: `1-2:4` is `1-4` then, `2:4` is `2-4`.
                let shortened = set.closing_gaps(|set| set.to_string().len() <= limit);
                shortened.map(|set| Self::MySql(Arc::new(set)))
            }
            Self::MariaDb(_) | Self::PostgreSql(_) => None,
        }
    }

    /// An equal or larger position of at most `most` intervals, if closing gaps leads there. A larger position is safe,
    /// and will be reached: see [`Position::shortened`].
    #[must_use]
    pub fn of_few_intervals(self, most: usize) -> Self {
        let joined = match &self {
            Self::MySql(set) if set.intervals() > most => set.closing_gaps(|set| set.intervals() <= most),
            _ => None,
        };
        joined.map_or(self, |set| Self::MySql(Arc::new(set)))
    }

    /// How many intervals it has, or domains.
    #[must_use]
    pub fn intervals(&self) -> usize {
        match self {
            Self::MySql(set) => set.intervals(),
            Self::MariaDb(gtids) => gtids.domains(),
            Self::PostgreSql(_) => 1,
        }
    }

    fn bounded(self) -> Result<Self, PositionError> {
        let parts = self.intervals();
        if parts > MAX_PARTS { Err(PositionError::TooManyParts { kind: self.kind(), parts }) } else { Ok(self) }
    }
}

/// The canonical text: sorted, in lower case (LSNs in upper case), neighbouring intervals joined. It is what the server
/// prints, except for MySQL's line break after each comma: a position is one line.
impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MySql(set) => set.fmt(f),
            Self::MariaDb(gtids) => gtids.fmt(f),
            Self::PostgreSql(lsn) => lsn.fmt(f),
        }
    }
}
