use super::*;
use crate::replication::position::Kind;

pub(crate) fn lsn(place: u64) -> Position {
    Position::parse(Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
}

fn seen(member: Member, place: u64, at: u64) -> Observation {
    Observation { member, position: Some(lsn(place)), at: Duration::from_secs(at), server: None }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn lag_is_the_age_of_the_oldest_position_that_is_lacked() {
    let mut replication = ReplicationState::unknown(2);
    for second in 1..=5 {
        replication = replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 20, second)]);
    }
    // It has what the primary had at 2, and lacks what it had at 3: two seconds before 5.
    assert_eq!(replication.lag(1), Some(seconds(2)));
    assert_eq!(replication.lag_by(1, seconds(9)), Some(seconds(6)));
    assert_eq!(replication.lag(PRIMARY), Some(Duration::ZERO));
}

#[test]
fn an_idle_primary_does_not_look_like_lag() {
    let mut replication = ReplicationState::unknown(2);
    for second in 1..=100 {
        replication = replication.observing(&[seen(PRIMARY, 7, second), seen(1, 7, second)]);
    }
    assert_eq!(replication.lag(1), Some(Duration::ZERO));
}

#[test]
fn what_cannot_be_compared_is_unknown_and_not_zero() {
    let other = Position::parse(Kind::PostgreSql, "2:0/99").unwrap();
    let elsewhere = Observation { member: 1, position: Some(other), at: seconds(1), server: None };
    let replication = ReplicationState::unknown(2).observing(&[seen(PRIMARY, 7, 1), elsewhere]);
    assert_eq!(replication.lag(1), None);
    assert_eq!(ReplicationState::unknown(2).lag(1), None);
}

#[test]
fn after_a_change_of_history_no_replica_lacks_former_positions() {
    let other = |member, place: u64, at| Observation {
        position: Some(Position::parse(Kind::PostgreSql, &format!("2:0/{place:X}")).unwrap()),
        ..seen(member, 0, at)
    };
    let mut replication = ReplicationState::unknown(2).observing(&[seen(PRIMARY, 7, 1), seen(1, 7, 1)]);
    for second in 2..=5 {
        replication = replication.observing(&[other(PRIMARY, 9, second), other(1, 9, second)]);
    }
    assert_eq!((replication.lag(1), replication.lag_by(1, seconds(5))), (Some(Duration::ZERO), Some(Duration::ZERO)));
}

#[test]
fn a_server_that_moves_takes_its_number_along_and_is_asked_anew() {
    let numbered = |member, server, at| Observation { server: Some(server), ..seen(member, 9, at) };
    let mut replication =
        ReplicationState::unknown(3).observing(&[numbered(0, 7, 1), numbered(1, 8, 1), numbered(2, 9, 1)]);
    for second in [2, 4, 6] {
        replication = replication.servers_swapped(&[1, 0, 2], seconds(second));
        assert_eq!((replication.position(PRIMARY), replication.position(1)), (None, None));
        assert_eq!((replication.lag(PRIMARY), replication.lag(1)), (Some(Duration::ZERO), None));
        assert!(!replication.is_same_since(1, seconds(1)) && replication.is_same_since(2, seconds(1)));
        let (primary, replica) = if second == 4 { (7, 8) } else { (8, 7) };
        let places = [numbered(PRIMARY, primary, second + 1), numbered(1, replica, second + 1)];
        replication = replication.observing(&places);
        assert!(replication.is_same_since(1, seconds(second)));
        assert!(!replication.is_multiplexed(PRIMARY) && !replication.is_multiplexed(1));
    }
    assert_eq!(replication.position(2), Some(&lsn(9)));
}

#[test]
fn an_older_observation_changes_nothing() {
    let replication = ReplicationState::unknown(2).observing(&[seen(1, 9, 5)]).observing(&[seen(1, 3, 4)]);
    assert_eq!(replication.position(1), Some(&lsn(9)));
}

#[test]
fn what_a_member_had_is_bounded_by_the_primarys_next_position() {
    let mut replication = ReplicationState::unknown(2);
    for second in 1..=3 {
        replication = replication.observing(&[seen(PRIMARY, 10 * second, second)]);
    }
    assert_eq!(replication.first_after(Duration::from_millis(1500)), Some(&lsn(20)));
    assert_eq!(replication.first_after(seconds(1)), Some(&lsn(20)));
    assert_eq!(replication.first_after(seconds(3)), None);
    assert_eq!(replication.last_after(seconds(1)), Some(&lsn(30)));
    assert_eq!(replication.last_after(seconds(3)), None);
}

#[test]
fn a_server_that_comes_back_after_another_is_one_of_several() {
    let mut replication = ReplicationState::unknown(2);
    for (second, server) in [(1, 7), (2, 7), (3, 8)] {
        replication = replication.observing(&[Observation { server: Some(server), ..seen(1, 5, second) }]);
    }
    assert!(!replication.is_multiplexed(1) && replication.position(1).is_some());
    assert!(!replication.is_same_since(1, seconds(2)) && replication.is_same_since(1, seconds(3)));
    replication = replication.observing(&[Observation { server: None, ..seen(1, 5, 4) }]);
    replication = replication.observing(&[Observation { server: Some(7), ..seen(1, 5, 5) }]);
    assert!(replication.is_multiplexed(1) && replication.position(1).is_none());
    replication = replication.observing(&[Observation { server: Some(7), ..seen(1, 5, 6) }]);
    assert!(replication.is_multiplexed(1));
}

