use proptest::prelude::*;

use super::*;
use crate::replication::state::Observation;
use crate::replication::state::tests::lsn;

const SECOND: Duration = Duration::from_secs(1);
const RULES: Rules = Rules { is_watched: true, max_lag: Some(Duration::from_secs(10)), admission: None };

fn settle(health: &ClusterHealth, now: Duration) -> Vec<State> {
    health.settle(RULES, &ReplicationState::unknown(health.members.len()), now, 1).members.into()
}

fn read(health: &ClusterHealth, member: Member, outcome: Outcome, took: Option<Duration>, now: Duration) {
    let _ = health.read(member, outcome, took, RULES, now, 1);
}

/// Five reads fail.
fn fail(health: &ClusterHealth, member: Member, now: Duration) {
    (0..5).for_each(|_| read(health, member, Outcome::Failed, None, now));
}

fn probe(health: &ClusterHealth, member: Member, outcome: Outcome, now: Duration) {
    health.probed(&[Probe { member, outcome, sent: now, took: None }], now);
}

#[test]
fn at_most_half_of_the_replicas_are_ejected() {
    for (replicas, most) in [(1, 0), (2, 1), (3, 1), (4, 2), (5, 2)] {
        let health = ClusterHealth::new(replicas + 1);
        (1..).take(replicas).for_each(|member| fail(&health, member, SECOND));
        let ejected = settle(&health, SECOND).into_iter().filter(|state| *state == State::Ejected).count();
        assert_eq!(ejected, most, "of {replicas}");
    }
}

#[test]
fn the_last_one_that_serves_is_not_ejected() {
    let health = ClusterHealth::new(3);
    probe(&health, 1, Outcome::Gone, SECOND);
    fail(&health, 2, SECOND);
    assert_eq!(settle(&health, SECOND), [State::Up, State::Down, State::Up]);
    // The other one is back, so that it can be spared.
    probe(&health, 1, Outcome::Ok, SECOND * 2);
    settle(&health, SECOND * 2);
    assert_eq!(settle(&health, SECOND * 2), [State::Up, State::Up, State::Ejected]);
}

#[test]
fn the_primary_is_never_ejected() {
    let health = ClusterHealth::new(3);
    fail(&health, PRIMARY, SECOND);
    assert_eq!(settle(&health, SECOND), [State::Up; 3]);
}

#[test]
fn any_number_of_replicas_may_be_down() {
    let health = ClusterHealth::new(3);
    probe(&health, 1, Outcome::Gone, SECOND);
    probe(&health, 2, Outcome::Gone, SECOND);
    assert_eq!(settle(&health, SECOND), [State::Up, State::Down, State::Down]);
}

#[test]
fn a_state_that_was_set_stands_until_it_is_taken_back() {
    let health = ClusterHealth::new(2);
    health.set(1, State::Down);
    probe(&health, 1, Outcome::Ok, SECOND);
    assert_eq!(settle(&health, SECOND)[1], State::Down);
    health.set(1, State::Up);
    assert_eq!(settle(&health, SECOND)[1], State::Up);
}

#[test]
fn a_replica_that_lags_rests_unless_the_primary_is_silent() {
    let seen =
        |member, place, at: u32| Observation { member, position: Some(lsn(place)), at: SECOND * at, server: None };
    let replication = ReplicationState::unknown(2).observing(&[seen(PRIMARY, 1, 1), seen(1, 1, 1)]);
    let replication = replication.observing(&[seen(PRIMARY, 2, 2), seen(1, 1, 2)]);
    let replication = replication.observing(&[seen(PRIMARY, 2, 13), seen(1, 1, 13)]);
    for (outcome, state) in [(Outcome::Ok, State::Lagging), (Outcome::Gone, State::Up)] {
        let health = ClusterHealth::new(2);
        probe(&health, PRIMARY, outcome, SECOND * 13);
        assert_eq!(health.settle(RULES, &replication, SECOND * 13, 1).members[1], state);
    }
}

#[test]
fn who_was_never_measured_costs_the_median_of_its_peers() {
    let health = ClusterHealth::new(4);
    let took = |member, ms| Probe { member, outcome: Outcome::Ok, sent: SECOND, took: Some(Duration::from_millis(ms)) };
    health.probed(&[took(0, 1), took(1, 3), took(2, 2)], SECOND);
    assert!((health.costs().get(3) - 0.002).abs() < 1e-9);
    read(&health, 3, Outcome::Ok, Some(Duration::from_millis(9)), SECOND);
    assert!((health.costs().get(3) - 0.009).abs() < 1e-9);
}

proptest! {
    /// Whatever reads and probes come to: at most half of the replicas are ejected, and never for their failures alone
    /// the last one that serves.
    #[test]
    fn ejections_leave_enough_to_read_from(
        replicas in 1..6_usize,
        events in prop::collection::vec((1..6_u32, 0..6_u8, 0..3_000_u64), 1..200),
    ) {
        let (health, mut now) = (ClusterHealth::new(replicas + 1), SECOND);
        for (member, event, pause) in events {
            let member = 1 + (member - 1) % u32::try_from(replicas).unwrap();
            now += Duration::from_millis(pause);
            let before = settle(&health, now);
            match event {
                0 => read(&health, member, Outcome::Ok, None, now),
                1 => probe(&health, member, Outcome::Ok, now),
                2 => probe(&health, member, Outcome::Gone, now),
                _ => fail(&health, member, now),
            }
            let after = settle(&health, now);
            let out = |states: &[State]| {
                states.iter().filter(|state| matches!(state, State::Ejected | State::Probing)).count()
            };
            prop_assert!(out(&after) <= replicas / 2, "{before:?} {after:?}");
            if event > 2 && before[1..].contains(&State::Up) {
                prop_assert!(after[1..].contains(&State::Up), "{before:?} {after:?}");
            }
            prop_assert_eq!(after[0], State::Up);
        }
    }
}
