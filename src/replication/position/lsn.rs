//! PostgreSQL's positions: a place in the write-ahead log, and the timeline it is on.
//!
//! A promotion begins a new timeline, which has all of the old one up to the place where it branched off. The rest of
//! the old timeline is lost, and the new timeline uses its numbers again: places on two timelines say nothing about
//! each other.

use std::fmt;

use super::text::{Malformed, number};

/// A place in the log of one timeline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Lsn {
    timeline: u32,
    place: u64,
}

impl Lsn {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed<'_>> {
        let (timeline, lsn) = text.split_once(':').unwrap_or(("", text));
        let timeline = number(timeline)
            .filter(|&timeline| timeline > 0)
            .ok_or(Malformed { part: timeline, expected: "the number of a timeline, before a colon" })?;
        let place = lsn.split_once('/').and_then(|(high, low)| Some(half(high)? << 32 | half(low)?));
        let place = place.ok_or(Malformed { part: lsn, expected: "an LSN" })?;
        Ok(Self { timeline, place })
    }

    pub(super) const fn comparable(self, other: Self) -> bool {
        self.timeline == other.timeline
    }

    pub(super) const fn contains(self, other: Self) -> bool {
        self.comparable(other) && self.place >= other.place
    }
}

/// Up to eight hexadecimal digits; versions differ in whether they print leading zeros.
fn half(text: &str) -> Option<u64> {
    let digits = 1..=8;
    let valid = digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    if valid { u64::from_str_radix(text, 16).ok() } else { None }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{:X}/{:X}", self.timeline, self.place >> 32, self.place & u64::from(u32::MAX))
    }
}
