//! MySQL's GTID sets.
//!
//! Syntax: "GTID Sets" in the reference manual's chapter "GTID Format and Storage" (tags since 8.3), and what 9.7 takes.

use std::collections::BTreeMap;
use std::fmt;

use super::text::{Malformed, number};

/// The highest transaction number, 2^63 - 2: `GNO_END - 1` of the server's `sql/rpl_gtid.h`. Leaves room to add 1.
const HIGHEST: u64 = i64::MAX as u64 - 1;
/// The longest tag, in bytes.
const LONGEST_TAG: usize = 32;

/// A set of transactions.
///
/// Sorted by origin. Every origin has intervals, which are sorted and do not touch. So equal sets are equal values, and
/// containment needs one pass.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GtidSet(Box<[(Origin, Box<[Interval]>)]>);

/// The origin of numbers: a server (or a group) by its UUID, with each tag counted separately. Most transactions have
/// no tag.
///
/// No tag is `None` and not the empty text: to compare that, `memcmp` is given an address that is not mapped, which
/// costs 100 ns where it uses AVX-512's masked loads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Origin {
    uuid: u128,
    tag: Option<Box<str>>,
}

/// Transaction numbers, both ends included: 1 <= first <= last <= [`HIGHEST`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
struct Interval {
    first: u64,
    last: u64,
}

impl GtidSet {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed<'_>> {
        let mut numbers = BTreeMap::<Origin, Vec<Interval>>::new();
        // An empty text is the empty set; an empty item between commas is damage.
        for item in text.split(',').filter(|_| !text.is_empty()) {
            let mut parts = item.split(':').map(str::trim_ascii);
            let name = parts.next().unwrap_or_default();
            let uuid = parse_uuid(name).ok_or(Malformed { part: name, expected: "a server's UUID" })?;
            let (mut origin, mut last, mut has_numbers) = (Origin { uuid, tag: None }, name, false);
            for part in parts {
                if part.starts_with(|first: char| first.is_ascii_digit()) {
                    numbers.entry(origin.clone()).or_default().push(Interval::parse(part)?);
                    has_numbers = true;
                } else if has_numbers || origin.tag.is_none() {
                    origin.tag = Some(parse_tag(part)?);
                    has_numbers = false;
                } else {
                    break;
                }
                last = part;
            }
            if !has_numbers {
                return Err(Malformed { part: last, expected: "followed by a transaction number" });
            }
        }
        Ok(Self::of(numbers, 0))
    }

    /// Sorts and joins intervals with at most `gap` numbers missing between them.
    fn of(numbers: BTreeMap<Origin, Vec<Interval>>, gap: u64) -> Self {
        let join = |mut intervals: Vec<Interval>| {
            // The stable sort finds runs: two sorted lists one after the other are merged in linear time.
            intervals.sort();
            intervals.dedup_by(|next, before| {
                let joins = next.first.saturating_sub(before.last) <= gap.saturating_add(1);
                if joins {
                    before.last = before.last.max(next.last);
                }
                joins
            });
            intervals.into()
        };
        Self(numbers.into_iter().map(|(origin, intervals)| (origin, join(intervals))).collect())
    }

    #[cfg(test)]
    pub(super) fn transactions(&self) -> u64 {
        self.0
            .iter()
            .flat_map(|(_, intervals)| intervals.iter())
            .map(|interval| interval.last - interval.first + 1)
            .sum()
    }

    /// How many intervals it has.
    pub(super) fn intervals(&self) -> usize {
        self.0.iter().map(|(_, intervals)| intervals.len()).sum()
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        let mut own = self.0.iter();
        other.0.iter().all(|(origin, wanted)| {
            let found = own.find(|(own, _)| own >= origin);
            found.is_some_and(|(own, intervals)| own == origin && covers(intervals, wanted))
        })
    }

    pub(super) fn union(&self, other: &Self) -> Self {
        let mut numbers = BTreeMap::<Origin, Vec<Interval>>::new();
        for (origin, intervals) in self.0.iter().chain(&other.0) {
            numbers.entry(origin.clone()).or_default().extend(intervals);
        }
        Self::of(numbers, 0)
    }

    /// The set with the fewest widths of gaps closed, narrowest first, that `fits`; `None` if not even one without gaps does.
    /// What fits must go on to fit as more is closed.
    pub(super) fn closing_gaps(&self, fits: impl Fn(&Self) -> bool) -> Option<Self> {
        let pairs = self.0.iter().flat_map(|(_, intervals)| intervals.windows(2));
        let mut gaps: Vec<u64> = pairs.map(|pair| pair[1].first - pair[0].last - 1).collect();
        gaps.sort_unstable();
        gaps.dedup();
        let closing = |gap| Self::of(self.0.iter().map(|(origin, own)| (origin.clone(), own.to_vec())).collect(), gap);
        let enough = gaps.partition_point(|&gap| !fits(&closing(gap)));
        gaps.get(enough).map(|&gap| closing(gap))
    }
}

