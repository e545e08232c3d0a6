//! Rows 5 and 6: reads of a scope that requires something.

use super::*;

#[test]
fn row_5_a_scope_that_wrote_reads_from_the_primary_until_no_replica_can_be_behind() {
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
fn row_5_the_policy_decides_which_member_serves_while_the_primary_is_down() {
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
fn row_6_while_the_named_replica_lacks_the_position_the_scope_stays_where_it_is_without_a_query() {
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
