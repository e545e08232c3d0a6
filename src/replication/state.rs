//! The positions that the members of a cluster are known to have, and their lag.
//!
//! A reported position is a lower bound of what the member has from then on, so it tells which member may serve a read
//! that requires a given position. It does not tell what a read saw, which may be more. What a member had at a moment
//! is bounded from above by what the primary had at any later moment. That is why the primary's positions are kept with
//! their times. They also give the lag: the age of the oldest of them that a replica lacks (no clock but ours, no
//! heartbeat table, and an idle primary does not look like lag).
//!
//! Times are since the clock's origin.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::member::{Member, PRIMARY};
use crate::replication::pace::Pace;
use crate::replication::position::Position;

/// How many of the primary's positions are kept: four minutes at one probe a second.
const HISTORY: usize = 256;

/// The answer of a member to a query for its position.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The member.
    pub member: Member,
    /// Its position, if it can tell: it has at least this, ever since `at`.
    pub position: Option<Position>,
    /// The time just before the query was sent.
    pub at: Duration,
    /// Which server answered: another number, another server or another run of it; `None` if it did not tell.
    pub server: Option<u64>,
}

/// The state of one member.
#[derive(Clone, Debug)]
struct KnownMember {
    position: Option<Position>,
    /// It has reported a position at least once.
    has_told: bool,
    at: Duration,
    /// When the last answer had arrived. A query sent after that is answered later, so that a position which lacks part
    /// of that answer shows that the server has lost data.
    heard: Duration,
    lag: Option<Duration>,
    /// It lacks the oldest position that is kept, so that its lag may exceed `lag` by any time.
    is_beyond_history: bool,
    pace: Pace,
    server: Server,
}

/// The lag of a member at its last probe.
#[derive(Clone, Copy, Debug)]
pub struct LagSample {
    /// When the member was queried.
    pub at: Duration,
    /// The lag; `None` if it is unknown.
    pub lag: Option<Duration>,
    /// The lag may have exceeded this by any time.
    pub is_least: bool,
    /// It reported a position.
    pub has_position: bool,
    /// Several servers answer to its alias.
    pub is_multiplexed: bool,
}

/// How many former servers of an alias are remembered.
const PAST: usize = 8;

/// The server behind an alias.
#[derive(Clone, Debug, Default)]
struct Server {
    number: Option<u64>,
    /// When this server was first seen here; zero for the first server of the alias.
    since: Duration,
    /// How often another server, or another history of the same server, was found here: what was read before the last
    /// change may be missing now.
    changes: u32,
    /// The former servers.
    past: Vec<u64>,
    /// A former server came back: several servers answer to this alias.
    is_multiplexed: bool,
}

impl Server {
    /// The server that answered `number` at `at`. `is_rewound`: it lacks what the former answer had, and therefore
    /// counts as another server: its volume was rolled back, it was rebuilt from a backup, or it lost what it had not
    /// written to disk.
    fn seeing(mut self, number: Option<u64>, at: Duration, is_rewound: bool) -> Self {
        let before = number.and_then(|number| self.number.replace(number));
        let is_other = before.is_some() && before != number;
        if let (true, Some(before), Some(number)) = (is_other, before, number) {
            self.is_multiplexed |= self.past.contains(&number);
            if self.past.len() == PAST {
                self.past.remove(0);
            }
            self.past.push(before);
        }
        if is_other || is_rewound {
            self.since = at;
            self.changes += 1;
        }
        self
    }
}

/// The state of all members at one moment. Immutable; replaced whole.
#[derive(Clone, Debug, Default)]
pub struct ReplicationState {
    members: Box<[Option<KnownMember>]>,
    /// The primary's positions, oldest first.
    history: Arc<VecDeque<(Duration, Position)>>,
    /// How often the server behind any of the replicas has changed.
    all_changes: u32,
}

impl ReplicationState {
    /// The state of `members` members that were never queried.
    #[must_use]
    pub fn unknown(members: usize) -> Self {
        Self { members: vec![None; members].into(), history: Arc::default(), all_changes: 0 }
    }

    /// The state after `observations`, each answered at the moment of its query. An observation that is older than the
    /// state of its member is ignored.
    #[must_use]
    pub fn observing(&self, observations: &[Observation]) -> Self {
        self.observing_by(observations, Duration::ZERO)
    }

