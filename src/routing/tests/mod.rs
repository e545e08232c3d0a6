use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::decide::{decide, explain};
use super::question::{Caller, Decision, Loaded, Mode, Read, Shown, Step};
use crate::alias::Alias;
use crate::cluster::Cluster;
use crate::consistency::scope::{Effect, Kind, Scope};
use crate::consistency::scope_state::{LastRead, ScopeState};
use crate::member::{Member, PRIMARY, State};
use crate::reason::Reason;
use crate::replication::position::Position;
use crate::replication::state::Observation;
use crate::settings::tests::settings;
use crate::settings::{Balance, OnUnavailable, ReadTarget, Settings};

const SECOND: Duration = Duration::from_secs(1);
const CLUSTER: Alias = Alias::from_number(0);
const REPLICA: Effect = Effect::Replica { member: None, stale_ok: false };

fn named(member: u32) -> Effect {
    Effect::Replica { member: Some(Alias::from_number(member)), stale_ok: false }
}

fn scope(parent: Option<&Arc<Scope>>, effect: Effect) -> Arc<Scope> {
    Scope::enter(parent.cloned(), 1, Kind::Use(None, effect))
}

fn request() -> Arc<Scope> {
    Scope::enter(None, 1, Kind::Request)
}

fn wrote(scope: &Scope) {
    scope.record().unwrap().of(CLUSTER).requirement(|requirement| requirement.publish_by_time(SECOND * 100));
}

/// Why there is no decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Not {
    Available,
    Asked,
    Learned(Alias),
    Reached(Member),
}

/// A question with nothing special about it, and a way to change one thing.
#[expect(clippy::struct_excessive_bools, reason = "each is an answer to a question of its own")]
struct Ask {
    exempt: bool,
    scope: Option<Arc<Scope>>,
    instance: Option<Loaded>,
    in_transaction: bool,
    is_changed: bool,
    /// A member to which the connection is in a transaction.
    blocked: Option<Member>,
    record: Option<Arc<ScopeState>>,
    before: Option<Shown>,
    may_wait: bool,
    now: Duration,
    seed: u64,
    mode: Mode,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            exempt: false,
            scope: None,
            instance: None,
            in_transaction: false,
            is_changed: false,
            blocked: None,
            record: None,
            before: None,
            may_wait: true,
            now: Duration::from_secs(100),
            seed: 1,
            mode: Mode::Decide,
        }
    }
}

impl Ask {
    fn of(self, cluster: &Cluster) -> Result<Decision, Not> {
        let read = Read {
            exempt: self.exempt,
            scope: self.scope.as_deref(),
            instance: self.instance,
            before: self.before,
            may_wait: self.may_wait,
            caller: &self,
        };
        let draw = SmallRng::seed_from_u64(self.seed).next_u64();
        let view = cluster.view();
        if self.mode == Mode::Explain {
            let Ok(decision) = explain(cluster, &view, &read, draw);
            return decision.ok_or(Not::Available);
        }
        let Ok(step) = decide(cluster, &view, &read, draw);
        match step {
            Step::Decided(member, reason) => Ok((member, reason)),
            Step::ServeLate(member) => Ok((member, Reason::Unavailable)),
            Step::NoReplica => Err(Not::Available),
            Step::QueryPrimaryPosition(_) => Err(Not::Asked),
            Step::QueryMemberPosition { last, .. } => Err(Not::Learned(last)),
            Step::WaitForReplica { member, .. } => Err(Not::Reached(member)),
        }
    }
}

impl Caller for Ask {
    type Error = Infallible;

    fn in_transaction(&self, member: Member) -> Result<bool, Infallible> {
        Ok((self.in_transaction && member == PRIMARY) || self.blocked == Some(member))
    }

    fn is_changed(&self) -> Result<bool, Infallible> {
        Ok(self.is_changed)
    }

    fn record(&self) -> Result<Option<Arc<ScopeState>>, Infallible> {
        Ok(self.record.clone())
    }

    fn now(&self) -> Duration {
        self.now
    }
}

fn within(scope: &Arc<Scope>) -> Ask {
    Ask { scope: Some(scope.clone()), ..Ask::default() }
}

fn loaded(from: Member) -> Loaded {
    Loaded { from, exempt: false }
}

fn two_replicas() -> Cluster {
    Cluster::try_new(settings(&[1.0, 1.0])).unwrap()
}

fn with(change: impl FnOnce(&mut Settings)) -> Cluster {
    let mut changed = settings(&[1.0, 1.0]);
    change(&mut changed);
    Cluster::try_new(changed).unwrap()
}

