//! What a scope requires of the members of a cluster: its writes, what a token says was written or seen, and its reads.
//!
//! Each of three things is satisfied in its own way:
//!
//! - a *position*: the replica is known to have it,
//! - a *write that can only be judged by time*, because its position is unknown: it is older than `PIN_SECONDS` and
//!   than the lag of the replica,
//! - a *read* from another member: what it showed is unknown, but is contained in the primary's next position, so the
//!   replica must have that position.
//!
//! A write whose position is not known yet begins as *pending*. It becomes a position or a write by time when the
//! primary has been queried. What can no longer be judged by position is judged by time instead
//! ([`Requirement::settle`], [`Requirement::confirm`]), and the requirement [ends](Requirement::end) when every replica
//! satisfies it. The other fields count queries and waits.

use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::member::{Member, PRIMARY};
use crate::replication::position::Position;

/// The most intervals that a position of a scope's own writes may grow to. Each write of a scope that never reads adds
/// an interval where other clients write too, and each union copies all intervals before it.
const MOST_INTERVALS: usize = 64;
/// How many intervals are left of more, so that the next writes find room.
const FEW_INTERVALS: usize = 32;

/// What a scope requires of one cluster. Times are since the clock's origin.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer to a question of its own")]
#[derive(Clone, Debug, Default)]
pub struct Requirement {
    position: Option<Position>,
    /// When the position was last added to.
    position_at: Duration,
    /// The commit time of the latest write whose position has not been queried yet.
    pending: Option<Duration>,
    /// The time of the latest write that can only be judged by time.
    written: Option<Duration>,
    /// The member that was read from (`None` if it is unknown), and when it was last.
    read: Option<(Option<Alias>, Duration)>,
    /// How long reads have waited for a replica since the last write.
    waited: Duration,
    /// No replica had the position when the time to wait was over.
    missed: bool,
    /// This scope itself wrote.
    wrote: bool,
    /// The scope presented a token of its own ([`Requirement::present`]).
    presented: bool,
    /// The member that the scope reads from first, if that member satisfies the requirement: concurrent requests of one
    /// client then read from the same member.
    preferred: Option<Alias>,
    /// When a position from another process was received: the time pin begins then if the position has to be given up.
    received_at: Option<Duration>,
    /// The part that has ended for the other replicas, and that replicas of weight 0 may lack.
    kept: Option<Box<Requirement>>,
    /// The view in which not all replicas satisfied the requirement.
    judged: Option<u64>,
    /// The primary may never have had the position: it came from another process, or its gaps were closed. The primary
    /// has not been queried since.
    is_doubtful: bool,
}

/// What keeps the replicas from serving a scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// The position of a write is unknown: the primary must be queried.
    PositionUnknown,
    /// Only time or the next probe can change the judgement.
    Time,
    /// A replica may have the position soon; the longest time to wait for it. Zero: it may have the position already,
    /// and only a query would tell.
    Position(Duration),
}