/// Whether each of `wanted` lies in one of `own`; both are sorted, so that each is read once.
fn covers(own: &[Interval], wanted: &[Interval]) -> bool {
    let Some(first) = wanted.first() else { return true };
    let mut own = &own[own.partition_point(|interval| interval.last < first.first)..];
    wanted.iter().all(|wanted| {
        own = from(own, wanted.first);
        own.first().is_some_and(|own| own.first <= wanted.first && wanted.last <= own.last)
    })
}

/// `intervals` without those that end before `number`. The search doubles its steps and then halves them, because the
/// number is likely to be near.
fn from(intervals: &[Interval], number: u64) -> &[Interval] {
    let (mut below, mut step) = (0, 1);
    while intervals.get(below + step - 1).is_some_and(|interval| interval.last < number) {
        below += step;
        step *= 2;
    }
    let window = &intervals[below..intervals.len().min(below + step - 1)];
    &intervals[below + window.partition_point(|interval| interval.last < number)..]
}

impl fmt::Display for GtidSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut before = None;
        for (Origin { uuid, tag }, intervals) in &self.0 {
            if before != Some(uuid) {
                f.write_str(if before.is_some() { "," } else { "" })?;
                let hex = format!("{uuid:032x}");
                write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])?;
                before = Some(uuid);
            }
            if let Some(tag) = tag {
                write!(f, ":{tag}")?;
            }
            for &Interval { first, last } in intervals {
                if first == last { write!(f, ":{first}")? } else { write!(f, ":{first}-{last}")? }
            }
        }
        Ok(())
    }
}

impl Interval {
    fn parse(text: &str) -> Result<Self, Malformed<'_>> {
        let malformed = Malformed { part: text, expected: "a transaction number, 1 to 2^63 - 2, or a range of them" };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (number(first.trim_ascii()), number(last.trim_ascii())) {
            (Some(first), Some(last)) if 1 <= first && first <= last && last <= HIGHEST => Ok(Self { first, last }),
            _ => Err(malformed),
        }
    }
}

fn parse_uuid(text: &str) -> Option<u128> {
    if text.len() != 36 {
        return None;
    }
    text.bytes().enumerate().try_fold(0, |value, (place, byte)| match (place, byte) {
        (8 | 13 | 18 | 23, byte) => (byte == b'-').then_some(value),
        (_, byte) => Some(value << 4 | u128::from(char::from(byte).to_digit(16)?)),
    })
}

fn parse_tag(text: &str) -> Result<Box<str>, Malformed<'_>> {
    let begins = text.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_');
    let consists = text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if begins && consists && text.len() <= LONGEST_TAG {
        Ok(text.to_ascii_lowercase().into())
    } else {
        Err(Malformed { part: text, expected: "a transaction number or a tag" })
    }
}