fn lsn(place: u64) -> Position {
    Position::parse(crate::replication::position::Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
}

fn look(cluster: &Cluster, at: Duration, places: &[(Member, u64)]) {
    let seen = |&(member, place)| Observation { member, position: Some(lsn(place)), at, server: None };
    cluster.observe(&places.iter().map(seen).collect::<Vec<_>>());
}

/// Two replicas with positions, of which all is known at 90 seconds.
fn with_positions() -> Cluster {
    let cluster = with(|settings| settings.has_positions = true);
    look(&cluster, SECOND * 90, &[(PRIMARY, 10), (1, 10), (2, 10)]);
    cluster
}

#[test]
fn row_2_an_exempt_model_is_read_from_the_primary() {
    let ask = Ask { exempt: true, ..within(&scope(None, named(1))) };
    assert_eq!(ask.of(&two_replicas()), Ok((PRIMARY, Reason::Exempt)));
}

#[test]
fn row_4b_a_changed_session_is_read_from_the_primary() {
    let ask = |scope| Ask { is_changed: true, ..within(&scope) };
    assert_eq!(ask(scope(None, named(1))).of(&two_replicas()), Ok((PRIMARY, Reason::SessionState)));
    let stale = scope(None, Effect::Replica { member: None, stale_ok: true });
    assert_eq!(ask(stale).of(&two_replicas()), Ok((PRIMARY, Reason::SessionState)));
    let both = Ask { in_transaction: true, ..ask(request()) };
    assert_eq!(both.of(&two_replicas()), Ok((PRIMARY, Reason::Transaction)));
    let ask = Ask { is_changed: true, ..Ask::default() };
    assert_eq!(ask.of(&with(|settings| settings.are_mirrors = true)).map(|answer| answer.1), Ok(Reason::Balanced));
}

#[test]
fn row_3_use_primary_outranks_a_transaction() {
    let ask = Ask { in_transaction: true, ..within(&scope(None, Effect::Primary)) };
    assert_eq!(ask.of(&two_replicas()), Ok((PRIMARY, Reason::UsePrimary)));
}

#[test]
fn row_4_a_transaction_outranks_use_replica() {
    let ask = Ask { in_transaction: true, ..within(&scope(None, named(1))) };
    assert_eq!(ask.of(&two_replicas()), Ok((PRIMARY, Reason::Transaction)));
    let stale = scope(None, Effect::Replica { member: None, stale_ok: true });
    let ask = Ask { in_transaction: true, ..within(&stale) };
    assert_eq!(ask.of(&two_replicas()), Ok((PRIMARY, Reason::Transaction)));
}

#[test]
fn row_7_what_came_from_the_primary_is_followed_there() {
    let cluster = two_replicas();
    let ask = |scope: Option<Arc<Scope>>| Ask { instance: Some(loaded(PRIMARY)), scope, ..Ask::default() };
    assert_eq!(ask(None).of(&cluster), Ok((PRIMARY, Reason::Instance)));
    assert_eq!(ask(Some(request())).of(&cluster), Ok((PRIMARY, Reason::Instance)));
    assert_eq!(ask(Some(scope(None, REPLICA))).of(&cluster).unwrap().1, Reason::Balanced);
}

#[test]
fn row_7_an_instance_of_an_exempt_model_decides_nothing() {
    let ask = Ask { instance: Some(Loaded { from: PRIMARY, exempt: true }), ..Ask::default() };
    assert_eq!(ask.of(&two_replicas()).unwrap().1, Reason::Balanced);
}

#[test]
fn row_7b_with_no_scope_one_object_graph_reads_from_one_replica() {
    let cluster = two_replicas();
    for seed in 0..20 {
        let ask = Ask { instance: Some(loaded(2)), seed, ..Ask::default() };
        assert_eq!(ask.of(&cluster), Ok((2, Reason::Instance)));
    }
    assert_eq!(Ask { instance: Some(loaded(2)), ..within(&request()) }.of(&cluster).unwrap().1, Reason::Balanced);
    cluster.set_state(2, State::Ejected);
    assert_eq!(Ask { instance: Some(loaded(2)), ..Ask::default() }.of(&cluster), Ok((1, Reason::Balanced)));
    let primary = with(|settings| settings.reads = ReadTarget::Primary);
    assert_eq!(Ask { instance: Some(loaded(2)), ..Ask::default() }.of(&primary), Ok((PRIMARY, Reason::Default)));
}

#[test]
fn row_8_a_scope_reads_from_one_replica_while_it_is_eligible() {
    let (cluster, request) = (two_replicas(), request());
    let (first, reason) = within(&request).of(&cluster).unwrap();
    assert_eq!(reason, Reason::Balanced);
    for seed in 0..20 {
        let ask = Ask { seed, ..within(&scope(Some(&request), REPLICA)) };
        assert_eq!(ask.of(&cluster), Ok((first, Reason::Sticky)));
    }
    cluster.set_state(first, State::Down);
    let other = 3 - first;
    // What it showed, the other one may not have.
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    let later = || Ask { now: SECOND * 105, ..within(&request) };
    assert_eq!(later().of(&cluster), Ok((other, Reason::Balanced)));
    cluster.set_state(first, State::Up);
    assert_eq!(later().of(&cluster), Ok((other, Reason::Sticky)));
}

#[test]
fn row_8_the_primary_chosen_by_its_weight_is_kept_too() {
    let cluster = with(|settings| settings.primary_weight = 1e6);
    let request = request();
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Balanced)));
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Sticky)));
}

