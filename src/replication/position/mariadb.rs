//! MariaDB's positions: `domain-server-sequence`, the last one of each domain.
//!
//! Within a domain the sequence number alone is the order, as in the server (`MASTER_GTID_WAIT` compares nothing else):
//! a server that has 0-2-6 has 0-1-5 before it. The server id names the server that committed the transaction, and
//! matters in one case: **the same number from two servers is two transactions**, so two histories have diverged there
//! (a primary died with a transaction that its successor never received). The server would report "reached". Here
//! neither position contains the other; they are not comparable and have no union, because a replica that has the one
//! lacks the other. Once the successor has committed the next number, the numbers cannot tell any more, and what was
//! lost cannot be read anywhere.

use std::fmt;

use super::text::{Malformed, number};

/// The last transaction of each domain, sorted by domain. A domain that is missing has no transaction.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Gtids(Box<[Gtid]>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Gtid {
    domain: u32,
    server: u32,
    sequence: u64,
}

impl Gtids {
    pub(super) fn parse(text: &str) -> Result<Self, Malformed<'_>> {
        let mut gtids = Vec::new();
        for item in text.split(',').map(str::trim_ascii).filter(|_| !text.is_empty()) {
            let expected = "a GTID, domain-server-sequence";
            gtids.push((Gtid::parse(item).ok_or(Malformed { part: item, expected })?, item));
        }
        gtids.sort_by_key(|(gtid, _)| gtid.domain);
        if let Some(pair) = gtids.windows(2).find(|pair| pair[0].0.domain == pair[1].0.domain) {
            return Err(Malformed { part: pair[1].1, expected: "the only GTID of its domain" });
        }
        // Sequences begin at 1. The server takes 0 for "nothing yet", which is what a domain left out means.
        Ok(Self(gtids.into_iter().map(|(gtid, _)| gtid).filter(|gtid| gtid.sequence > 0).collect()))
    }

    /// How many domains it has.
    pub(super) fn domains(&self) -> usize {
        self.0.len()
    }

    fn of_domain(&self, domain: u32) -> Option<&Gtid> {
        self.0.binary_search_by_key(&domain, |gtid| gtid.domain).ok().map(|place| &self.0[place])
    }

    pub(super) fn contains(&self, other: &Self) -> bool {
        other.0.iter().all(|wanted| {
            self.of_domain(wanted.domain).is_some_and(|own| own.sequence > wanted.sequence || own == wanted)
        })
    }

    pub(super) fn comparable(&self, other: &Self) -> bool {
        other.0.iter().all(|theirs| {
            self.of_domain(theirs.domain).is_none_or(|own| own.sequence != theirs.sequence || own == theirs)
        })
    }

    /// The later GTID of each domain; only for positions that are comparable.
    pub(super) fn union(&self, other: &Self) -> Self {
        let mut gtids: Vec<Gtid> = self.0.iter().chain(&other.0).copied().collect();
        gtids.sort_by_key(|gtid| (gtid.domain, std::cmp::Reverse(gtid.sequence)));
        gtids.dedup_by_key(|gtid| gtid.domain);
        Self(gtids.into())
    }
}

impl Gtid {
    fn parse(text: &str) -> Option<Self> {
        let mut numbers = text.splitn(3, '-');
        let (domain, server, sequence) = (numbers.next()?, numbers.next()?, numbers.next()?);
        Some(Self { domain: number(domain)?, server: number(server)?, sequence: number(sequence)? })
    }
}

impl fmt::Display for Gtids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, Gtid { domain, server, sequence }) in self.0.iter().enumerate() {
            write!(f, "{}{domain}-{server}-{sequence}", if place > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
