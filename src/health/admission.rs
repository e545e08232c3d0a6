//! When a replica that was out of service, or that joined later, may serve.
//!
//! A requirement ends when every replica that may serve satisfies it. A replica that was out of service was not
//! considered then, and may lack what was required when it returns. So it serves only once it has its *floor*: the
//! first position of the primary that was sampled after the replica was seen again. Every requirement that ended
//! without the replica was for a write before that.
//!
//! Each process judges for itself, and one may end a requirement without a replica that another one already admits. Two
//! things prevent that. A process goes without a replica only for a *lease*, which each probe that finds the replica
//! out of service renews; and only from one lease later, when every other process has found it so, too. And the floor
//! is sampled one lease after the replica was seen again, when no process goes without it any more.
//!
//! Without positions there is no floor: requirements are judged by time there, for every replica alike.
//!
//! A process that starts sets no floors. Floors for all replicas would also keep a new process from reading data older
//! than itself.
//!
//! Times are since the clock's origin.

use std::time::Duration;

use crate::member::Member;
use crate::replication::position::Position;
use crate::replication::state::ReplicationState;

/// The settings that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// How long a probe result that a replica is out of service stays valid.
    pub lease: Duration,
}

/// The condition of a replica, its floor aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Nothing but its floor keeps it from serving.
    Sound,
    /// It answers, and this process has ejected it. Other processes may read from it, so it is not gone without.
    Failing,
    /// It does not answer, or is further behind than `MAX_LAG`.
    Out,
}

/// The time in which a requirement may end without a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Absence {
    /// Every process has found it out of service.
    pub from: Duration,
    /// The last probe result that found it so has expired.
    pub until: Duration,
}

/// Whether one replica is admitted.
#[derive(Clone, Debug, Default)]
pub enum Admission {
    /// It is.
    #[default]
    Admitted,
    /// It is out of service.
    Away {
        /// Since when a requirement need not wait for it; `None` if only this process has ejected it.
        since: Option<Duration>,
    },
    /// It waits for its floor.
    Returning {
        /// The primary must be queried later than this.
        sampled_after: Duration,
        /// The position that it must have; `None` until the primary was queried.
        floor: Option<Position>,
    },
}

impl Admission {
    /// A replica that joined, or another server behind its alias, seen at `at`.
    #[must_use]
    pub fn joining(at: Duration) -> Self {
        Self::Returning { sampled_after: at, floor: None }
    }

    /// Judges at `now` whether `member` has its floor.
    pub fn judge(
        &mut self,
        presence: Presence,
        rules: Rules,
        replication: &ReplicationState,
        member: Member,
        now: Duration,
    ) {
        match (presence, &*self) {
            (Presence::Out, Self::Away { since: Some(_) }) => {}
            (Presence::Out, _) => *self = Self::Away { since: Some(now) },
            (Presence::Failing, _) => *self = Self::Away { since: None },
            (Presence::Sound, Self::Away { .. }) => {
                *self = Self::Returning { sampled_after: now + rules.lease, floor: None };
            }
            (Presence::Sound, _) => {}
        }
        let Self::Returning { sampled_after, floor } = self else { return };
        let is_reached = if replication.tells_lag() && !replication.is_multiplexed(member) {
            if floor.as_ref().is_some_and(|floor| replication.has_parted_from(floor)) {
                // After a failover or a restore the floor can never be had: the present history has another.
                *floor = None;
            }
            if floor.is_none() {
                *floor = replication.first_after(*sampled_after).cloned();
            }
            floor.as_ref().is_some_and(|floor| replication.has(member, floor))
        } else {
            true
        };
        if is_reached {
            *self = Self::Admitted;
        }
    }