impl Requirement {
    /// Whether a read needs no check: nothing is required, and no member is preferred.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.position.is_none()
            && self.pending.is_none()
            && self.written.is_none()
            && self.read.is_none()
            && self.preferred.is_none()
    }

    /// Whether this scope wrote.
    #[must_use]
    pub fn wrote(&self) -> bool {
        self.wrote
    }

    /// Whether the response must carry a token: the scope wrote, or presented a token of its own.
    #[must_use]
    pub fn owes_token(&self) -> bool {
        self.wrote || self.presented
    }

    /// The scope presented a token of its own, which becomes part of its client's requirement.
    pub fn present(&mut self) {
        self.presented = true;
    }

    /// The member that the scope reads from first.
    #[must_use]
    pub fn preferred(&self) -> Option<Alias> {
        self.preferred
    }

    /// The scope reads from `member` first, if that satisfies the requirement.
    pub fn prefer(&mut self, member: Alias) {
        self.preferred = Some(member);
    }

    /// Whether a read has waited for the position in vain.
    #[must_use]
    pub fn missed(&self) -> bool {
        self.missed
    }

    /// An earlier request of the client has waited for the position in vain.
    pub fn miss(&mut self) {
        self.missed = true;
    }

    /// The required position.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// Whether the position of a write has not been queried yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    /// The time of the latest write that can only be judged by time.
    #[must_use]
    pub fn written(&self) -> Option<Duration> {
        self.written
    }

    /// The member that was read from (`None` if it is unknown here), and when it was last.
    #[must_use]
    pub fn read(&self) -> Option<(Option<Alias>, Duration)> {
        self.read
    }

    /// A write of this scope was committed at `now`, at `position`; `None` if the position has to be queried.
    pub fn publish(&mut self, position: Option<&Position>, now: Duration) {
        (self.wrote, self.judged) = (true, None);
        (self.waited, self.missed) = (Duration::ZERO, false);
        let Some(position) = position else {
            self.pending = Some(now);
            return;
        };
        self.require(position, now);
        if self.position.as_ref().is_some_and(|position| position.intervals() > MOST_INTERVALS) {
            self.position = self.position.take().map(|position| position.of_few_intervals(FEW_INTERVALS));
            // The numbers in a gap were given out, but perhaps never committed: the position may have to be given up.
            self.is_doubtful = true;
        }
    }

    /// A write of this scope was committed at `now`, on an engine without positions.
    pub fn publish_by_time(&mut self, now: Duration) {
        self.wrote = true;
        self.require_time(now);
    }

    /// The primary answered by `now` that it was at `position`, `None` if it cannot tell. The answer contains what was
    /// committed or read before the query, at `asked_at`; another thread of the scope may have written since.
    pub fn position_received(&mut self, position: Option<&Position>, asked_at: Duration, now: Duration) {
        let was_pending = self.pending.take_if(|published| *published <= asked_at).is_some();
        self.judged = None;
        if let Some(position) = position {
            self.read.take_if(|(_, at)| *at <= asked_at);
            self.require(position, now);
            return;
        }
        self.missed = true;
        if was_pending {
            self.require_time(now);
        }
    }

    /// Requires `position`, which became known at `now`.
    pub fn require(&mut self, position: &Position, now: Duration) {
        let united = self.position.as_ref().map_or(Ok(position.clone()), |present| present.union(position));
        (self.position_at, self.judged) = (self.position_at.max(now), None);
        if let Ok(united) = united {
            self.position = Some(united);
        } else {
            // The histories have diverged, for example at a failover.
            self.position = Some(position.clone());
            self.require_time(now);
        }
    }

    /// Requires what was written at `written`, to be judged by time.
    pub fn require_time(&mut self, written: Duration) {
        self.written = self.written.max(Some(written));
    }

    /// Requires what `member` (`None`: an unknown member) showed until `at`.
    ///
    /// After reads from two members, neither of them surely has all that was shown: only the primary's next position
    /// contains it.
    pub fn require_read(&mut self, member: Option<Alias>, at: Duration) {
        self.read = Some(match self.read {
            Some((other, before)) => (member.filter(|_| member == other), before.max(at)),
            None => (member, at),
        });
    }

    /// `member`, which was read from, serves no more, and may have been read from until `now`, since a client goes on
    /// reading there with the same token. Its reads count until then, and only the primary's next position contains
    /// them.
    pub fn leave(&mut self, member: Alias, now: Duration) {
        if let Some((Some(from), at)) = self.read
            && from == member
        {
            self.read = Some((None, at.max(now)));
        }
    }

    /// As [`Requirement::require_read`], for a member that this scope reads from: if the member is known to have what
    /// was read before, it stands for that, too.
    pub fn require_reads_of(&mut self, cluster: &Cluster, view: &View, alias: Alias, now: Duration) {
        if cluster.member(alias).is_some_and(|member| self.has_what_was_read(cluster, view, member, now)) {
            self.read = None;
        }
        self.require_read(Some(alias), now);
    }

    /// A read has waited for `waited`; `reached`: a replica then had the position.
    pub fn waited(&mut self, waited: Duration, reached: bool) {
        self.waited += waited;
        self.missed |= !reached;
    }

    /// Whether all replicas may satisfy the requirement by now: the view has changed since the last judgement, or the
    /// time matters.
    pub fn is_to_be_judged(&mut self, view: &View) -> bool {
        let is_news = self.judged.replace(view.number()) != Some(view.number());
        is_news || self.written.is_some() || self.read.is_some()
    }

    /// All replicas may satisfy the requirement, but it must not end yet: the same view is to be judged again.
    pub fn judge_again(&mut self) {
        self.judged = None;
    }

    /// Keeps the requirement for the replicas of weight 0 before it ends for the others, because reads that name such a
    /// replica can come at any time.
    pub fn keep_for_named(&mut self) {
        let mut kept = self.kept.take().unwrap_or_default();
        if let Some(position) = &self.position {
            kept.require(position, self.position_at);
        }
        if let Some(written) = self.written {
            kept.require_time(written);
        }
        if let Some((member, at)) = self.read {
            kept.require_read(member, at);
        }
        self.kept = Some(kept);
    }

    /// Whether anything is kept for the replicas of weight 0.
    #[must_use]
    pub fn keeps_for_named(&self) -> bool {
        self.kept.is_some()
    }

    /// Whether `member`, of weight 0, is known to satisfy what was kept for it.
    #[must_use]
    pub fn admits_named(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        self.kept.as_ref().is_none_or(|kept| kept.admits(cluster, view, member, now))
    }

    /// Ends the requirement. It still knows that this scope wrote.
    pub fn end(&mut self) {
        let Self { wrote, presented, preferred, .. } = *self;
        *self = Self { wrote, presented, preferred, kept: self.kept.take(), ..Self::default() };
    }

    /// Ends the requirement for writes; that for reads stays.
    pub fn end_writes(&mut self) {
        let Self { read, wrote, presented, preferred, judged, .. } = *self;
        *self = Self { read, wrote, presented, preferred, judged, kept: self.kept.take(), ..Self::default() };
    }

    /// The primary was queried after the position became known, and is at `primary`.
    pub fn confirm(&mut self, primary: &Position) {
        self.is_doubtful = false;
        if self.position.as_ref().is_some_and(|position| !primary.contains(position)) {
            self.give_up_position();
        }
    }

    /// Replaces the position by a time pin. The pin of a position from another process begins when that was received,
    /// since its age says nothing about the servers here.
    fn give_up_position(&mut self) {
        self.position = None;
        let begun = self.received_at.take().max(Some(self.position_at));
        self.written = self.written.max(begun);
    }

    /// Whether it is unknown if the primary itself has the position.
    #[must_use]
    pub fn is_to_be_confirmed(&self) -> bool {
        self.position.is_some() && self.is_doubtful
    }

    /// Requires `position`, which another process knew at `at` and which was received at `received`.
    pub fn require_foreign(&mut self, position: &Position, at: Duration, received: Duration) {
        self.is_doubtful = true;
        self.received_at = self.received_at.max(Some(received));
        self.require(position, at);
    }

    /// Judges by time what cannot be judged by position: everything, if settings have changed and positions no longer
    /// count; and a position that the primary itself lacks, though the primary was queried after the position became
    /// known. Such a position belongs to another history (a restore, a reset, a lost failover) and is never reached.
    pub fn settle(&mut self, cluster: &Cluster, view: &View) {
        let is_lost = |position: &Position| {
            view.replication().last_after(self.position_at).is_some_and(|primary| !primary.contains(position))
        };
        let counts = cluster.settings().has_positions;
        if self.position.as_ref().is_some_and(|position| !counts || is_lost(position)) {
            self.give_up_position();
        }
        if let Some(published) = self.pending.take_if(|_| !counts) {
            self.require_time(published);
        }
    }

    /// Whether `member` is known to satisfy the requirement.
    #[must_use]
    pub fn admits(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        member == PRIMARY
            || (self.has_what_was_written(cluster, view, member, now)
                && self.has_what_was_read(cluster, view, member, now))
    }

    /// Whether a session with a server behind `member`, which has `position` (`None` if it cannot tell), satisfies the
    /// requirement. What is known of the member does not count, because another server may have reported it.
    /// `is_present`: the session is with the server that is known to be behind `member`, so that it has what was read
    /// there.
    #[must_use]
    pub fn admits_session(
        &self,
        cluster: &Cluster,
        view: &View,
        member: Member,
        (position, is_present): (Option<&Position>, bool),
        now: Duration,
    ) -> bool {
        let (replication, pin) = (view.replication(), cluster.settings().pin);
        let has = |required: &Position| position.is_some_and(|own| own.contains(required));
        // A session with one of several servers that report no position is judged by time.
        let is_left_to_time = |since: Duration| {
            position.is_none() && replication.is_multiplexed(member) && now.saturating_sub(since) >= pin
        };
        let has_position = |required| has(required) || is_left_to_time(self.position_at);
        let has_read = |(from, at): (Option<Alias>, Duration)| {
            (is_present && from == Some(cluster.members()[member as usize]) && replication.is_same_since(member, at))
                || match replication.first_after(at) {
                    Some(position) => has(position),
                    None if replication.has_history() => is_left_to_time(at),
                    None => now.saturating_sub(at) >= pin,
                }
        };
        self.pending.is_none()
            && self.position.as_ref().is_none_or(has_position)
            && self.is_old_enough(cluster, view, member, now)
            && self.read.is_none_or(has_read)
    }

    /// Whether `member` is known to satisfy the requirement for writes: the position, and what only time can judge.
    #[must_use]
    pub fn has_what_was_written(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        self.pending.is_none()
            && self.position.as_ref().is_none_or(|position| {
                view.replication().has(member, position)
                    || (view.replication().is_multiplexed(member)
                        && now.saturating_sub(self.position_at) >= cluster.settings().pin)
            })
            && self.is_old_enough(cluster, view, member, now)
    }

    /// Whether a query of `member` may find that it satisfies the requirement: it has not been queried since the
    /// position became known.
    #[must_use]
    pub fn may_admit(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        let may_have = |position| {
            let replication = view.replication();
            replication.has(member, position)
                || !(replication.is_multiplexed(member) || replication.was_asked_since(member, self.position_at))
        };
        self.pending.is_none()
            && self.position.as_ref().is_none_or(may_have)
            && self.admits_but_for_position(cluster, view, member, now)
    }

    /// Whether `member` satisfies everything but the position.
    #[must_use]
    pub fn admits_but_for_position(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        self.is_old_enough(cluster, view, member, now) && self.has_what_was_read(cluster, view, member, now)
    }

    fn is_old_enough(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        self.written.is_none_or(|written| {
            let since = now.saturating_sub(written);
            // An unknown lag is never 0. Where lag is never measured, `PIN_SECONDS` has to do.
            let has_caught_up = |lag| lag < since;
            let lag = view.replication().lag_by(member, now);
            since >= cluster.settings().pin && lag.map_or(!cluster.tells_lag(view, member), has_caught_up)
        })
    }

    fn has_what_was_read(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
        let (replication, pin) = (view.replication(), cluster.settings().pin);
        self.read.is_none_or(|(from, at)| {
            (from == Some(cluster.members()[member as usize]) && replication.is_same_since(member, at))
                || match replication.first_after(at) {
                    Some(position) => replication.has(member, position),
                    // Without positions, time has to do.
                    None => {
                        (!replication.has_history() || replication.is_multiplexed(member))
                            && now.saturating_sub(at) >= pin
                    }
                }
        })
    }

    /// Why no replica satisfies the requirement, and whether a query or a wait can help.
    #[must_use]
    pub fn obstacle(&self, cluster: &Cluster, view: &View) -> Obstacle {
        let settings = cluster.settings();
        let unwatched = cluster.is_unwatched(view);
        if self.pending.is_some() || (unwatched && self.read.is_some() && !self.missed) {
            return Obstacle::PositionUnknown;
        }
        let left = if self.missed { Duration::ZERO } else { settings.wait.saturating_sub(self.waited) };
        if self.position.is_none() || (left.is_zero() && !unwatched) {
            return Obstacle::Time;
        }
        Obstacle::Position(left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::position::Kind;
    use crate::replication::state::Observation;
    use crate::settings::Settings;
    use crate::settings::tests::settings;

    const SECOND: Duration = Duration::from_secs(1);

    fn lsn(place: u64) -> Position {
        Position::parse(Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
    }

    fn cluster() -> Cluster {
        Cluster::try_new(Settings { wait: SECOND, has_positions: true, ..settings(&[1.0, 1.0]) }).unwrap()
    }

    fn observation(member: Member, position: Option<Position>, at: u32) -> Observation {
        Observation { member, position, at: SECOND * at, latency: None, server: None }
    }

    /// The primary and the replicas, asked at `at` seconds.
    fn look(cluster: &Cluster, at: u32, places: [u64; 3]) {
        let seen = (0..).zip(places).map(|(member, place)| observation(member, Some(lsn(place)), at));
        cluster.observe(&seen.collect::<Vec<_>>());
    }

    fn admitted(requirement: &Requirement, cluster: &Cluster, now: u32) -> Vec<Member> {
        (0..3).filter(|&member| requirement.admits(cluster, &cluster.view(), member, SECOND * now)).collect()
    }

    #[test]
    fn a_replica_is_admitted_when_it_has_the_position() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(Some(&lsn(20)), SECOND);
        assert_eq!(admitted(&requirement, &cluster, 1), [0]);
        look(&cluster, 1, [20, 20, 19]);
        assert_eq!(admitted(&requirement, &cluster, 1), [0, 1]);
        requirement.publish(Some(&lsn(21)), SECOND);
        assert_eq!(admitted(&requirement, &cluster, 1), [0]);
        assert!(requirement.wrote());
    }

    #[test]
    fn what_was_written_ends_before_what_was_read() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(Some(&lsn(20)), SECOND);
        requirement.require_read(Some(cluster.members()[1]), SECOND * 9);
        look(&cluster, 2, [25, 20, 20]);
        let has_writes =
            |requirement: &Requirement| requirement.has_what_was_written(&cluster, &cluster.view(), 2, SECOND * 9);
        assert_eq!((has_writes(&requirement), admitted(&requirement, &cluster, 9)), (true, vec![0, 1]));
        requirement.end_writes();
        assert_eq!(
            (requirement.position(), requirement.wrote(), admitted(&requirement, &cluster, 9)),
            (None, true, vec![0, 1])
        );
        requirement.publish(Some(&lsn(21)), SECOND * 9);
        assert!(!has_writes(&requirement));
    }

    #[test]
    fn what_has_ended_is_kept_for_those_that_are_asked_by_name() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(Some(&lsn(20)), SECOND);
        requirement.keep_for_named();
        requirement.end();
        assert!(requirement.is_empty() && requirement.keeps_for_named());
        let admits =
            |requirement: &Requirement, member| requirement.admits_named(&cluster, &cluster.view(), member, SECOND * 9);
        look(&cluster, 2, [20, 20, 19]);
        assert!(admits(&requirement, 1) && !admits(&requirement, 2));
        requirement.publish(Some(&lsn(30)), SECOND * 3);
        requirement.keep_for_named();
        requirement.end_writes();
        look(&cluster, 4, [30, 29, 30]);
        assert!(!admits(&requirement, 1) && admits(&requirement, 2));
    }

    #[test]
    fn a_write_without_a_position_is_asked_for_once() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(None, SECOND);
        look(&cluster, 2, [30, 30, 30]);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
        assert_eq!(admitted(&requirement, &cluster, 2), [0]);
        requirement.position_received(Some(&lsn(25)), SECOND, SECOND);
        assert_eq!(admitted(&requirement, &cluster, 2), [0, 1, 2]);
    }

    #[test]
    fn an_answer_says_nothing_of_what_came_after_the_question() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(None, SECOND);
        requirement.publish(None, SECOND * 3);
        requirement.require_read(Some(Alias::from_number(1)), SECOND * 3);
        requirement.position_received(Some(&lsn(20)), SECOND * 2, SECOND * 4);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
        assert!(requirement.is_pending() && requirement.read().is_some());
        requirement.position_received(Some(&lsn(21)), SECOND * 4, SECOND * 5);
        assert!(!requirement.is_pending() && requirement.read().is_none());
    }

    #[test]
    fn where_nobody_watches_a_replica_is_asked_again_after_a_miss() {
        let cluster = Cluster::try_new(Settings { watched: false, ..cluster().settings().clone() }).unwrap();
        let mut requirement = Requirement::default();
        requirement.publish(Some(&lsn(20)), SECOND);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(SECOND));
        requirement.waited(SECOND / 10, false);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(Duration::ZERO));
    }

    #[test]
    fn a_foreign_position_that_the_primary_lacks_is_left_to_time() {
        let mut requirement = Requirement::default();
        requirement.require_foreign(&lsn(20), SECOND, SECOND);
        assert!(requirement.is_to_be_confirmed());
        requirement.confirm(&lsn(19));
        assert_eq!(
            (requirement.is_to_be_confirmed(), requirement.position(), requirement.written()),
            (false, None, Some(SECOND))
        );
    }

    #[test]
    fn a_primary_that_cannot_say_leaves_it_to_time() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish(None, SECOND);
        requirement.position_received(None, SECOND, SECOND);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Time);
        assert_eq!(admitted(&requirement, &cluster, 5), [0]);
        assert_eq!(admitted(&requirement, &cluster, 6), [0, 1, 2]);
    }

    #[test]
    fn time_does_not_admit_a_replica_that_may_be_further_behind() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        look(&cluster, 1, [10, 10, 10]);
        look(&cluster, 9, [20, 20, 10]);
        requirement.publish_by_time(SECOND * 3);
        // The second lacked at 9 what the primary had at 9; by 12 it may be 3 seconds late, and the write is 9 old.
        assert_eq!(admitted(&requirement, &cluster, 7), [0]);
        assert_eq!(admitted(&requirement, &cluster, 12), [0, 1, 2]);
        look(&cluster, 20, [30, 30, 10]);
        requirement.publish_by_time(SECOND * 10);
        assert_eq!(admitted(&requirement, &cluster, 21), [0, 1]);
    }

    #[test]
    fn time_does_not_admit_a_replica_of_which_nobody_knows_how_late_it_is() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.publish_by_time(SECOND * 3);
        // The first is on another timeline, and the second has not been asked yet.
        look(&cluster, 1, [10, 10, 10]);
        let parted = Position::parse(Kind::PostgreSql, "2:0/99").unwrap();
        cluster.observe(&[observation(1, Some(parted), 4)]);
        assert_eq!(admitted(&requirement, &cluster, 1000), [0]);
        look(&cluster, 1001, [20, 20, 20]);
        assert_eq!(admitted(&requirement, &cluster, 1002), [0, 1, 2]);
        // One that has told it and does not any more.
        cluster.observe(&[observation(2, None, 1003)]);
        assert_eq!(admitted(&requirement, &cluster, 2000), [0, 1]);
    }

    #[test]
    fn time_alone_decides_where_nobody_can_ever_tell_how_late_a_replica_is() {
        let mut requirement = Requirement::default();
        requirement.publish_by_time(SECOND * 3);
        let by_time = |cluster: &Cluster| {
            assert_eq!(admitted(&requirement, cluster, 7), [0]);
            assert_eq!(admitted(&requirement, cluster, 8), [0, 1, 2]);
        };
        // No server was probed.
        by_time(&cluster());
        // The engine has no positions.
        let without = cluster();
        without.observe(&[observation(0, None, 4), observation(1, None, 4), observation(2, None, 4)]);
        by_time(&without);
        // The replicas have none.
        let silent = cluster();
        silent.observe(&[observation(0, Some(lsn(10)), 4), observation(1, None, 4), observation(2, None, 4)]);
        by_time(&silent);
        // Without a monitor: the primary's position is known by chance.
        let unwatched = Cluster::try_new(Settings { watched: false, ..cluster().settings().clone() }).unwrap();
        unwatched.observe(&[observation(0, Some(lsn(10)), 4)]);
        by_time(&unwatched);
    }

    #[test]
    fn what_a_writer_that_never_reads_must_see_stays_small() {
        let gtid = |number| {
            let text = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}");
            Position::parse(Kind::MySql, &text).unwrap()
        };
        let mut requirement = Requirement::default();
        for write in 1..=10_000 {
            // Other clients write in between, once or a hundred times.
            let own = gtid(write * 100 + write % 7);
            requirement.publish(Some(&own), SECOND);
            let position = requirement.position().unwrap();
            assert!(position.contains(&own) && position.intervals() <= MOST_INTERVALS);
        }
        let position = requirement.position().unwrap();
        assert!((1..=10_000).all(|write| position.contains(&gtid(write * 100 + write % 7))));
        // The position exceeds nothing that the primary gave out until the last write.
        assert!(!position.contains(&gtid(10_000 * 100 + 10_000 % 7 + 1)) && requirement.written().is_none());
        // Should the primary never have had the transactions in the gaps, time decides.
        assert!(requirement.is_to_be_confirmed());
    }

    #[test]
    fn what_was_read_is_seen_there_and_where_the_primarys_next_position_is() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        look(&cluster, 1, [10, 10, 10]);
        requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
        look(&cluster, 3, [20, 20, 19]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
        look(&cluster, 4, [30, 30, 20]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
    }

    #[test]
    fn what_two_members_showed_is_seen_where_the_primarys_next_position_is() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        look(&cluster, 1, [20, 20, 10]);
        requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
        requirement.require_read(Some(Alias::from_number(2)), SECOND * 3);
        assert_eq!(admitted(&requirement, &cluster, 100), [0]);
        look(&cluster, 4, [20, 20, 10]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
        // The first member has both by now, so that its reads stand for all.
        requirement.require_reads_of(&cluster, &cluster.view(), Alias::from_number(1), SECOND * 5);
        assert_eq!(requirement.read(), Some((Some(Alias::from_number(1)), SECOND * 5)));
    }

    #[test]
    fn what_a_member_showed_until_it_served_no_more_is_had_where_the_primarys_next_position_is() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.require_read(Some(Alias::from_number(1)), SECOND);
        look(&cluster, 2, [10, 10, 10]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
        requirement.leave(Alias::from_number(2), SECOND * 3);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
        requirement.leave(Alias::from_number(1), SECOND * 3);
        assert_eq!(admitted(&requirement, &cluster, 100), [0]);
        look(&cluster, 4, [20, 19, 20]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
        // It happens once: the required position does not move on with every read.
        requirement.leave(Alias::from_number(1), SECOND * 5);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
    }

    #[test]
    fn what_two_members_have_shown_neither_surely_has() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        look(&cluster, 1, [10, 10, 10]);
        requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
        requirement.require_read(Some(Alias::from_number(2)), SECOND);
        assert_eq!(admitted(&requirement, &cluster, 100), [0]);
        look(&cluster, 3, [20, 19, 20]);
        assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
    }

    #[test]
    fn a_position_that_the_primary_itself_lacks_is_left_to_time() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.require(&lsn(99), SECOND * 2);
        look(&cluster, 2, [50, 50, 50]);
        requirement.settle(&cluster, &cluster.view());
        assert_eq!(requirement.position(), Some(&lsn(99)));
        look(&cluster, 3, [51, 51, 51]);
        requirement.settle(&cluster, &cluster.view());
        assert_eq!((requirement.position(), requirement.written()), (None, Some(SECOND * 2)));
        assert_eq!(admitted(&requirement, &cluster, 7), [0, 1, 2]);
    }

    #[test]
    fn a_position_from_elsewhere_that_is_given_up_is_timed_from_its_receipt() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.require_foreign(&lsn(99), SECOND, SECOND * 10);
        look(&cluster, 11, [50, 50, 50]);
        requirement.settle(&cluster, &cluster.view());
        assert_eq!((requirement.position(), requirement.written()), (None, Some(SECOND * 10)));
    }

    #[test]
    fn what_a_scope_owes_its_client_and_the_member_it_prefers_outlive_what_must_be_seen() {
        let mut requirement = Requirement::default();
        assert!(!requirement.owes_token());
        requirement.require_foreign(&lsn(20), SECOND, SECOND);
        requirement.present();
        requirement.prefer(Alias::from_number(2));
        requirement.end_writes();
        requirement.end();
        assert!(requirement.owes_token() && !requirement.wrote() && !requirement.is_empty());
        assert_eq!((requirement.preferred(), requirement.position()), (Some(Alias::from_number(2)), None));
    }

    #[test]
    fn where_positions_no_longer_count_time_does() {
        let before = cluster();
        let after = Cluster::try_new(Settings { has_positions: false, ..before.settings().clone() }).unwrap();
        for position in [Some(lsn(20)), None] {
            let mut requirement = Requirement::default();
            requirement.publish(position.as_ref(), SECOND * 2);
            requirement.settle(&before, &before.view());
            assert_eq!(requirement.written(), None);
            requirement.settle(&after, &after.view());
            assert_eq!(
                (requirement.position(), requirement.is_pending(), requirement.written()),
                (None, false, Some(SECOND * 2))
            );
        }
    }

    #[test]
    fn positions_of_parted_histories_are_left_to_time() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.require(&lsn(20), SECOND);
        requirement.require(&Position::parse(Kind::PostgreSql, "2:0/5").unwrap(), SECOND);
        assert_eq!(requirement.written(), Some(SECOND));
        look(&cluster, 1, [30, 30, 30]);
        assert_eq!(admitted(&requirement, &cluster, 1), [0]);
    }

    #[test]
    fn waiting_ends_with_a_miss_or_when_its_time_is_over_until_the_next_write() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        look(&cluster, 0, [10, 10, 10]);
        let obstacle = |requirement: &Requirement| requirement.obstacle(&cluster, &cluster.view());
        requirement.publish(Some(&lsn(20)), SECOND);
        assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND));
        requirement.waited(SECOND / 4, true);
        assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND * 3 / 4));
        requirement.waited(SECOND, true);
        assert_eq!(obstacle(&requirement), Obstacle::Time);
        requirement.publish(Some(&lsn(21)), SECOND);
        assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND));
        requirement.waited(SECOND / 10, false);
        assert_eq!(obstacle(&requirement), Obstacle::Time);
    }

    #[test]
    fn where_nobody_watches_what_was_read_is_asked_for() {
        let (cluster, mut requirement) = (cluster(), Requirement::default());
        requirement.require_read(Some(Alias::from_number(1)), SECOND);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
        requirement.position_received(Some(&lsn(20)), SECOND, SECOND);
        assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(SECOND));
    }
}
