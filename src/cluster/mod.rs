//! A cluster in use: its settings, the health of its members, and the view that decisions read.
//!
//! [`Cluster::try_new`] checks the settings once. What changes while a process runs, the members' states, is an
//! immutable [`View`] that is swapped whole: a decision reads one consistent view and never waits for a lock.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::alias::Alias;
use crate::balance::pool::Pool;
use crate::health::admission;
use crate::health::breaker::FULL;
use crate::health::cluster_health::{ClusterHealth, Probe, Rules, States};
use crate::member::{Change, Member, PRIMARY, State};
use crate::reason::Outcome;
use crate::replication::state::{Observation, ReplicationState};
use crate::settings::{Settings, SettingsError};
use crate::support::counters::Counters;
use crate::support::snapshot::Shared;
use crate::support::sync::Mutex;

use view::{View, weight};

fn rules(settings: &Settings) -> Rules {
    // Without a monitor, lag figures never improve, so `MAX_LAG` would exclude a replica permanently. Without a monitor
    // a requirement ends only when all replicas have it, including those out of service, so that no floor is needed.
    let has_floors = settings.watched && settings.consistent && !settings.are_mirrors;
    let admission = has_floors.then_some(admission::Rules { lease: settings.lease });
    Rules { is_watched: settings.watched, max_lag: settings.max_lag.filter(|_| settings.watched), admission }
}

/// A cluster in use.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    members: Box<[Alias]>,
    view: Shared<View>,
    health: ClusterHealth,
    /// Held while the view is swapped, so that two concurrent changes are both kept; a decision never takes it. The
    /// value: the states that were reported last as changes.
    changing: Mutex<Box<[State]>>,
    turn: AtomicUsize,
    counters: Counters,
}