    /// The state after `observations`, whose answers had all arrived by `heard`.
    #[must_use]
    pub fn observing_by(&self, observations: &[Observation], heard: Duration) -> Self {
        let mut next = self.clone();
        // The primary first, because its history gives the lag of the others.
        for seen in observations.iter().filter(|seen| seen.member == PRIMARY) {
            if let Some(position) = &seen.position
                && self.history.back().is_none_or(|(at, _)| *at < seen.at)
            {
                let history = Arc::make_mut(&mut next.history);
                if history.back().is_some_and(|(_, last)| !position.contains(last)) {
                    // Another history has begun (a failover, a restore, a reset), and no member will ever have the
                    // former positions.
                    history.clear();
                }
                if history.len() == HISTORY {
                    history.pop_front();
                }
                history.push_back((seen.at, position.clone()));
            }
        }
        for seen in observations {
            let known = &mut next.members[seen.member as usize];
            if known.as_ref().is_some_and(|known| known.at > seen.at) {
                continue;
            }
            // Answers to concurrent queries may overtake one another.
            let is_rewound = known.as_ref().is_some_and(|known| {
                let lacks = |(own, before): (&Position, &Position)| own.comparable(before) && !own.contains(before);
                seen.at > known.heard && seen.position.as_ref().zip(known.position.as_ref()).is_some_and(lacks)
            });
            let before = known.take().map(|known| (known.server, known.has_told, known.pace));
            let (server, has_told, pace) = before.unwrap_or_default();
            let changes = server.changes;
            let server = server.seeing(seen.server, seen.at, is_rewound);
            next.all_changes += u32::from(seen.member != PRIMARY && server.changes != changes);
            // The position of one of several servers says nothing about the others.
            let position = seen.position.as_ref().filter(|_| !server.is_multiplexed);
            let lag = position.and_then(|position| lag(&next.history, position, seen.at));
            let lag = if seen.member == PRIMARY { Some(Duration::ZERO) } else { lag };
            let lacks = |(_, oldest): &(Duration, Position)| position.is_some_and(|own| !own.contains(oldest));
            let is_beyond_history = next.history.front().is_some_and(lacks) && lag.is_some() && seen.member != PRIMARY;
            // Another server has a pace of its own.
            let pace = if server.changes == changes { pace } else { Pace::default() }.answering(seen.at, lag);
            let has_told = has_told || seen.position.is_some();
            let (position, at, heard) = (position.cloned(), seen.at, heard.max(seen.at));
            *known = Some(KnownMember { position, has_told, at, heard, lag, is_beyond_history, pace, server });
        }
        next
    }

    /// The same state for other members: `places` are their former indexes.
    #[must_use]
    pub fn rearranged(&self, places: impl Iterator<Item = Option<Member>>) -> Self {
        let members = places.map(|place| place.and_then(|place| self.members[place as usize].clone())).collect();
        Self { members, history: self.history.clone(), all_changes: self.all_changes }
    }

    /// The state after a promotion: since `now`, the server behind each member is the one that was behind the member in
    /// its place in `sources`. The positions of the servers that moved have to be queried anew: what a replica lacked a
    /// moment ago, a primary must not seem to have lost.
    #[must_use]
    pub fn servers_swapped(&self, sources: &[Member], now: Duration) -> Self {
        let taken_over = |(member, &source): (Member, &Member)| {
            let known = self.members[source as usize].clone();
            if member == source {
                return known;
            }
            known.map(|known| KnownMember {
                position: None,
                at: now,
                heard: now,
                lag: (member == PRIMARY).then_some(Duration::ZERO),
                is_beyond_history: false,
                pace: Pace::default(),
                has_told: known.has_told,
                // Its former alias does not make it one of several servers.
                server: Server {
                    number: known.server.number,
                    since: now,
                    changes: known.server.changes.max(self.changes(member)) + 1,
                    ..Server::default()
                },
            })
        };
        Self {
            members: (0..).zip(sources).map(taken_over).collect(),
            history: self.history.clone(),
            all_changes: self.all_changes + 1,
        }
    }

    /// The position that `member` is known to have.
    #[inline]
    #[must_use]
    pub fn position(&self, member: Member) -> Option<&Position> {
        self.members[member as usize].as_ref()?.position.as_ref()
    }

    /// Whether `member` is known to have `position`.
    #[inline]
    #[must_use]
    pub fn has(&self, member: Member, position: &Position) -> bool {
        self.position(member).is_some_and(|known| known.contains(position))
    }

    /// Whether `member` was queried for its position at `moment` or later.
    #[must_use]
    pub fn was_asked_since(&self, member: Member, moment: Duration) -> bool {
        self.members[member as usize].as_ref().is_some_and(|known| known.at >= moment)
    }

    /// The lag of `member` at its last probe; `None` if it is unknown.
    #[must_use]
    pub fn lag(&self, member: Member) -> Option<Duration> {
        self.members[member as usize].as_ref()?.lag
    }

    /// The largest lag that `member` may have by now: the measured lag plus its age.
    #[must_use]
    pub fn lag_by(&self, member: Member, now: Duration) -> Option<Duration> {
        let known = self.members[member as usize].as_ref()?;
        let lag = known.lag?;
        Some(if known.is_beyond_history { Duration::MAX } else { lag + now.saturating_sub(known.at) })
    }

