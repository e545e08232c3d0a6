use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::decide::{decide, explain};
use super::question::{Decision, Loaded, Mode, Read, Shown, Step};
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
            in_transaction: |member| Ok((self.in_transaction && member == PRIMARY) || self.blocked == Some(member)),
            is_changed: || Ok(self.is_changed),
            record: || Ok(self.record.clone()),
            before: self.before,
            may_wait: self.may_wait,
            now: || self.now,
        };
        let draw = SmallRng::seed_from_u64(self.seed).next_u64();
        let view = cluster.view();
        if self.mode == Mode::Explain {
            let Ok::<_, Infallible>(decision) = explain(cluster, &view, read, draw);
            return decision.ok_or(Not::Available);
        }
        let Ok::<_, Infallible>(step) = decide(cluster, &view, read, draw);
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
fn row_5_who_wrote_reads_from_the_primary_until_no_replica_can_be_behind() {
    let cluster = two_replicas();
    let (request, record) = (request(), Arc::new(ScopeState::default()));
    wrote(&request);
    record.of(CLUSTER).requirement(|requirement| requirement.publish_by_time(SECOND * 100));
    let inside = |now| Ask { now: Duration::from_millis(now), ..within(&request) };
    let outside = |now| Ask { now: Duration::from_millis(now), record: Some(record.clone()), ..Ask::default() };
    assert_eq!(inside(104_999).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    assert_eq!(outside(104_999).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    assert_eq!(within(&scope(Some(&request), named(1))).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    assert_eq!(Ask::default().of(&cluster).unwrap().1, Reason::Balanced);
    assert_eq!(inside(105_000).of(&cluster).unwrap().1, Reason::Balanced);
    assert_eq!(outside(105_000).of(&cluster).unwrap().1, Reason::Balanced);
    assert!(!record.of(CLUSTER).has_requirement());
}

#[test]
fn row_5_concerns_only_the_cluster_that_was_written() {
    let request = request();
    request
        .record()
        .unwrap()
        .of(Alias::from_number(9))
        .requirement(|requirement| requirement.publish_by_time(SECOND * 100));
    assert_eq!(within(&request).of(&two_replicas()).unwrap().1, Reason::Balanced);
}

#[test]
fn row_5_is_set_aside_by_stale_ok_and_by_eventual_consistency() {
    let request = request();
    wrote(&request);
    let stale = scope(Some(&request), Effect::Replica { member: None, stale_ok: true });
    assert_eq!(within(&stale).of(&two_replicas()).unwrap().1, Reason::Balanced);
    assert_eq!(within(&request).of(&with(|settings| settings.consistent = false)).unwrap().1, Reason::Sticky);
}

#[test]
fn row_5_outranks_row_11_and_its_policy() {
    let cluster = with(|settings| settings.on_unavailable = OnUnavailable::Error);
    cluster.set_state(1, State::Down);
    cluster.set_state(2, State::Down);
    let request = request();
    assert_eq!(within(&request).of(&cluster), Err(Not::Available));
    wrote(&request);
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
}

#[test]
fn row_5_leaves_it_to_the_policy_who_serves_while_the_primary_is_down() {
    let ask = |policy, states: [State; 3]| {
        let cluster = with(|settings| settings.on_unavailable = policy);
        for (member, state) in (0..).zip(states) {
            cluster.set_state(member, state);
        }
        let request = request();
        wrote(&request);
        [Mode::Explain, Mode::Decide].map(|mode| Ask { mode, ..within(&request) }.of(&cluster))
    };
    let late = [State::Down, State::Lagging, State::Down];
    assert_eq!(ask(OnUnavailable::Replica, late), [Ok((1, Reason::Unavailable)); 2]);
    assert_eq!(ask(OnUnavailable::Primary, late), [Ok((PRIMARY, Reason::Pinned)); 2]);
    assert_eq!(ask(OnUnavailable::Error, late), [Err(Not::Available); 2]);
    assert_eq!(ask(OnUnavailable::Replica, [State::Down; 3]), [Ok((PRIMARY, Reason::Pinned)); 2]);
    // While the primary answers, and fails as often as it may, its answer is worth a try.
    for policy in [OnUnavailable::Replica, OnUnavailable::Error] {
        let up = [State::Up, State::Up, State::Down];
        assert_eq!(ask(policy, up), [Ok((PRIMARY, Reason::Pinned)); 2]);
    }
}

#[test]
fn row_5_a_scope_that_is_served_late_data_stays_where_it_read() {
    for seed in 0..20 {
        let cluster = with(|settings| settings.on_unavailable = OnUnavailable::Replica);
        let request = request();
        let ask = |seed| Ask { seed, ..within(&request) }.of(&cluster);
        let (sticky, _) = ask(seed).unwrap();
        wrote(&request);
        cluster.set_state(PRIMARY, State::Down);
        for again in 0..5 {
            assert_eq!(ask(seed * 10 + again), Ok((sticky, Reason::Unavailable)));
        }
        // It goes elsewhere only where that one answers no more.
        cluster.set_state(sticky, State::Down);
        assert_eq!(ask(seed), Ok((3 - sticky, Reason::Unavailable)));
        // It still must see what it wrote.
        cluster.set_state(PRIMARY, State::Up);
        assert_eq!(ask(seed), Ok((PRIMARY, Reason::Pinned)));
    }
}

#[test]
fn row_5_while_the_primary_is_down_a_named_replica_serves_late_data_and_others_stay_home() {
    let cluster = with(|settings| {
        settings.on_unavailable = OnUnavailable::Replica;
        settings.outside_requests = ReadTarget::Primary;
    });
    cluster.set_state(PRIMARY, State::Down);
    let request = request();
    wrote(&request);
    for name in 1..=2 {
        let named = scope(Some(&request), named(name));
        assert_eq!(within(&named).of(&cluster), Ok((name, Reason::Unavailable)));
    }
    let record = Arc::new(ScopeState::default());
    record.of(CLUSTER).requirement(|requirement| requirement.publish_by_time(SECOND * 100));
    assert_eq!(Ask { record: Some(record), ..Ask::default() }.of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    let primary = scope(Some(&request), Effect::Primary);
    assert_eq!(within(&primary).of(&cluster), Ok((PRIMARY, Reason::UsePrimary)));
}

#[test]
fn row_5_a_primary_that_is_down_is_not_asked_for_its_position() {
    let (cluster, request) = (with_positions(), request());
    request.scope_state().of(CLUSTER).requirement(|requirement| requirement.publish(None, SECOND * 100));
    cluster.set_state(PRIMARY, State::Down);
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
    cluster.set_state(PRIMARY, State::Up);
    assert_eq!(within(&request).of(&cluster), Err(Not::Asked));
}

/// Two replicas, of which the first was known to be late by 5 seconds, second by second from `since` to 90.
fn with_a_late_replica(lag_of_the_second: u64, since: u64) -> Cluster {
    let cluster = with(|settings| {
        settings.has_positions = true;
        settings.wait = SECOND / 20;
    });
    for second in since..=90 {
        let places = [(PRIMARY, second * 10), (1, second * 10 - 50), (2, (second - lag_of_the_second) * 10)];
        look(&cluster, Duration::from_secs(second), &places);
    }
    cluster
}

#[test]
fn row_5_no_read_waits_for_replicas_that_cannot_arrive_in_time() {
    let now = SECOND * 90 + SECOND / 2;
    let written = |cluster: &Cluster, place| {
        let request = request();
        request.scope_state().of(CLUSTER).requirement(|requirement| requirement.publish(Some(&lsn(place)), now));
        let asked = [Mode::Explain, Mode::Decide].map(|mode| Ask { now, mode, ..within(&request) }.of(cluster));
        (asked, request.scope_state().of(CLUSTER).requirement(|requirement| requirement.missed()))
    };
    let pinned = Ok((PRIMARY, Reason::Pinned));
    // The client's next request does not wait either.
    assert_eq!(written(&with_a_late_replica(5, 70), 905), ([pinned; 2], true));
    // One that has been able to follow is waited for.
    assert_eq!(written(&with_a_late_replica(0, 70), 905), ([pinned, Err(Not::Reached(2))], false));
    // So are both for what they are about to apply.
    let (asked, missed) = written(&with_a_late_replica(5, 70), 855);
    assert!(matches!(asked[1], Err(Not::Reached(_))) && !missed);
    // As long as nothing is known of their rate.
    assert!(matches!(written(&with_a_late_replica(5, 89), 905).0[1], Err(Not::Reached(_))));
}

#[test]
fn row_5_what_the_scope_must_see_does_not_end_what_its_thread_must_see() {
    for replicas in 1..=3 {
        let cluster = Cluster::try_new(settings(&vec![1.0; replicas])).unwrap();
        let (block, record) = (scope(None, REPLICA), Arc::new(ScopeState::default()));
        let ask = || Ask { record: Some(record.clone()), ..within(&block) };
        assert_eq!(ask().of(&cluster).unwrap().1, Reason::Balanced);
        record.of(CLUSTER).requirement(|requirement| requirement.publish_by_time(SECOND * 100));
        // The first of these leaves the sticky replica, and the block has something it must see, too.
        for _ in 0..3 {
            assert_eq!(ask().of(&cluster), Ok((PRIMARY, Reason::Pinned)));
        }
        assert!(record.of(CLUSTER).has_requirement());
    }
}

#[test]
fn row_5_a_scope_that_must_see_what_another_member_showed_does_not_stay_where_it_is() {
    let cluster = two_replicas();
    let request = request();
    let (sticky, _) = within(&request).of(&cluster).unwrap();
    let other = cluster.members()[3 - sticky as usize];
    request.scope_state().of(CLUSTER).requirement(|requirement| requirement.require_read(Some(other), SECOND * 99));
    assert_eq!(within(&request).of(&cluster), Ok((PRIMARY, Reason::Pinned)));
}

#[test]
fn row_6_a_named_replica_serves_even_with_weight_0_and_does_not_stick() {
    let cluster = Cluster::try_new(settings(&[1.0, 0.0])).unwrap();
    let request = request();
    assert_eq!(within(&scope(Some(&request), named(2))).of(&cluster), Ok((2, Reason::UseReplica)));
    assert_eq!(within(&request).of(&cluster), Ok((1, Reason::Balanced)));
}

#[test]
fn row_6_a_named_replica_that_may_not_serve_is_replaced_whatever_reads_says() {
    let cluster = with(|settings| settings.reads = ReadTarget::Primary);
    cluster.set_state(1, State::Lagging);
    assert_eq!(within(&scope(None, named(1))).of(&cluster), Ok((2, Reason::Balanced)));
    assert_eq!(within(&scope(None, named(77))).of(&cluster), Ok((2, Reason::Balanced)));
}

fn lsn(place: u64) -> Position {
    Position::parse(crate::replication::position::Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
}

fn look(cluster: &Cluster, at: Duration, places: &[(Member, u64)]) {
    let seen = |&(member, place)| Observation { member, position: Some(lsn(place)), at, latency: None, server: None };
    cluster.observe(&places.iter().map(seen).collect::<Vec<_>>());
}

/// Two replicas with positions, of which all is known at 90 seconds.
fn with_positions() -> Cluster {
    let cluster = with(|settings| settings.has_positions = true);
    look(&cluster, SECOND * 90, &[(PRIMARY, 10), (1, 10), (2, 10)]);
    cluster
}

#[test]
fn row_6_while_the_named_replica_is_down_the_scope_stays_where_it_is() {
    let cluster = with_positions();
    cluster.set_state(1, State::Down);
    let request = request();
    let inside = || within(&scope(Some(&request), named(1)));
    assert_eq!(inside().of(&cluster), Ok((2, Reason::Balanced)));
    for seed in 0..5 {
        assert_eq!(Ask { seed, ..inside() }.of(&cluster), Ok((2, Reason::Sticky)));
    }
}

#[test]
fn row_6_while_the_named_replica_lacks_the_position_the_scope_stays_where_it_is_and_asks_nobody() {
    let cluster = Cluster::try_new(Settings { has_positions: true, ..settings(&[1.0; 4]) }).unwrap();
    look(&cluster, SECOND * 101, &[(PRIMARY, 20), (1, 10), (2, 20), (3, 20), (4, 20)]);
    let request = request();
    request.scope_state().of(CLUSTER).requirement(|requirement| requirement.publish(Some(&lsn(20)), SECOND * 100));
    let inside = |seed| Ask { seed, now: SECOND * 102, ..within(&scope(Some(&request), named(1))) };
    let (first, reason) = inside(0).of(&cluster).unwrap();
    assert_eq!(reason, Reason::Balanced);
    for seed in 1..20 {
        assert_eq!(inside(seed).of(&cluster), Ok((first, Reason::Sticky)));
    }
    look(&cluster, SECOND * 103, &[(1, 20)]);
    // It has the position now; what the scope went on to read is asked for before it goes there.
    assert_eq!(inside(0).of(&cluster), Err(Not::Learned(cluster.members()[first as usize])));
}

#[test]
fn row_6_a_named_replica_that_was_asked_in_vain_is_not_asked_again() {
    let (cluster, request) = (with_positions(), request());
    let (sticky, _) = within(&request).of(&cluster).unwrap();
    let (alias, other) = (cluster.members()[sticky as usize], 3 - sticky);
    let inside = || Ask { now: SECOND * 102, ..within(&scope(Some(&request), named(other))) };
    assert_eq!(inside().of(&cluster), Err(Not::Learned(alias)));
    // The answers: it is at 30, and the other one at 20.
    let cluster_state = request.scope_state().of(CLUSTER);
    cluster_state.requirement(|requirement| requirement.require(&lsn(30), SECOND * 101));
    look(&cluster, SECOND * 101, &[(sticky, 30), (other, 20)]);
    cluster_state.reads_from(LastRead::Learned);
    for _ in 0..5 {
        assert_eq!(inside().of(&cluster), Ok((sticky, Reason::Sticky)));
    }
}

#[test]
fn row_6_a_scope_that_leaves_the_named_replica_must_see_what_that_showed() {
    let (cluster, request) = (with_positions(), request());
    let inside = || Ask { now: SECOND * 102, ..within(&scope(Some(&request), named(1))) };
    assert_eq!(inside().of(&cluster), Ok((1, Reason::UseReplica)));
    request.scope_state().of(CLUSTER).requirement(|requirement| requirement.publish(Some(&lsn(20)), SECOND * 101));
    look(&cluster, SECOND * 102, &[(PRIMARY, 20), (1, 15), (2, 20)]);
    assert_eq!(inside().of(&cluster), Err(Not::Learned(cluster.members()[1])));
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

/// What happens around a scope.
#[derive(Clone, Copy, Debug)]
enum Event {
    Wrote(Option<u64>),
    WroteByTime,
    ReadElsewhere(Member),
    Looked(Member, u64),
    Changed(Member, usize),
    Asked { effect: Option<Effect>, instance: Option<Member>, within: bool, blocked: Option<Member>, seed: u64 },
}

fn event() -> impl Strategy<Value = Event> {
    let effect = prop_oneof![
        Just(Effect::Primary),
        Just(REPLICA),
        (1..4_u32).prop_map(named),
        Just(Effect::Replica { member: None, stale_ok: true }),
    ];
    let asked = (
        prop::option::weighted(0.6, effect),
        prop::option::weighted(0.2, 0..4_u32),
        any::<bool>(),
        prop::option::weighted(0.2, 0..4_u32),
        any::<u64>(),
    );
    let asked = asked.prop_map(|(effect, instance, within, blocked, seed)| Event::Asked {
        effect,
        instance,
        within,
        blocked,
        seed,
    });
    prop_oneof![
        1 => prop::option::weighted(0.7, 1..30_u64).prop_map(Event::Wrote),
        1 => Just(Event::WroteByTime),
        1 => (1..4_u32).prop_map(Event::ReadElsewhere),
        3 => (0..4_u32, 1..30_u64).prop_map(|(member, place)| Event::Looked(member, place)),
        2 => (1..4_u32, 0..5_usize).prop_map(|(member, state)| Event::Changed(member, state)),
        8 => asked,
    ]
}

proptest! {
    /// Whatever has happened: to explain changes nothing, and says what a read is then answered, or `pinned` if that asks
    /// or waits for a server first.
    #[test]
    fn what_is_explained_is_what_is_decided(
        events in prop::collection::vec(event(), 1..30),
        (has_positions, watched, sticky, robin, in_request, may_wait) in any::<(bool, bool, bool, bool, bool, bool)>(),
        reads_home in prop::bool::weighted(0.2),
        primary_weight in prop::sample::select(vec![0.0, 1.0]),
        wait in prop::sample::select(vec![Duration::ZERO, SECOND]),
        on_unavailable in prop::sample::select(vec![OnUnavailable::Primary, OnUnavailable::Replica, OnUnavailable::Error]),
    ) {
        let cluster = Cluster::try_new(Settings {
            has_positions, watched, sticky, primary_weight, wait, on_unavailable, primary_spill: 0.5,
            reads: if reads_home { ReadTarget::Primary } else { ReadTarget::Replica },
            balance: if robin { Balance::RoundRobin } else { Balance::Random },
            ..settings(&[1.0, 2.0, 1.0])
        }).unwrap();
        let outermost = if in_request { request() } else { scope(None, REPLICA) };
        let own = Arc::new(ScopeState::default());
        let record = outermost.record().unwrap_or(&own).clone();
        let cluster_state = || record.of(CLUSTER);
        for (number, event) in (90..).zip(events) {
            let now = SECOND * number;
            match event {
                Event::Wrote(place) if has_positions => {
                    cluster_state().requirement(|requirement| requirement.publish(place.map(lsn).as_ref(), now));
                }
                Event::Wrote(_) | Event::WroteByTime => cluster_state().requirement(|requirement| requirement.publish_by_time(now)),
                Event::ReadElsewhere(member) => {
                    cluster_state().requirement(|requirement| requirement.require_read(Some(cluster.members()[member as usize]), now));
                }
                Event::Looked(member, place) if has_positions => look(&cluster, now, &[(member, place)]),
                Event::Looked(..) => {}
                Event::Changed(member, state) => { cluster.set_state(member, State::ALL[state]); }
                Event::Asked { effect, instance, within, blocked, seed } => {
                    let inner = effect.map(|effect| scope(Some(&outermost), effect));
                    let ask = |mode| Ask {
                        scope: inner.clone().or_else(|| within.then(|| outermost.clone())),
                        instance: instance.map(loaded),
                        record: Some(own.clone()),
                        blocked,
                        may_wait, now, seed, mode,
                        ..Ask::default()
                    };
                    let trace = || format!("{:?} {own:?} {:?}", outermost, cluster.turn());
                    let before = trace();
                    let explained = ask(Mode::Explain).of(&cluster);
                    prop_assert_eq!(before, trace());
                    let expected = match ask(Mode::Decide).of(&cluster) {
                        Err(Not::Asked | Not::Learned(_) | Not::Reached(_)) => {
                            prop_assert!(may_wait);
                            Ok((PRIMARY, Reason::Pinned))
                        }
                        answer => answer,
                    };
                    prop_assert_eq!(explained, expected);
                }
            }
        }
    }

    /// Whatever the settings, the states and the question: a member that may not serve is never chosen from the pool,
    /// and what must be read from the primary is.
    #[test]
    fn nothing_unsafe_is_ever_chosen(
        weights in prop::collection::vec(prop_oneof![Just(0.0), 0.1..5.0], 0..6),
        states in prop::collection::vec(0..5_usize, 6),
        (primary_weight, sticky, robin, reads, outside) in (0.0..2.0, any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        (exempt, in_transaction, in_request, wrote_before) in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        effect in prop::option::of(prop_oneof![
            Just(Effect::Primary), Just(REPLICA), (0..7_u32).prop_map(named),
            Just(Effect::Replica { member: None, stale_ok: true }),
        ]),
        from in prop::option::of(0..6_u32),
        policy in prop::sample::select(vec![OnUnavailable::Primary, OnUnavailable::Replica, OnUnavailable::Error]),
        seed in any::<u64>(),
    ) {
        let home = |primary| if primary { ReadTarget::Primary } else { ReadTarget::Replica };
        let cluster = Cluster::try_new(Settings {
            primary_weight, sticky, reads: home(reads), outside_requests: home(outside), on_unavailable: policy,
            balance: if robin { Balance::RoundRobin } else { Balance::Random },
            ..settings(&weights)
        }).unwrap();
        let members = u32::try_from(cluster.members().len()).unwrap();
        for member in 1..members {
            cluster.set_state(member, State::ALL[states[member as usize - 1]]);
        }
        let mut context = in_request.then(request);
        if wrote_before && let Some(request) = &context {
            wrote(request);
        }
        if let Some(effect) = effect {
            context = Some(scope(context.as_ref(), effect));
        }
        let instance = from.filter(|&from| from < members).map(loaded);
        let stale_ok = effect == Some(Effect::Replica { member: None, stale_ok: true });
        let must_be_primary = exempt || in_transaction || effect == Some(Effect::Primary)
            || (in_request && wrote_before && !stale_ok);
        for step in 0..5 {
            let answer = Ask {
                exempt, in_transaction, scope: context.clone(), instance, seed: seed.wrapping_add(step), ..Ask::default()
            }.of(&cluster);
            let Ok((member, reason)) = answer else {
                prop_assert!(!must_be_primary && policy == OnUnavailable::Error);
                prop_assert!(cluster.view().eligible().is_empty());
                continue;
            };
            prop_assert!(!must_be_primary || member == PRIMARY, "{member} {reason:?}");
            if member != PRIMARY {
                let state = cluster.view().state(member);
                prop_assert!(state == State::Up || (reason == Reason::Unavailable && state != State::Down));
                prop_assert!(cluster.weight(member) > 0.0 || reason == Reason::UseReplica);
            }
        }
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