    /// Whether it waits for its floor.
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        matches!(self, Self::Returning { .. })
    }

    /// When a requirement may end without it; its last probe was sent at `probed_at`.
    #[must_use]
    pub fn absence(&self, lease: Duration, probed_at: Option<Duration>) -> Option<Absence> {
        let (Self::Away { since: Some(since) }, Some(probed_at)) = (self, probed_at) else { return None };
        Some(Absence { from: *since + lease, until: probed_at + lease })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::member::PRIMARY;
    use crate::replication::state::Observation;
    use crate::replication::state::tests::lsn;

    const SECOND: Duration = Duration::from_secs(1);
    const RULES: Rules = Rules { lease: Duration::from_secs(2) };

    fn look(replication: &ReplicationState, at: u32, primary: u64, replica: u64) -> ReplicationState {
        let seen = |member, place| Observation { member, position: Some(lsn(place)), at: SECOND * at, server: None };
        replication.observing(&[seen(PRIMARY, primary), seen(1, replica)])
    }

    fn judge(admission: &mut Admission, presence: Presence, replication: &ReplicationState, now: u32) -> bool {
        admission.judge(presence, RULES, replication, 1, SECOND * now);
        admission.is_waiting()
    }

    #[test]
    fn a_replica_that_returns_serves_when_it_has_what_the_primary_had_a_lease_later() {
        let (mut admission, mut replication) = (Admission::default(), look(&ReplicationState::unknown(2), 1, 10, 10));
        assert!(!judge(&mut admission, Presence::Sound, &replication, 1));
        assert!(!judge(&mut admission, Presence::Out, &replication, 2));
        replication = look(&replication, 10, 20, 20);
        assert!(judge(&mut admission, Presence::Sound, &replication, 10));
        // Another process may have ended a requirement without it until 12.
        replication = look(&replication, 12, 30, 30);
        assert!(judge(&mut admission, Presence::Sound, &replication, 12));
        replication = look(&replication, 13, 40, 39);
        assert!(judge(&mut admission, Presence::Sound, &replication, 13));
        // The floor does not move on.
        replication = look(&replication, 14, 50, 40);
        assert!(!judge(&mut admission, Presence::Sound, &replication, 14));
    }

    #[test]
    fn a_replica_that_comes_and_goes_has_another_floor_each_time() {
        let (mut admission, mut replication) = (Admission::default(), look(&ReplicationState::unknown(2), 1, 10, 10));
        judge(&mut admission, Presence::Out, &replication, 2);
        judge(&mut admission, Presence::Sound, &replication, 3);
        replication = look(&replication, 6, 20, 10);
        assert!(judge(&mut admission, Presence::Sound, &replication, 6));
        judge(&mut admission, Presence::Out, &replication, 7);
        replication = look(&replication, 8, 30, 20);
        assert!(judge(&mut admission, Presence::Sound, &replication, 8));
        replication = look(&replication, 11, 31, 31);
        assert!(!judge(&mut admission, Presence::Sound, &replication, 11));
    }

    #[test]
    fn while_the_primary_is_silent_there_is_no_floor_to_be_had() {
        let (mut admission, replication) = (Admission::default(), look(&ReplicationState::unknown(2), 1, 10, 10));
        judge(&mut admission, Presence::Out, &replication, 2);
        assert!(judge(&mut admission, Presence::Sound, &replication, 3));
        assert!(judge(&mut admission, Presence::Sound, &replication, 1000));
    }

    #[test]
    fn after_a_change_of_history_the_floor_is_one_of_the_present_history() {
        let (mut admission, mut replication) =
            (Admission::joining(SECOND), look(&ReplicationState::unknown(2), 2, 90, 10));
        assert!(judge(&mut admission, Presence::Sound, &replication, 2));
        replication = look(&replication, 3, 20, 19);
        assert!(judge(&mut admission, Presence::Sound, &replication, 3));
        replication = look(&replication, 4, 21, 20);
        assert!(!judge(&mut admission, Presence::Sound, &replication, 4));
    }

    #[test]
    fn where_there_are_no_positions_there_is_no_floor() {
        let (mut admission, replication) = (Admission::default(), ReplicationState::unknown(2));
        judge(&mut admission, Presence::Out, &replication, 2);
        assert!(!judge(&mut admission, Presence::Sound, &replication, 3));
    }

    #[test]
    fn a_requirement_ends_without_a_replica_from_one_lease_after_it_left_until_one_after_its_last_probe() {
        let (mut admission, replication) = (Admission::default(), ReplicationState::unknown(2));
        judge(&mut admission, Presence::Out, &replication, 2);
        judge(&mut admission, Presence::Out, &replication, 9);
        let absence = admission.absence(RULES.lease, Some(SECOND * 9));
        assert_eq!(absence, Some(Absence { from: SECOND * 4, until: SECOND * 11 }));
        assert_eq!(admission.absence(RULES.lease, None), None);
        // One that is only ejected here is waited for, and yet has a floor.
        judge(&mut admission, Presence::Failing, &replication, 10);
        assert_eq!(admission.absence(RULES.lease, Some(SECOND * 9)), None);
        judge(&mut admission, Presence::Sound, &replication, 11);
        assert_eq!(admission.absence(RULES.lease, Some(SECOND * 11)), None);
    }
}
