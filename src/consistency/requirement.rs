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
use crate::member::Member;
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
}

mod judge;
#[cfg(test)]
mod tests;