#[test]
fn a_server_that_is_restarted_is_not_one_of_several() {
    let mut replication = ReplicationState::unknown(2);
    for (second, run) in [(1, 7), (2, 8), (3, 9), (4, 9)] {
        replication = replication.observing(&[Observation { server: Some(run), ..seen(1, 5, second) }]);
    }
    assert!(!replication.is_multiplexed(1) && replication.position(1).is_some());
    assert_eq!((replication.changes(1), replication.server(1)), (2, Some(9)));
}

#[test]
fn a_position_that_lacks_the_one_before_is_another_servers() {
    let numbered = |place, at| Observation { server: Some(7), ..seen(1, place, at) };
    let replication = ReplicationState::unknown(2).observing(&[numbered(5, 1)]).observing(&[numbered(9, 2)]);
    assert_eq!((replication.changes(1), replication.server(1)), (0, Some(7)));
    let replication = replication.observing(&[numbered(8, 3)]);
    assert_eq!((replication.changes(1), replication.server(1)), (1, Some(7)));
    assert!(!replication.is_same_since(1, seconds(2)) && !replication.is_multiplexed(1));
    assert_eq!(replication.position(1), Some(&lsn(8)));
    assert_eq!(replication.observing(&[numbered(8, 4)]).changes(1), 1);
}

#[test]
fn an_answer_that_was_overtaken_is_no_loss() {
    let first = ReplicationState::unknown(2).observing_by(&[seen(1, 9, 1)], seconds(3));
    // Asked before the other's answer was there: it may have been answered first.
    assert_eq!(first.observing_by(&[seen(1, 8, 2)], seconds(3)).changes(1), 0);
    assert_eq!(first.observing_by(&[seen(1, 8, 4)], seconds(4)).changes(1), 1);
}

#[test]
fn the_history_is_bounded() {
    let mut replication = ReplicationState::unknown(1);
    for second in 1..=2 * HISTORY as u64 {
        replication = replication.observing(&[seen(PRIMARY, second, second)]);
    }
    assert_eq!(replication.history.len(), HISTORY);
}

#[test]
fn a_replica_that_lacks_all_that_is_kept_may_be_late_by_any_time() {
    let mut replication = ReplicationState::unknown(2);
    for second in 1..=3 {
        replication = replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 5, second)]);
    }
    assert_eq!((replication.lag(1), replication.lag_by(1, seconds(3))), (Some(seconds(2)), Some(Duration::MAX)));
    replication = replication.observing(&[seen(1, 10, 4)]);
    assert_eq!(replication.lag_by(1, seconds(4)), Some(seconds(2)));
}

#[test]
fn knowledge_follows_a_member_to_another_place() {
    let replication =
        ReplicationState::unknown(3).observing(&[seen(2, 9, 5)]).rearranged([Some(0), Some(2), None].into_iter());
    assert_eq!((replication.position(1), replication.position(2)), (Some(&lsn(9)), None));
}

#[test]
fn a_replica_that_is_steadily_late_does_not_have_a_new_position_soon() {
    let mut replication = ReplicationState::unknown(3);
    for second in 1..=10 {
        // The first is two seconds late, and the second has all.
        let late = seen(1, 10 * second.max(3) - 20, second);
        replication = replication.observing(&[seen(PRIMARY, 10 * second, second), late, seen(2, 10 * second, second)]);
    }
    let (soon, later) = (Duration::from_millis(10_950), seconds(12));
    assert_eq!(replication.lag(1), Some(seconds(1)));
    // A position half a second or more after the last probe.
    let may = |member, place, moment| replication.may_have_by(member, &lsn(place), moment, Duration::ZERO);
    assert!(!may(1, 105, soon) && may(1, 105, later));
    // A position before that: the probe at 8 lacks it, and the one at 9 has it.
    assert!(may(1, 85, soon));
    assert!(may(2, 105, soon));
    // A replica that was never queried.
    let unknown = ReplicationState::unknown(3);
    assert!(unknown.may_have_by(1, &lsn(105), soon, Duration::ZERO));
}

#[test]
fn another_server_has_a_pace_of_its_own() {
    let mut replication = ReplicationState::unknown(2);
    for second in 1..=10 {
        replication =
            replication.observing(&[seen(PRIMARY, 10 * second, second), seen(1, 10 * second.max(3) - 20, second)]);
    }
    let soon = Duration::from_millis(10_950);
    assert!(!replication.may_have_by(1, &lsn(105), soon, Duration::ZERO));
    let moved = replication.servers_swapped(&[PRIMARY, 1], seconds(10));
    assert!(!moved.may_have_by(1, &lsn(105), soon, Duration::ZERO));
    let rewound = replication.observing(&[seen(1, 1, 11)]);
    assert!(rewound.may_have_by(1, &lsn(105), seconds(11), Duration::ZERO));
}
