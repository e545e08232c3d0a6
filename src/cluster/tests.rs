use super::*;
use crate::settings::tests::settings;

#[test]
fn a_member_that_does_not_serve_leaves_the_pool() {
    let cluster = Cluster::try_new(settings(&[1.0, 1.0, 0.0])).unwrap();
    assert_eq!(cluster.view().eligible(), [1, 2]);
    assert_eq!(cluster.set_state(1, State::Lagging), State::Up);
    assert_eq!(cluster.view().eligible(), [2]);
    assert_eq!(cluster.set_state(1, State::Up), State::Lagging);
    assert_eq!(cluster.view().eligible(), [1, 2]);
}

#[test]
fn in_a_test_only_what_it_lists_serves_and_what_is_known_is_kept() {
    let before = Cluster::try_new(settings(&[1.0, 1.0])).unwrap();
    before.set_state(1, State::Down);
    let test = Settings { forbidden: vec![Alias::from_number(2)], are_mirrors: true, ..settings(&[1.0, 1.0]) };
    let during = Cluster::try_new(test).unwrap().inheriting(&before);
    assert_eq!(during.view().eligible(), [1]);
    assert!(!during.view().serves(2));
    assert_eq!(during.set_state(2, State::Lagging), State::Up);
    let after = Cluster::try_new(settings(&[1.0, 1.0])).unwrap().inheriting(&during);
    assert_eq!((after.view().state(1), after.view().state(2)), (State::Down, State::Lagging));
}

#[test]
fn a_lag_that_is_no_longer_measured_excludes_no_replica() {
    let watching = |watched| Settings { watched, max_lag: Some(Duration::from_secs(10)), ..settings(&[1.0]) };
    assert_eq!(rules(&watching(true)).max_lag, Some(Duration::from_secs(10)));
    assert_eq!(rules(&watching(false)).max_lag, None);
}

#[test]
fn a_rebuild_keeps_what_is_known_of_the_members() {
    let before = Cluster::try_new(settings(&[1.0, 1.0])).unwrap();
    before.set_state(2, State::Down);
    before.counters.count(&crate::support::counters::Shard::claim(), 2, crate::reason::Reason::Balanced);
    // Alias 2 moves from the second place to the first.
    let replicas = vec![(Alias::from_number(2), 1.0), (Alias::from_number(7), 1.0)];
    let after = Cluster::try_new(Settings { replicas, ..settings(&[]) }).unwrap().inheriting(&before);
    assert_eq!((after.view().state(1), after.view().state(2)), (State::Down, State::Up));
    assert_eq!(after.counters.get(1, crate::reason::Reason::Balanced), 1);
}

#[test]
fn servers_take_their_states_along_when_they_move() {
    let cluster = Cluster::try_new(settings(&[1.0, 1.0])).unwrap();
    let gone = Probe { member: 0, outcome: Outcome::Gone, sent: Duration::from_secs(1), took: None };
    cluster.report_probes(&[gone], &[], Duration::from_secs(1), 0);
    assert_eq!(cluster.view().state(0), State::Down);
    cluster.servers_swapped(&[1, 0, 2], Duration::from_secs(2));
    assert_eq!([0, 1, 2].map(|member| cluster.view().state(member)), [State::Up, State::Down, State::Up]);
    assert_eq!(cluster.view().eligible(), [2]);
    // The next probe result leaves it so.
    cluster.settle(Duration::from_secs(3), 0);
    assert_eq!(cluster.view().eligible(), [2]);
}

#[test]
fn a_member_that_may_not_be_used_is_not_taken_for_dead_when_servers_move() {
    let absent = Settings { forbidden: vec![Alias::from_number(2)], ..settings(&[1.0, 1.0]) };
    let cluster = Cluster::try_new(absent).unwrap();
    cluster.servers_swapped(&[1, 0, 2], Duration::from_secs(1));
    assert!(!cluster.view().serves(2));
    let back = Cluster::try_new(settings(&[1.0, 1.0])).unwrap().inheriting(&cluster);
    assert!(back.view().serves(2));
}

#[test]
fn changes_from_many_threads_are_not_lost() {
    let cluster = Cluster::try_new(settings(&[1.0; 8])).unwrap();
    std::thread::scope(|scope| {
        for member in 1..=8 {
            let cluster = &cluster;
            scope.spawn(move || cluster.set_state(member, State::Down));
        }
    });
    assert!(cluster.view().eligible().is_empty());
}
