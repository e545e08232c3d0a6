//! The members' states at one moment: an immutable value that decisions read without a lock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::balance::costs::Costs;
use crate::balance::pool::Pool;
use crate::health::breaker::{self, FULL};
use crate::health::cluster_health::States;
use crate::member::{Member, PRIMARY, State};
use crate::replication::state::ReplicationState;
use crate::settings::Settings;
use crate::support::sync::AtomicBool;

use super::decreed::decreed;

/// The members' states at one moment, the pools that follow from them, and the position known of each member.
#[derive(Debug)]
pub struct View {
    /// Each view has a number of its own.
    number: u64,
    pub(super) replication: ReplicationState,
    /// The states as measured.
    pub(super) known: Arc<States>,
    /// The states that count: as measured, except where the settings overrule them.
    pub(super) states: Arc<States>,
    pools: Arc<Pools>,
}

/// Derived from the states alone, so that a view with new positions shares it: building a long round-robin cycle takes
/// half a millisecond, and positions change much more often than states.
#[derive(Debug)]
struct Pools {
    eligible: Box<[Member]>,
    pool: Pool,
    late: Pool,
}

impl Pools {
    fn new(settings: &Settings, states: &States, costs: &Arc<Costs>) -> Self {
        let members = &states.members;
        let weights = |serves: &dyn Fn(State) -> bool| -> Vec<(Member, f64)> {
            let replicas = (1..).zip(&settings.replicas).map(|(member, _)| (member, weight(settings, states, member)));
            replicas.filter(|&(member, weight)| weight > 0.0 && serves(members[member as usize])).collect()
        };
        let replicas = weights(&|state| state == State::Up);
        let eligible = replicas.iter().map(|&(member, _)| member).collect();
        let mut pool = replicas;
        if members[PRIMARY as usize] == State::Up {
            pool.push((PRIMARY, weight(settings, states, PRIMARY)));
        }
        let late = weights(&|state| state != State::Down);
        let pool_of = |members: &[(Member, f64)]| Pool::new(members, settings.balance, costs);
        Self { eligible, pool: pool_of(&pool), late: pool_of(&late) }
    }
}

/// The weight of `member`. One that has just come back is given a part of its weight.
pub(super) fn weight(settings: &Settings, states: &States, member: Member) -> f64 {
    settings.weight(member) * f64::from(states.ramps[member as usize]) / f64::from(FULL)
}

impl View {
    pub(super) fn new(settings: &Settings, known: States, costs: &Arc<Costs>, replication: ReplicationState) -> Self {
        let known = Arc::new(known);
        let states = decreed(settings, &known).map_or_else(|| known.clone(), Arc::new);
        let pools = Arc::new(Pools::new(settings, &states, costs));
        Self { number: Self::next_number(), replication, known, states, pools }
    }

    /// A view with the pools of this one, whose states differ from `known` at most in when a requirement may end without
    /// a member.
    pub(super) fn with_same_pools(&self, settings: &Settings, known: States, replication: ReplicationState) -> Self {
        let known = Arc::new(known);
        let states = decreed(settings, &known).map_or_else(|| known.clone(), Arc::new);
        Self { number: Self::next_number(), replication, known, states, pools: self.pools.clone() }
    }

    fn next_number() -> u64 {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        NUMBERS.fetch_add(1, Ordering::Relaxed)
    }

    /// Distinguishes this view from all others.
    #[inline]
    #[must_use]
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The positions and lags known of the members.
    #[inline]
    #[must_use]
    pub fn replication(&self) -> &ReplicationState {
        &self.replication
    }

    /// Whether `member` is up, whatever its weight.
    #[inline]
    #[must_use]
    pub fn serves(&self, member: Member) -> bool {
        self.states.members[member as usize] == State::Up
    }

    /// Whether a requirement ends only once `member` has what is required, at `now`: it serves, or it may serve again,
    /// here or in another process, before anything shows that it lacks that.
    #[must_use]
    pub fn awaits(&self, member: Member, now: Duration) -> bool {
        self.states.absences[member as usize].is_none_or(|absence| !(absence.from <= now && now < absence.until))
    }

    /// Whether `member` is not known to be down.
    #[must_use]
    pub fn answers(&self, member: Member) -> bool {
        self.states.members[member as usize] != State::Down
    }

    /// The state of `member`.
    #[must_use]
    pub fn state(&self, member: Member) -> State {
        self.states.members[member as usize]
    }

    /// The replicas that the pool may choose.
    #[inline]
    #[must_use]
    pub fn eligible(&self) -> &[Member] {
        &self.pools.eligible
    }

    /// The eligible replicas, and the primary with its own weight.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.pools.pool
    }

    /// The replicas that are not down, however late.
    #[must_use]
    pub fn late(&self) -> &Pool {
        &self.pools.late
    }

    /// Whether a read may try a member that is out of service.
    #[inline]
    #[must_use]
    pub fn has_trials(&self) -> bool {
        !self.states.trials.is_empty()
    }

    /// The first member in `admits` that a read may try. With `takes`, this read takes the right to try it.
    #[cold]
    #[must_use]
    pub fn trial(&self, takes: bool, admits: impl Fn(Member) -> bool) -> Option<Member> {
        let may_try = |trial: &AtomicBool| if takes { breaker::take(trial) } else { !trial.load(Ordering::Relaxed) };
        self.states.trials.iter().find(|(member, trial)| admits(*member) && may_try(trial)).map(|&(member, _)| member)
    }

    /// Whether time alone will change a state, so that a read must judge the states anew because no monitor does.
    #[inline]
    #[must_use]
    pub fn is_waiting(&self) -> bool {
        self.states.is_waiting
    }
}
