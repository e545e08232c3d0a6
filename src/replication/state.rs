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
    /// How long the answer took, if it was measured.
    pub latency: Option<Duration>,
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
    latency: Option<Duration>,
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
            let before = known.take().map(|known| (known.server, known.latency, known.has_told, known.pace));
            let (server, before, has_told, pace) = before.unwrap_or_default();
            let changes = server.changes;
            let server = server.seeing(seen.server, seen.at, is_rewound);
            next.all_changes += u32::from(seen.member != PRIMARY && server.changes != changes);
            let latency = seen.latency.or(before);
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
            *known = Some(KnownMember { position, has_told, at, heard, lag, is_beyond_history, pace, latency, server });
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
    pub fn moved(&self, sources: &[Member], now: Duration) -> Self {
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
                latency: known.latency,
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
    pub fn may_have_by(&self, member: Member, position: &Position, moment: Duration) -> bool {
        let limit = self.members[member as usize].as_ref().and_then(|known| known.pace.limit_at(moment));
        let lacking = self.history.partition_point(|(_, primary)| !primary.contains(position));
        // The position is newer than the last probe of the primary that lacks it.
        let Some((limit, (lacked_at, _))) = limit.zip(lacking.checked_sub(1).and_then(|last| self.history.get(last)))
        else {
            return true;
        };
        // The primary had what a replica lacks of its answer when it answered, and not yet when it was queried.
        limit.saturating_add(self.latency(PRIMARY).unwrap_or_default()) >= *lacked_at
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

    /// The latency of the last answer of `member`.
    #[must_use]
    pub fn latency(&self, member: Member) -> Option<Duration> {
        self.members[member as usize].as_ref()?.latency
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
pub(crate) mod tests {
    use super::*;
    use crate::replication::position::Kind;

    pub(crate) fn lsn(place: u64) -> Position {
        Position::parse(Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
    }

    fn seen(member: Member, place: u64, at: u64) -> Observation {
        Observation { member, position: Some(lsn(place)), at: Duration::from_secs(at), latency: None, server: None }
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn lag_is_the_age_of_the_oldest_position_that_is_lacked() {
        let mut replication = ReplicationState::unknown(2);
        for second in 1..=5 {
            replication = replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 20, second)]);
        }
        // It has what the primary had at 2, and lacks what it had at 3: two seconds before 5.
        assert_eq!(replication.lag(1), Some(seconds(2)));
        assert_eq!(replication.lag_by(1, seconds(9)), Some(seconds(6)));
        assert_eq!(replication.lag(PRIMARY), Some(Duration::ZERO));
    }

    #[test]
    fn an_idle_primary_does_not_look_like_lag() {
        let mut replication = ReplicationState::unknown(2);
        for second in 1..=100 {
            replication = replication.observing(&[seen(PRIMARY, 7, second), seen(1, 7, second)]);
        }
        assert_eq!(replication.lag(1), Some(Duration::ZERO));
    }

    #[test]
    fn what_cannot_be_compared_is_unknown_and_not_zero() {
        let other = Position::parse(Kind::PostgreSql, "2:0/99").unwrap();
        let elsewhere = Observation { member: 1, position: Some(other), at: seconds(1), latency: None, server: None };
        let replication = ReplicationState::unknown(2).observing(&[seen(PRIMARY, 7, 1), elsewhere]);
        assert_eq!(replication.lag(1), None);
        assert_eq!(ReplicationState::unknown(2).lag(1), None);
    }

    #[test]
    fn after_a_change_of_history_nobody_lacks_what_is_from_before() {
        let other = |member, place: u64, at| Observation {
            position: Some(Position::parse(Kind::PostgreSql, &format!("2:0/{place:X}")).unwrap()),
            ..seen(member, 0, at)
        };
        let mut replication = ReplicationState::unknown(2).observing(&[seen(PRIMARY, 7, 1), seen(1, 7, 1)]);
        for second in 2..=5 {
            replication = replication.observing(&[other(PRIMARY, 9, second), other(1, 9, second)]);
        }
        assert_eq!(
            (replication.lag(1), replication.lag_by(1, seconds(5))),
            (Some(Duration::ZERO), Some(Duration::ZERO))
        );
    }

    #[test]
    fn a_server_that_moves_takes_its_number_along_and_is_asked_anew() {
        let numbered = |member, server, at| Observation { server: Some(server), ..seen(member, 9, at) };
        let mut replication =
            ReplicationState::unknown(3).observing(&[numbered(0, 7, 1), numbered(1, 8, 1), numbered(2, 9, 1)]);
        for second in [2, 4, 6] {
            replication = replication.moved(&[1, 0, 2], seconds(second));
            assert_eq!((replication.position(PRIMARY), replication.position(1)), (None, None));
            assert_eq!((replication.lag(PRIMARY), replication.lag(1)), (Some(Duration::ZERO), None));
            assert!(!replication.is_same_since(1, seconds(1)) && replication.is_same_since(2, seconds(1)));
            let (primary, replica) = if second == 4 { (7, 8) } else { (8, 7) };
            let places = [numbered(PRIMARY, primary, second + 1), numbered(1, replica, second + 1)];
            replication = replication.observing(&places);
            assert!(replication.is_same_since(1, seconds(second)));
            assert!(!replication.is_multiplexed(PRIMARY) && !replication.is_multiplexed(1));
        }
        assert_eq!(replication.position(2), Some(&lsn(9)));
    }

    #[test]
    fn an_older_observation_changes_nothing() {
        let replication = ReplicationState::unknown(2).observing(&[seen(1, 9, 5)]).observing(&[seen(1, 3, 4)]);
        assert_eq!(replication.position(1), Some(&lsn(9)));
    }

    #[test]
    fn what_a_member_had_is_bounded_by_the_primarys_next_position() {
        let mut replication = ReplicationState::unknown(2);
        for second in 1..=3 {
            replication = replication.observing(&[seen(PRIMARY, 10 * second, second)]);
        }
        assert_eq!(replication.first_after(Duration::from_millis(1500)), Some(&lsn(20)));
        assert_eq!(replication.first_after(seconds(1)), Some(&lsn(20)));
        assert_eq!(replication.first_after(seconds(3)), None);
        assert_eq!(replication.last_after(seconds(1)), Some(&lsn(30)));
        assert_eq!(replication.last_after(seconds(3)), None);
    }

    #[test]
    fn a_server_that_comes_back_after_another_is_one_of_several() {
        let mut replication = ReplicationState::unknown(2);
        for (second, server) in [(1, 7), (2, 7), (3, 8)] {
            replication = replication.observing(&[Observation { server: Some(server), ..seen(1, 5, second) }]);
        }
        assert!(!replication.is_multiplexed(1) && replication.position(1).is_some());
        assert!(!replication.is_same_since(1, seconds(2)) && replication.is_same_since(1, seconds(3)));
        replication = replication.observing(&[Observation { server: None, ..seen(1, 5, 4) }]);
        replication = replication.observing(&[Observation { server: Some(7), ..seen(1, 5, 5) }]);
        assert!(replication.is_multiplexed(1) && replication.position(1).is_none());
        replication = replication.observing(&[Observation { server: Some(7), ..seen(1, 5, 6) }]);
        assert!(replication.is_multiplexed(1));
    }

    #[test]
    fn a_server_that_is_restarted_is_not_one_of_several() {
        let mut replication = ReplicationState::unknown(2);
        for (second, run) in [(1, 7), (2, 8), (3, 9), (4, 9)] {
            replication = replication.observing(&[Observation { server: Some(run), ..seen(1, 5, second) }]);
        }
        assert!(!replication.is_multiplexed(1) && replication.position(1).is_some());
        assert_eq!((replication.changes(1), replication.server(1)), (2, Some(9)));
    }

    #[test]
    fn a_position_that_lacks_the_one_before_is_another_servers() {
        let numbered = |place, at| Observation { server: Some(7), ..seen(1, place, at) };
        let replication = ReplicationState::unknown(2).observing(&[numbered(5, 1)]).observing(&[numbered(9, 2)]);
        assert_eq!((replication.changes(1), replication.server(1)), (0, Some(7)));
        let replication = replication.observing(&[numbered(8, 3)]);
        assert_eq!((replication.changes(1), replication.server(1)), (1, Some(7)));
        assert!(!replication.is_same_since(1, seconds(2)) && !replication.is_multiplexed(1));
        assert_eq!(replication.position(1), Some(&lsn(8)));
        assert_eq!(replication.observing(&[numbered(8, 4)]).changes(1), 1);
    }

    #[test]
    fn an_answer_that_was_overtaken_is_no_loss() {
        let first = ReplicationState::unknown(2).observing_by(&[seen(1, 9, 1)], seconds(3));
        // Asked before the other's answer was there: it may have been answered first.
        assert_eq!(first.observing_by(&[seen(1, 8, 2)], seconds(3)).changes(1), 0);
        assert_eq!(first.observing_by(&[seen(1, 8, 4)], seconds(4)).changes(1), 1);
    }

    #[test]
    fn the_history_is_bounded() {
        let mut replication = ReplicationState::unknown(1);
        for second in 1..=2 * HISTORY as u64 {
            replication = replication.observing(&[seen(PRIMARY, second, second)]);
        }
        assert_eq!(replication.history.len(), HISTORY);
    }

    #[test]
    fn a_replica_that_lacks_all_that_is_kept_may_be_late_by_any_time() {
        let mut replication = ReplicationState::unknown(2);
        for second in 1..=3 {
            replication = replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 5, second)]);
        }
        assert_eq!((replication.lag(1), replication.lag_by(1, seconds(3))), (Some(seconds(2)), Some(Duration::MAX)));
        replication = replication.observing(&[seen(1, 10, 4)]);
        assert_eq!(replication.lag_by(1, seconds(4)), Some(seconds(2)));
    }

    #[test]
    fn knowledge_follows_a_member_to_another_place() {
        let replication =
            ReplicationState::unknown(3).observing(&[seen(2, 9, 5)]).rearranged([Some(0), Some(2), None].into_iter());
        assert_eq!((replication.position(1), replication.position(2)), (Some(&lsn(9)), None));
    }

    #[test]
    fn a_replica_that_is_steadily_late_does_not_have_a_new_position_soon() {
        let mut replication = ReplicationState::unknown(3);
        for second in 1..=10 {
            // The first is two seconds late, and the second has all.
            let late = seen(1, 10 * second.max(3) - 20, second);
            replication =
                replication.observing(&[seen(PRIMARY, 10 * second, second), late, seen(2, 10 * second, second)]);
        }
        let (soon, later) = (Duration::from_millis(10_950), seconds(12));
        assert_eq!(replication.lag(1), Some(seconds(1)));
        // A position half a second or more after the last probe.
        let may = |member, place, moment| replication.may_have_by(member, &lsn(place), moment);
        assert!(!may(1, 105, soon) && may(1, 105, later));
        // A position before that: the probe at 8 lacks it, and the one at 9 has it.
        assert!(may(1, 85, soon));
        assert!(may(2, 105, soon));
        // A replica that was never queried.
        let unknown = ReplicationState::unknown(3);
        assert!(unknown.may_have_by(1, &lsn(105), soon));
    }

    #[test]
    fn another_server_has_a_pace_of_its_own() {
        let mut replication = ReplicationState::unknown(2);
        for second in 1..=10 {
            replication =
                replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 10 * second.max(3) - 20, second)]);
        }
        let soon = Duration::from_millis(10_950);
        assert!(!replication.may_have_by(1, &lsn(105), soon));
        let moved = replication.moved(&[PRIMARY, 1], seconds(10));
        assert!(!moved.may_have_by(1, &lsn(105), soon));
        let rewound = replication.observing(&[seen(1, 1, 11)]);
        assert!(rewound.may_have_by(1, &lsn(105), seconds(11)));
    }
}