impl Cluster {
    /// Checks the settings and begins with every member up.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn try_new(settings: Settings) -> Result<Self, SettingsError> {
        settings.check()?;
        let members: Box<[Alias]> = settings.members().collect();
        let (health, replication) = (ClusterHealth::new(members.len()), ReplicationState::unknown(members.len()));
        let view = View::new(&settings, States::all_up(members.len()), health.costs(), replication);
        Ok(Self {
            health,
            counters: Counters::new(members.len()),
            view: Shared::new(Arc::new(view)),
            changing: Mutex::new(vec![State::Up; members.len()].into()),
            turn: AtomicUsize::new(0),
            members,
            settings,
        })
    }

    /// Takes over what `before`, the same cluster under earlier settings, knew of the members that both have.
    #[must_use]
    pub fn inheriting(self, before: &Self) -> Self {
        let view = before.view.load();
        let mut states = States::all_up(self.members.len());
        let places: HashMap<Alias, Member> = before.members.iter().copied().zip(0..).collect();
        for (member, alias) in (0..).zip(&self.members) {
            let Some(&old) = places.get(alias) else { continue };
            self.counters.inherit(member, &before.counters, old);
            // What was measured of one server says nothing of another one.
            if self.address(member) == before.address(old) {
                self.health.inherit(member, &before.health, old);
                states.members[member as usize] = view.known.members[old as usize];
                states.ramps[member as usize] = view.known.ramps[old as usize];
            }
        }
        self.health.publish_costs();
        states.is_waiting = !self.settings.watched && states.members.iter().any(|state| *state != State::Up);
        // Positions are compared with the primary's, so another primary invalidates them all.
        let replication = if self.address(PRIMARY) == before.address(PRIMARY) {
            let is_there = |&(member, old): &(Member, Member)| self.address(member) == before.address(old);
            let pairs = (0..).zip(&self.members).map(|(member, alias)| Some((member, *places.get(alias)?)));
            view.replication().rearranged(pairs.map(|place| place.filter(is_there).map(|(_, old)| old)))
        } else {
            ReplicationState::unknown(self.members.len())
        };
        self.changing.lock().clone_from(&states.members);
        self.view.swap(Arc::new(View::new(&self.settings, states, self.health.costs(), replication)));
        self
    }

    /// Members of this cluster that `before`, the same cluster under earlier settings, did not read from have joined at
    /// `now`. Requirements ended without them, so each serves only once it has its floor. With another primary there
    /// were no such requirements.
    pub fn admit_those_that_joined(&self, before: &Self, now: Duration) {
        if rules(&self.settings).admission.is_none() || self.address(PRIMARY) != before.address(PRIMARY) {
            return;
        }
        let mut told = self.changing.lock();
        let view = self.view.load();
        if !view.replication().tells_lag() {
            // The primary reports no position, so there is no floor to sample.
            return;
        }
        let mut states = (*view.known).clone();
        for (member, alias) in (0..).zip(&self.members).skip(1) {
            let was_asked = before.member(*alias).is_some_and(|old| {
                before.address(old) == self.address(member)
                    && !before.settings.forbidden.contains(alias)
                    && (before.weight(old) > 0.0 || self.weight(member) <= 0.0)
            });
            if !was_asked {
                self.health.joins(member, now);
                Self::wait_for_floor(&mut states, member);
            }
        }
        self.stand(&mut told, &view, states, None);
    }

    fn wait_for_floor(states: &mut States, member: Member) {
        let state = &mut states.members[member as usize];
        if *state == State::Up {
            *state = State::Lagging;
        }
    }

    fn address(&self, member: Member) -> Option<u64> {
        self.settings.addresses.get(member as usize).copied()
    }

    /// The settings.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The alias of the primary, which names the cluster.
    #[inline]
    #[must_use]
    pub fn name(&self) -> Alias {
        self.settings.primary
    }

    /// All members: the primary, then the replicas.
    #[inline]
    #[must_use]
    pub fn members(&self) -> &[Alias] {
        &self.members
    }

    /// Whether no monitor reports the members' positions, so that a read queries them when it needs them.
    #[must_use]
    pub fn is_unwatched(&self, view: &View) -> bool {
        self.settings.has_positions && !(self.settings.watched && view.replication().has_history())
    }

    /// Whether the lag of `member` is measured, now or at a later probe: a monitor runs, and the engine and the servers
    /// report positions.
    #[must_use]
    pub fn tells_lag(&self, view: &View, member: Member) -> bool {
        self.settings.watched && view.replication().tells_lag() && !view.replication().is_multiplexed(member)
    }

    /// The index of `alias` among the members.
    #[inline]
    #[must_use]
    pub fn member(&self, alias: Alias) -> Option<Member> {
        (0..).zip(&self.members).find(|&(_, &member)| member == alias).map(|(member, _)| member)
    }

    /// The weight of `member` in the read pool.
    #[must_use]
    pub fn weight(&self, member: Member) -> f64 {
        self.settings.weight(member)
    }

    /// Whether the pool may hold `member`.
    #[must_use]
    pub fn is_eligible(&self, view: &View, member: Member) -> bool {
        view.serves(member) && self.weight(member) > 0.0
    }

    /// A pool of those of `members` that have a weight, with their ramps in `view`.
    #[must_use]
    pub fn pool_of(&self, view: &View, members: impl Iterator<Item = Member>) -> Pool {
        let weighted: Vec<_> = members.map(|member| (member, weight(&self.settings, &view.states, member))).collect();
        Pool::new(&weighted, self.settings.balance, self.health.costs())
    }

    /// The view, to be cached by each thread.
    #[inline]
    pub fn shared_view(&self) -> &Shared<View> {
        &self.view
    }

    /// The present view.
    #[must_use]
    pub fn view(&self) -> Arc<View> {
        self.view.load()
    }

    /// The present view for a read that the members `failed` have just failed: for this read alone they count as down.
    #[must_use]
    pub fn view_without(&self, failed: &[Member]) -> View {
        let view = self.view();
        let mut states = States::clone(&view.states);
        for &member in failed {
            states.members[member as usize] = State::Down;
        }
        states.trials = view.states.trials.iter().filter(|(member, _)| !failed.contains(member)).cloned().collect();
        View::new(&self.settings, states, self.health.costs(), view.replication.clone())
    }

    /// Forces the state of `member`, whatever probes find; `State::Up` ends that. Returns the state before.
    pub fn set_state(&self, member: Member, state: State) -> State {
        let mut told = self.changing.lock();
        self.health.set(member, state);
        let view = self.view.load();
        let before = view.known.members[member as usize];
        let mut states = (*view.known).clone();
        states.members[member as usize] = state;
        states.ramps[member as usize] = FULL;
        states.trials = states.trials.iter().filter(|(other, _)| *other != member).cloned().collect();
        self.stand(&mut told, &view, states, None);
        before
    }

    /// A read of `member` ended at `now`, after `took`. Returns the states that have changed.
    pub fn read(
        &self,
        member: Member,
        outcome: Outcome,
        took: Option<Duration>,
        now: Duration,
        draw: u64,
    ) -> Vec<Change> {
        if self.health.read(member, outcome, took, rules(&self.settings), now, draw) {
            self.settle(now, draw)
        } else {
            Vec::new()
        }
    }

    /// Takes in probes that ended by `now` and what the servers answered, in one swap of the view. Returns the states that
    /// have changed.
    ///
    /// The states are judged by the new positions: a replica that was behind and has caught up is not excluded for its
    /// former position.
    pub fn report_probes(
        &self,
        probes: &[Probe],
        observations: &[Observation],
        now: Duration,
        draw: u64,
    ) -> Vec<Change> {
        let mut told = self.changing.lock();
        let view = self.view.load();
        let rules = rules(&self.settings);
        let replication = view.replication().observing_by(observations, now);
        for member in self.changed_replicas(observations, &replication, view.replication()) {
            self.health.joins(member, replication.server_since(member));
        }
        self.health.probed(probes, now);
        let states = self.health.settle(rules, &replication, now, draw);
        self.stand(&mut told, &view, states, (!observations.is_empty()).then_some(replication))
    }

    /// The replicas that `observations` show as another server than before, in a cluster where requirements have floors.
    fn changed_replicas(
        &self,
        observations: &[Observation],
        after: &ReplicationState,
        before: &ReplicationState,
    ) -> Vec<Member> {
        if rules(&self.settings).admission.is_none() || !after.tells_lag() {
            return Vec::new();
        }
        let replicas = observations.iter().map(|seen| seen.member).filter(|&member| member != PRIMARY);
        replicas.filter(|&member| after.has_another_server(member, before)).collect()
    }

    /// Judges the states at `now`, and returns those that have changed.
    pub fn settle(&self, now: Duration, draw: u64) -> Vec<Change> {
        let mut told = self.changing.lock();
        let view = self.view.load();
        let states = self.health.settle(rules(&self.settings), view.replication(), now, draw);
        self.stand(&mut told, &view, states, None)
    }

    /// Replaces `view` if `states` or `replication` differ from it. The caller holds `changing`, whose value is `told`.
    /// Returns the states that have changed since they were reported last.
    fn stand(
        &self,
        told: &mut Box<[State]>,
        view: &View,
        states: States,
        replication: Option<ReplicationState>,
    ) -> Vec<Change> {
        let both = (0..).zip(told.iter().zip(&states.members));
        let changes = both.filter(|(_, (before, after))| before != after);
        let changes = changes.map(|(member, (&before, &after))| Change { member, before, after }).collect();
        told.clone_from(&states.members);
        let is_same = states.is_same_as(&view.known);
        if is_same && states.absences == view.known.absences && replication.is_none() {
            return changes;
        }
        let replication = replication.unwrap_or_else(|| view.replication().clone());
        self.view.swap(Arc::new(if is_same {
            view.with_same_pools(&self.settings, states, replication)
        } else {
            View::new(&self.settings, states, self.health.costs(), replication)
        }));
        changes
    }

    /// Servers have swapped their aliases: since `now`, the server behind each member is the one that was behind the
    /// member in its place in `sources`. Aliases keep their roles, and servers keep their measurements. `sources` has
    /// each member once.
    pub fn servers_swapped(&self, sources: &[Member], now: Duration) {
        let mut told = self.changing.lock();
        let view = self.view.load();
        self.health.servers_swapped(sources);
        let mut states = (*view.known).clone();
        states.members = sources.iter().map(|&source| view.known.members[source as usize]).collect();
        states.ramps = sources.iter().map(|&source| view.known.ramps[source as usize]).collect();
        if sources[PRIMARY as usize] != PRIMARY {
            (states.members[PRIMARY as usize], states.ramps[PRIMARY as usize]) = (State::Up, FULL);
        }
        // A trial that is due is found again when a read or a probe is judged next.
        states.trials = Box::default();
        states.absences = vec![None; sources.len()].into();
        if rules(&self.settings).admission.is_some() {
            for (member, _) in (0..).zip(sources).skip(1).filter(|(member, source)| member != *source) {
                self.health.joins(member, now);
                Self::wait_for_floor(&mut states, member);
            }
        }
        told.clone_from(&states.members);
        let replication = view.replication.servers_swapped(sources, now);
        self.view.swap(Arc::new(View::new(&self.settings, states, self.health.costs(), replication)));
    }

    /// The latency of `member`; `None` before its first answer.
    #[must_use]
    pub fn latency(&self, member: Member) -> Option<Duration> {
        self.health.latency(member).map(Duration::from_secs_f64)
    }

    /// Takes in observations whose answers arrived at the moment of the query.
    pub fn observe(&self, observations: &[Observation]) {
        self.observe_by(observations, Duration::ZERO);
    }

    /// Takes in observations whose answers had arrived by `heard`.
    pub fn observe_by(&self, observations: &[Observation], heard: Duration) {
        let _told = self.changing.lock();
        let view = self.view.load();
        let replication = view.replication().observing_by(observations, heard);
        let changed = self.changed_replicas(observations, &replication, view.replication());
        let mut states = (*view.known).clone();
        // In the same swap: the next read must not find the new server admitted as the former one.
        for &member in &changed {
            self.health.joins(member, replication.server_since(member));
            Self::wait_for_floor(&mut states, member);
        }
        self.view.swap(Arc::new(if changed.is_empty() {
            view.with_same_pools(&self.settings, states, replication)
        } else {
            View::new(&self.settings, states, self.health.costs(), replication)
        }));
    }

    /// The turn of the round robin in its cycle.
    #[must_use]
    pub fn turn(&self) -> &AtomicUsize {
        &self.turn
    }

    /// Begins the round robin at `turn`, drawn at random in each process: otherwise all workers would begin with the
    /// same replica.
    pub fn start_turn(&self, turn: u32) {
        self.turn.store(turn as usize, Ordering::Relaxed);
    }

    /// The decisions that were counted.
    #[must_use]
    pub fn counters(&self) -> &Counters {
        &self.counters
    }
}

pub mod view;

#[cfg(all(loom, test))]
mod model;
#[cfg(test)]
mod tests;
