//! Which members of a cluster may serve: what is measured of each, and what depends on all of them.
//!
//! Each member has a lock of its own, which a report of a read holds for a moment; decisions hold none. At most half of
//! the replicas are ejected, which only one thread at a time can judge: [`ClusterHealth::settle`] is called under the
//! lock that guards changes of the [`crate::cluster::view::View`].

use std::sync::Arc;
use std::time::Duration;

use crate::balance::costs::Costs;
use crate::health::admission::{self, Absence, Admission, Presence};
use crate::health::breaker::{Breaker, FULL};
use crate::health::lag_gate::LagGate;
use crate::health::latency::PeakEwma;
use crate::member::{Member, PRIMARY, State};
use crate::reason::Outcome;
use crate::replication::state::ReplicationState;
use crate::support::random::{mixed, unit};
use crate::support::sync::{AtomicBool, Mutex};

/// The result of a probe.
#[derive(Clone, Copy, Debug)]
pub struct Probe {
    /// The member that was probed.
    pub member: Member,
    /// How the probe ended.
    pub outcome: Outcome,
    /// When the probe was sent.
    pub sent: Duration,
    /// How long the probe took.
    pub took: Option<Duration>,
}

/// The settings that matter here.
#[derive(Clone, Copy, Debug)]
pub struct Rules {
    /// A monitor probes the members.
    pub is_watched: bool,
    /// `MAX_LAG`.
    pub max_lag: Option<Duration>,
    /// When a replica that was out of service serves again; `None` to admit it at once.
    pub admission: Option<admission::Rules>,
}

/// A member, and the right to be the read that tries it.
pub type Trial = (Member, Arc<AtomicBool>);

/// The states of the members at one moment.
#[derive(Clone, Debug)]
pub struct States {
    /// The state of each member.
    pub members: Box<[State]>,
    /// The share of its weight that each member is given, in parts of [`FULL`].
    pub ramps: Box<[u8]>,
    /// The members that one read may try.
    pub trials: Box<[Trial]>,
    /// Time alone will change a state, and no monitor will notice, so that a read must judge the states anew.
    pub is_waiting: bool,
    /// The times at which a requirement may end without each member.
    pub absences: Box<[Option<Absence>]>,
}

impl States {
    /// All of `members` are up.
    #[must_use]
    pub fn all_up(members: usize) -> Self {
        Self {
            members: vec![State::Up; members].into(),
            ramps: vec![FULL; members].into(),
            trials: Box::default(),
            is_waiting: false,
            absences: vec![None; members].into(),
        }
    }

    /// Whether both lead to the same decisions.
    #[must_use]
    pub fn is_same_as(&self, other: &Self) -> bool {
        let is_same_trial = |(one, other): (&Trial, &Trial)| one.0 == other.0 && Arc::ptr_eq(&one.1, &other.1);
        (&self.members, &self.ramps, self.is_waiting) == (&other.members, &other.ramps, other.is_waiting)
            && self.trials.len() == other.trials.len()
            && self.trials.iter().zip(&other.trials).all(is_same_trial)
    }
}

#[derive(Clone, Debug, Default)]
struct MemberHealth {
    breaker: Breaker,
    lag: LagGate,
    admission: Admission,
    /// Whether it was too late at the last judgement.
    was_late: bool,
    latency: PeakEwma,
    /// The state that was forced, whatever probes find.
    forced: Option<State>,
}

impl MemberHealth {
    fn state(&self, now: Duration) -> State {
        match self.breaker.state(now) {
            _ if self.forced.is_some() => self.forced.unwrap_or_default(),
            State::Up if self.lag.is_shut() || self.admission.is_waiting() => State::Lagging,
            state => state,
        }
    }