    /// Whether `member` may have `position` by `moment`, judged by its lag and its recent pace; true if they are
    /// unknown.
    #[must_use]
    pub fn may_have_by(
        &self,
        member: Member,
        position: &Position,
        moment: Duration,
        primary_latency: Duration,
    ) -> bool {
        let limit = self.members[member as usize].as_ref().and_then(|known| known.pace.limit_at(moment));
        let lacking = self.history.partition_point(|(_, primary)| !primary.contains(position));
        // The position is newer than the last probe of the primary that lacks it.
        let Some((limit, (lacked_at, _))) = limit.zip(lacking.checked_sub(1).and_then(|last| self.history.get(last)))
        else {
            return true;
        };
        // The primary had what a replica lacks of its answer when it answered, and not yet when it was queried.
        limit.saturating_add(primary_latency) >= *lacked_at
    }

    /// Whether lag can be measured: the primary reports positions, and so does at least one of the replicas that were
    /// queried.
    #[must_use]
    pub fn tells_lag(&self) -> bool {
        let mut replicas = self.members.iter().skip(1).flatten().peekable();
        self.has_history() && (replicas.peek().is_none() || replicas.any(|known| known.has_told))
    }

    /// The lag of `member` at its last probe; `None` before the first.
    #[must_use]
    pub fn lag_sample(&self, member: Member) -> Option<LagSample> {
        let known = self.members[member as usize].as_ref()?;
        Some(LagSample {
            at: known.at,
            lag: known.lag,
            is_least: known.is_beyond_history,
            has_position: known.position.is_some(),
            is_multiplexed: known.server.is_multiplexed,
        })
    }

    /// Whether several servers answer to the alias of `member`.
    #[must_use]
    pub fn is_multiplexed(&self, member: Member) -> bool {
        self.members[member as usize].as_ref().is_some_and(|known| known.server.is_multiplexed)
    }

    /// Whether the server behind `member` is still the one that was there at `moment`, as far as is known. A server
    /// that was killed may come back with less than it had shown.
    #[must_use]
    pub fn is_same_since(&self, member: Member, moment: Duration) -> bool {
        self.members[member as usize].as_ref().is_none_or(|known| known.server.since <= moment)
    }

    /// How often the server behind `member` was found to be another one, or to have lost data. A scope that read there
    /// before the last change may have seen what is missing now.
    #[inline]
    #[must_use]
    pub fn changes(&self, member: Member) -> u32 {
        self.members[member as usize].as_ref().map_or(0, |known| known.server.changes)
    }

    /// How often the server behind any of the replicas was found to be another one, or to have lost data.
    #[inline]
    #[must_use]
    pub fn all_changes(&self) -> u32 {
        self.all_changes
    }

    /// The server behind `member`; `None` if it is unknown.
    #[must_use]
    pub fn server(&self, member: Member) -> Option<u64> {
        self.members[member as usize].as_ref()?.server.number
    }

    /// When the server behind `member` was first seen there; zero for the first server of the alias.
    #[must_use]
    pub fn since(&self, member: Member) -> Duration {
        self.members[member as usize].as_ref().map_or(Duration::ZERO, |known| known.server.since)
    }

    /// Whether anything is known of the primary's position.
    #[must_use]
    pub fn has_history(&self) -> bool {
        !self.history.is_empty()
    }

    /// The first position of the primary that was queried after `moment`: it contains all that any member had then.
    #[must_use]
    pub fn first_after(&self, moment: Duration) -> Option<&Position> {
        let later = self.history.partition_point(|(at, _)| *at <= moment);
        self.history.get(later).map(|(_, position)| position)
    }

    /// Whether `position`, which the primary once had, belongs to another history than its last position.
    #[must_use]
    pub fn has_parted_from(&self, position: &Position) -> bool {
        self.history.back().is_some_and(|(_, last)| !last.contains(position))
    }

    /// Whether the server behind `member` is another one than in `before`, and not one of several.
    #[must_use]
    pub fn has_another_server(&self, member: Member, before: &Self) -> bool {
        self.server_since(member) != before.server_since(member) && !self.is_multiplexed(member)
    }

    /// When the server behind `member` was first seen there; zero if it never changed.
    #[must_use]
    pub fn server_since(&self, member: Member) -> Duration {
        self.members[member as usize].as_ref().map_or(Duration::ZERO, |known| known.server.since)
    }

    /// The primary's last position, if it was queried after `moment`.
    #[must_use]
    pub fn last_after(&self, moment: Duration) -> Option<&Position> {
        self.history.back().filter(|(at, _)| *at > moment).map(|(_, position)| position)
    }
}

/// The age at `now` of the oldest position in `history` that `position` lacks.
fn lag(history: &VecDeque<(Duration, Position)>, position: &Position, now: Duration) -> Option<Duration> {
    let (_, last) = history.back()?;
    if !position.comparable(last) {
        return None;
    }
    let missing = history.iter().find(|(_, primary)| !position.contains(primary));
    Some(missing.map_or(Duration::ZERO, |(at, _)| now.saturating_sub(*at)))
}

#[cfg(test)]
pub(crate) mod tests;
