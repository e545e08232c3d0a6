//! Judges members by a requirement.

use std::time::Duration;

use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::cluster::view::View;
use crate::member::{Member, PRIMARY};
use crate::replication::position::Position;

use super::{Obstacle, Requirement};

impl Requirement {
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

    pub(super) fn has_what_was_read(&self, cluster: &Cluster, view: &View, member: Member, now: Duration) -> bool {
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