    /// Judges at `now` whether it has its floor.
    fn admit(&mut self, rules: Rules, replication: &ReplicationState, member: Member, now: Duration) {
        let Some(admission) = rules.admission else {
            self.admission = Admission::default();
            return;
        };
        let was_late = std::mem::replace(&mut self.was_late, self.lag.is_shut());
        if was_late && rules.max_lag.is_none() {
            // The settings no longer exclude it for its lag.
            self.admission = Admission::default();
        }
        let presence = match self.breaker.state(now) {
            _ if self.forced.is_some() => return,
            State::Up | State::Lagging if !self.lag.is_shut() => Presence::Sound,
            State::Ejected | State::Probing if !self.lag.is_shut() => Presence::Failing,
            _ => Presence::Out,
        };
        self.admission.judge(presence, admission, replication, member, now);
    }
}

/// The health of the members of a cluster.
#[derive(Debug)]
pub struct ClusterHealth {
    members: Box<[Mutex<MemberHealth>]>,
    costs: Arc<Costs>,
}

impl ClusterHealth {
    /// A cluster of `members` members that are not measured yet.
    #[must_use]
    pub fn new(members: usize) -> Self {
        Self {
            members: (0..members).map(|_| Mutex::new(MemberHealth::default())).collect(),
            costs: Arc::new(Costs::even(members)),
        }
    }

    /// Takes over what `before` measured of its member `from` for our member `to`. After the last of these calls, the
    /// costs must be published.
    pub fn inherit(&self, to: Member, before: &Self, from: Member) {
        let member_health = before.members[from as usize].lock().clone();
        *self.members[to as usize].lock() = member_health;
    }

    /// `member` has joined, or is another server, seen at `at`: it serves only once it has its floor.
    pub fn joins(&self, member: Member, at: Duration) {
        let mut member_health = self.members[member as usize].lock();
        if member_health.forced.is_none() {
            member_health.admission = Admission::joining(at);
        }
    }

    /// Servers have swapped their aliases: the server behind each member is the one that was behind the member in its
    /// place in `sources`. The caller holds the lock that guards changes of the view.
    pub fn servers_swapped(&self, sources: &[Member]) {
        let before: Vec<MemberHealth> = self.members.iter().map(|member_health| member_health.lock().clone()).collect();
        for (member_health, &source) in self.members.iter().zip(sources) {
            *member_health.lock() = before[source as usize].clone();
        }
        if sources[PRIMARY as usize] != PRIMARY {
            // A former replica's failures must not keep writes from the new primary, which no longer has a lag either.
            let mut primary = self.members[PRIMARY as usize].lock();
            *primary = MemberHealth { latency: primary.latency.clone(), ..MemberHealth::default() };
        }
        self.publish_costs();
    }

    /// The latency of each member, for decisions.
    #[must_use]
    pub fn costs(&self) -> &Arc<Costs> {
        &self.costs
    }

    /// The latency of `member`, in seconds.
    #[must_use]
    pub fn latency(&self, member: Member) -> Option<f64> {
        self.members[member as usize].lock().latency.get()
    }

    /// A read ended at `now`. Returns whether a state may have changed, so that the caller must [settle](Self::settle).
    #[must_use]
    pub fn read(
        &self,
        member: Member,
        outcome: Outcome,
        took: Option<Duration>,
        rules: Rules,
        now: Duration,
        draw: u64,
    ) -> bool {
        let mut member_health = self.members[member as usize].lock();
        let was = (member_health.breaker.state(now), member_health.latency.get().is_some());
        member_health.breaker.read(outcome, rules.is_watched, unit(draw), now);
        Self::took(&mut member_health, outcome, took, now);
        let is_news = member_health.breaker.state(now) != was.0 || member_health.breaker.is_to_be_ejected(now);
        let seconds = member_health.latency.get();
        drop(member_health);
        match seconds {
            Some(seconds) if was.1 => self.costs.set(member, seconds),
            Some(_) => self.publish_costs(),
            None => {}
        }
        is_news
    }

    /// Probes ended by `now`.
    pub fn probed(&self, probes: &[Probe], now: Duration) {
        for probe in probes {
            let mut member_health = self.members[probe.member as usize].lock();
            member_health.breaker.probe(probe.outcome, probe.sent, now);
            Self::took(&mut member_health, probe.outcome, probe.took, now);
        }
        self.publish_costs();
    }

