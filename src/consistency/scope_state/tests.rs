use super::*;

const ONE: Alias = Alias::from_number(1);
const TWO: Alias = Alias::from_number(2);

#[test]
fn the_first_sticky_choice_of_a_scope_holds() {
    let scope_state = ScopeState::default();
    assert_eq!(scope_state.of(ONE).sticky(), None);
    assert_eq!(scope_state.of(ONE).stick(None, TWO), TWO);
    assert_eq!(scope_state.of(ONE).stick(None, ONE), TWO);
    assert_eq!(scope_state.of(ONE).stick(Some(TWO), ONE), ONE);
    assert_eq!(scope_state.get(TWO).and_then(ClusterState::sticky), None);
}

#[test]
fn each_cluster_has_a_memory_of_its_own() {
    let scope_state = ScopeState::default();
    for number in 0..50 {
        scope_state.of(Alias::from_number(number)).stick(None, Alias::from_number(number + 100));
    }
    for number in 0..50 {
        let cluster_state = scope_state.get(Alias::from_number(number)).unwrap();
        assert_eq!(cluster_state.sticky(), Some(Alias::from_number(number + 100)));
    }
}

#[test]
fn many_threads_agree_on_one_replica() {
    for _ in 0..200 {
        let scope_state = ScopeState::default();
        let chosen: Vec<Alias> = std::thread::scope(|scope| {
            let choose = |number| scope_state.of(ONE).stick(None, Alias::from_number(number));
            let threads: Vec<_> = (0..4).map(|number| scope.spawn(move || choose(number))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(chosen.iter().all(|alias| *alias == chosen[0]), "{chosen:?}");
    }
}

#[test]
fn a_sticky_member_that_has_answered_nothing_can_be_left() {
    let scope_state = ScopeState::default();
    let cluster_state = scope_state.of(ONE);
    cluster_state.stick(None, TWO);
    cluster_state.answered(ONE);
    cluster_state.leave_unanswered(ONE);
    assert_eq!(cluster_state.sticky(), Some(TWO));
    cluster_state.leave_unanswered(TWO);
    assert_eq!(cluster_state.sticky(), None);
    cluster_state.stick(None, TWO);
    cluster_state.answered(TWO);
    cluster_state.leave_unanswered(TWO);
    assert_eq!(cluster_state.sticky(), Some(TWO));
    cluster_state.stick(Some(TWO), ONE);
    cluster_state.leave_unanswered(ONE);
    assert_eq!(cluster_state.sticky(), None);
}

#[test]
fn the_spill_is_drawn_once() {
    let scope_state = ScopeState::default();
    assert!((scope_state.of(ONE).spill(0.25) - 0.25).abs() < 1e-9);
    assert!((scope_state.of(ONE).spill(0.75) - 0.25).abs() < 1e-9);
}

#[test]
fn a_verdict_holds_for_one_view_until_something_is_added() {
    let scope_state = ScopeState::default();
    let cluster_state = scope_state.of(ONE);
    assert!(!cluster_state.verdict(0, 1) && !cluster_state.judged(7, 1, |_| false) && !cluster_state.verdict(7, 1));
    assert!(cluster_state.judged(7, 1, |_| true) && cluster_state.verdict(7, 1));
    assert!(!cluster_state.verdict(8, 1) && !cluster_state.verdict(7, 2));
    cluster_state.requirement(|requirement| requirement.publish(None, Duration::ZERO));
    assert!(!cluster_state.verdict(7, 1));
    cluster_state.requirement(|requirement| requirement.publish_by_time(Duration::ZERO));
    assert!(cluster_state.judged(7, 1, |_| true) && !cluster_state.verdict(7, 1));
}

#[test]
fn what_must_be_seen_is_told_by_a_flag() {
    let scope_state = ScopeState::default();
    assert!(!scope_state.of(ONE).has_requirement());
    scope_state.of(ONE).requirement(|requirement| requirement.publish(None, Duration::ZERO));
    assert!(scope_state.of(ONE).has_requirement());
    scope_state.of(ONE).requirement(|requirement| *requirement = Requirement::default());
    assert!(!scope_state.of(ONE).has_requirement());
}