#[test]
fn row_9_every_read_is_balanced_without_stickiness_or_scope() {
    let cluster = with(|settings| {
        settings.sticky = false;
        settings.balance = Balance::RoundRobin;
    });
    let request = request();
    let members: Vec<Member> = (0..4).map(|_| within(&request).of(&cluster).unwrap().0).collect();
    assert_eq!(members, [1, 2, 1, 2]);
    let two = with(|settings| settings.balance = Balance::RoundRobin);
    assert_eq!((0..4).map(|_| Ask::default().of(&two).unwrap().0).collect::<Vec<_>>(), [1, 2, 1, 2]);
}

#[test]
fn row_10_reads_stay_home_unless_a_scope_asks() {
    let cluster = with(|settings| settings.reads = ReadTarget::Primary);
    assert_eq!(Ask::default().of(&cluster), Ok((PRIMARY, Reason::Default)));
    assert_eq!(within(&request()).of(&cluster), Ok((PRIMARY, Reason::Default)));
    assert_eq!(within(&scope(None, REPLICA)).of(&cluster).unwrap().1, Reason::Balanced);
}

#[test]
fn row_10_outside_requests_reads_can_be_kept_on_the_primary() {
    let cluster = with(|settings| settings.outside_requests = ReadTarget::Primary);
    assert_eq!(Ask::default().of(&cluster), Ok((PRIMARY, Reason::Default)));
    assert_eq!(within(&request()).of(&cluster).unwrap().1, Reason::Balanced);
    assert_eq!(within(&scope(None, REPLICA)).of(&cluster).unwrap().1, Reason::Balanced);
}

#[test]
fn row_10_a_migration_reads_from_the_primary_whatever_is_asked() {
    let migrate = Scope::enter(None, 1, Kind::Migrate);
    for inner in [migrate.clone(), scope(Some(&migrate), REPLICA), scope(Some(&migrate), named(1))] {
        assert_eq!(within(&inner).of(&two_replicas()), Ok((PRIMARY, Reason::Default)));
    }
}

#[test]
fn a_cluster_without_replicas_is_its_primary() {
    let laptop = Cluster::try_new(Settings { on_unavailable: OnUnavailable::Error, ..settings(&[]) }).unwrap();
    assert_eq!(within(&scope(None, REPLICA)).of(&laptop), Ok((PRIMARY, Reason::Default)));
}

#[test]
fn row_11_each_policy_does_what_it_says() {
    let down = |policy, states: [State; 2]| {
        let cluster = with(|settings| settings.on_unavailable = policy);
        cluster.set_state(1, states[0]);
        cluster.set_state(2, states[1]);
        Ask::default().of(&cluster)
    };
    let late = [State::Lagging, State::Down];
    assert_eq!(down(OnUnavailable::Primary, late), Ok((PRIMARY, Reason::Unavailable)));
    assert_eq!(down(OnUnavailable::Replica, late), Ok((1, Reason::Unavailable)));
    assert_eq!(down(OnUnavailable::Error, late), Err(Not::Available));
    assert_eq!(down(OnUnavailable::Replica, [State::Down; 2]), Ok((PRIMARY, Reason::Unavailable)));
}

#[test]
fn row_11_the_primarys_own_weight_does_not_get_around_the_policy() {
    let cluster = with(|settings| {
        settings.primary_weight = 1.0;
        settings.on_unavailable = OnUnavailable::Error;
    });
    cluster.set_state(1, State::Down);
    cluster.set_state(2, State::Down);
    assert_eq!(Ask::default().of(&cluster), Err(Not::Available));
}

#[test]
fn row_11_the_spill_lets_its_share_of_scopes_through() {
    let cluster = with(|settings| settings.primary_spill = 0.2);
    cluster.set_state(1, State::Down);
    cluster.set_state(2, State::Down);
    let mut through = 0;
    for seed in 0..10_000 {
        let request = request();
        let first = Ask { seed, ..within(&request) }.of(&cluster);
        for again in 0..3 {
            assert_eq!(Ask { seed: seed + again * 7919, ..within(&request) }.of(&cluster), first);
        }
        through += u32::from(first.is_ok());
    }
    // Binomial with n = 10,000 and p = 0.2: standard deviation 40, so four of them are 160.
    assert!((1840..=2160).contains(&through), "{through}");
}