    fn took(member_health: &mut MemberHealth, outcome: Outcome, took: Option<Duration>, now: Duration) {
        match (outcome, took) {
            (_, None) => {}
            (Outcome::Ok, Some(took)) => member_health.latency.answered(took, now),
            (Outcome::Failed | Outcome::Gone, Some(took)) => member_health.latency.failed(took, now),
        }
    }

    /// Publishes the latencies to decisions.
    pub fn publish_costs(&self) {
        let seconds: Vec<Option<f64>> =
            self.members.iter().map(|member_health| member_health.lock().latency.get()).collect();
        self.costs.publish(&seconds);
    }

    /// Judges the states at `now`. Ejects the members that fail too often, as far as enough others serve. The caller
    /// holds the lock that guards changes of the view: two threads at once would each find the other's member serving,
    /// and eject one each.
    ///
    #[must_use]
    pub fn settle(&self, rules: Rules, replication: &ReplicationState, now: Duration, draw: u64) -> States {
        let primary_is_silent = self.members[PRIMARY as usize].lock().breaker.state(now) == State::Down;
        for (member, member_health) in (0..).zip(&self.members) {
            let mut member_health = member_health.lock();
            member_health.breaker.tick(rules.is_watched, now);
            if member != PRIMARY {
                member_health.lag.judge(replication.lag_sample(member), rules.max_lag, primary_is_silent, now);
            }
        }
        // Before the ejections, because a replica that waits for its floor cannot replace an ejected one; and after
        // them, for those that were ejected.
        self.admit(rules, replication, now);
        self.eject(now, draw);
        self.admit(rules, replication, now);
        self.states(rules, now)
    }

    fn admit(&self, rules: Rules, replication: &ReplicationState, now: Duration) {
        for (member, member_health) in (0..).zip(&self.members).skip(1) {
            member_health.lock().admit(rules, replication, member, now);
        }
    }

    /// Ejects at most half of the replicas, and never the last one that serves. A replica that a probe finds down is
    /// down whatever the others do.
    fn eject(&self, now: Duration, draw: u64) {
        let at_present = |member_health: &Mutex<MemberHealth>| {
            let member_health = member_health.lock();
            (member_health.breaker.is_ejected(), member_health.state(now) == State::Up)
        };
        let mut states: Vec<(bool, bool)> = self.members.iter().map(at_present).collect();
        let most = (states.len() - 1) / 2;
        for (member, member_health) in self.members.iter().enumerate().skip(1) {
            let ejected = states.iter().filter(|(is_ejected, _)| *is_ejected).count();
            let mut others = states.iter().enumerate().skip(1).filter(|(other, _)| *other != member);
            let is_spare = ejected < most && others.any(|(_, (_, serves))| *serves);
            let mut member_health = member_health.lock();
            if is_spare && member_health.breaker.is_to_be_ejected(now) {
                member_health.breaker.eject(unit(mixed(draw ^ member as u64)), now);
                states[member] = (true, false);
            }
        }
    }

    fn states(&self, rules: Rules, now: Duration) -> States {
        let mut states = States::all_up(self.members.len());
        let mut trials = Vec::new();
        for (member, member_health) in (0..).zip(&self.members) {
            let member_health = member_health.lock();
            let place = member as usize;
            states.members[place] = member_health.state(now);
            states.ramps[place] = member_health.breaker.ramp(now);
            states.absences[place] = rules.admission.and_then(|admission| {
                member_health.admission.absence(admission.lease, member_health.breaker.probed_at())
            });
            if member_health.forced.is_none() && member != PRIMARY {
                trials.extend(member_health.breaker.trial().map(|trial| (member, trial)));
            }
            let is_changing = !matches!(member_health.breaker.state(now), State::Up) || states.ramps[place] != FULL;
            states.is_waiting |= !rules.is_watched && is_changing;
        }
        states.trials = trials.into();
        states
    }

    /// Forces the state of `member`, whatever probes find; `State::Up` ends that, and forgets its measurements.
    pub fn set(&self, member: Member, state: State) {
        let mut member_health = self.members[member as usize].lock();
        *member_health = MemberHealth { forced: (state != State::Up).then_some(state), ..MemberHealth::default() };
    }
}

#[cfg(all(test, not(loom)))]
mod tests;