#[test]
fn explain_leaves_no_trace() {
    let cluster = with(|settings| settings.balance = Balance::RoundRobin);
    let request = request();
    let explain = || Ask { mode: Mode::Explain, ..within(&request) }.of(&cluster);
    assert_eq!(explain(), Ok((1, Reason::Balanced)));
    assert_eq!(explain(), Ok((1, Reason::Balanced)));
    assert_eq!(within(&request).of(&cluster), Ok((1, Reason::Balanced)));
    assert_eq!(explain(), Ok((1, Reason::Sticky)));
}

#[test]
fn what_would_be_asked_first_is_explained_as_pinned() {
    let (cluster, request) = (with_positions(), request());
    request.scope_state().of(CLUSTER).requirement(|requirement| requirement.publish(None, SECOND * 100));
    assert_eq!(Ask { mode: Mode::Explain, ..within(&request) }.of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    assert_eq!(within(&request).of(&cluster), Err(Not::Asked));
}

#[test]
fn a_scope_whose_replica_is_gone_is_explained_as_it_is_decided() {
    let (cluster, request) = (with_positions(), request());
    let (sticky, _) = within(&request).of(&cluster).unwrap();
    cluster.set_state(sticky, State::Down);
    let ask = |mode, now| Ask { now, mode, ..within(&request) }.of(&cluster);
    assert_eq!(ask(Mode::Explain, SECOND * 100), Ok((PRIMARY, Reason::Pinned)));
    assert_eq!(ask(Mode::Decide, SECOND * 100), Ok((PRIMARY, Reason::Pinned)));
    look(&cluster, SECOND * 101, &[(PRIMARY, 20), (3 - sticky, 20)]);
    assert_eq!(ask(Mode::Explain, SECOND * 102), Ok((3 - sticky, Reason::Balanced)));
    assert_eq!(ask(Mode::Decide, SECOND * 102), Ok((3 - sticky, Reason::Balanced)));
}

#[test]
fn threads_of_one_request_read_from_one_replica() {
    let cluster = Cluster::try_new(settings(&[1.0; 10])).unwrap();
    for round in 0..100 {
        let request = request();
        let members: Vec<Member> = std::thread::scope(|threads| {
            let ask = |seed| Ask { seed, ..within(&request) }.of(&cluster).unwrap().0;
            let running: Vec<_> = (0..4).map(|n| threads.spawn(move || ask(round * 4 + n))).collect();
            running.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(members.iter().all(|member| *member == members[0]), "{members:?}");
    }
}

// With no scope open.

#[test]
fn a_thread_stays_where_it_read_until_all_replicas_have_that() {
    let cluster = with_positions();
    let one = cluster.members()[1];
    look(&cluster, SECOND * 101, &[(0, 20), (1, 20), (2, 19)]);
    let read = |seconds: u32, seed| Ask {
        before: Some(Shown { by: one, at: SECOND * 101, in_command: true }),
        now: SECOND * (100 + seconds),
        seed,
        ..Ask::default()
    };
    for seed in 0..20 {
        assert_eq!(read(1, seed).of(&cluster), Ok((1, Reason::Sticky)));
    }
    look(&cluster, SECOND * 102, &[(0, 21), (1, 21), (2, 20)]);
    assert_eq!(read(2, 0).of(&cluster), Ok((1, Reason::Sticky)));
    look(&cluster, SECOND * 103, &[(0, 21), (1, 21), (2, 21)]);
    let chosen: Vec<_> = (0..20).map(|seed| read(3, seed).of(&cluster).unwrap()).collect();
    assert!(chosen.contains(&(1, Reason::Balanced)) && chosen.contains(&(2, Reason::Balanced)), "{chosen:?}");
}

#[test]
fn a_thread_whose_replica_is_gone_reads_where_that_is_known_to_be() {
    let cluster = with_positions();
    let read = || Ask {
        before: Some(Shown { by: cluster.members()[1], at: SECOND * 101, in_command: false }),
        now: SECOND * 102,
        ..Ask::default()
    };
    look(&cluster, SECOND * 101, &[(0, 20), (1, 20), (2, 20)]);
    cluster.set_state(1, State::Down);
    assert_eq!(read().of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    look(&cluster, SECOND * 102, &[(0, 20), (1, 20), (2, 20)]);
    assert_eq!(read().of(&cluster), Ok((2, Reason::Balanced)));
}

mod properties;
mod requirements;
