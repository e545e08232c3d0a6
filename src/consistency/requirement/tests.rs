use super::*;
use crate::replication::position::Kind;
use crate::replication::state::Observation;
use crate::settings::Settings;
use crate::settings::tests::settings;

const SECOND: Duration = Duration::from_secs(1);

fn lsn(place: u64) -> Position {
    Position::parse(Kind::PostgreSql, &format!("1:0/{place:X}")).unwrap()
}

fn cluster() -> Cluster {
    Cluster::try_new(Settings { wait: SECOND, has_positions: true, ..settings(&[1.0, 1.0]) }).unwrap()
}

fn observation(member: Member, position: Option<Position>, at: u32) -> Observation {
    Observation { member, position, at: SECOND * at, server: None }
}

/// The primary and the replicas, asked at `at` seconds.
fn look(cluster: &Cluster, at: u32, places: [u64; 3]) {
    let seen = (0..).zip(places).map(|(member, place)| observation(member, Some(lsn(place)), at));
    cluster.observe(&seen.collect::<Vec<_>>());
}

fn admitted(requirement: &Requirement, cluster: &Cluster, now: u32) -> Vec<Member> {
    (0..3).filter(|&member| requirement.admits(cluster, &cluster.view(), member, SECOND * now)).collect()
}

#[test]
fn a_replica_is_admitted_when_it_has_the_position() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(Some(&lsn(20)), SECOND);
    assert_eq!(admitted(&requirement, &cluster, 1), [0]);
    look(&cluster, 1, [20, 20, 19]);
    assert_eq!(admitted(&requirement, &cluster, 1), [0, 1]);
    requirement.publish(Some(&lsn(21)), SECOND);
    assert_eq!(admitted(&requirement, &cluster, 1), [0]);
    assert!(requirement.wrote());
}

#[test]
fn what_was_written_ends_before_what_was_read() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(Some(&lsn(20)), SECOND);
    requirement.require_read(Some(cluster.members()[1]), SECOND * 9);
    look(&cluster, 2, [25, 20, 20]);
    let has_writes =
        |requirement: &Requirement| requirement.has_what_was_written(&cluster, &cluster.view(), 2, SECOND * 9);
    assert_eq!((has_writes(&requirement), admitted(&requirement, &cluster, 9)), (true, vec![0, 1]));
    requirement.end_writes();
    assert_eq!(
        (requirement.position(), requirement.wrote(), admitted(&requirement, &cluster, 9)),
        (None, true, vec![0, 1])
    );
    requirement.publish(Some(&lsn(21)), SECOND * 9);
    assert!(!has_writes(&requirement));
}

#[test]
fn what_has_ended_is_kept_for_those_that_are_asked_by_name() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(Some(&lsn(20)), SECOND);
    requirement.keep_for_named();
    requirement.end();
    assert!(requirement.is_empty() && requirement.keeps_for_named());
    let admits =
        |requirement: &Requirement, member| requirement.admits_named(&cluster, &cluster.view(), member, SECOND * 9);
    look(&cluster, 2, [20, 20, 19]);
    assert!(admits(&requirement, 1) && !admits(&requirement, 2));
    requirement.publish(Some(&lsn(30)), SECOND * 3);
    requirement.keep_for_named();
    requirement.end_writes();
    look(&cluster, 4, [30, 29, 30]);
    assert!(!admits(&requirement, 1) && admits(&requirement, 2));
}

#[test]
fn a_write_without_a_position_is_asked_for_once() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(None, SECOND);
    look(&cluster, 2, [30, 30, 30]);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
    assert_eq!(admitted(&requirement, &cluster, 2), [0]);
    requirement.position_received(Some(&lsn(25)), SECOND, SECOND);
    assert_eq!(admitted(&requirement, &cluster, 2), [0, 1, 2]);
}

#[test]
fn an_answer_says_nothing_of_what_came_after_the_question() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(None, SECOND);
    requirement.publish(None, SECOND * 3);
    requirement.require_read(Some(Alias::from_number(1)), SECOND * 3);
    requirement.position_received(Some(&lsn(20)), SECOND * 2, SECOND * 4);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
    assert!(requirement.is_pending() && requirement.read().is_some());
    requirement.position_received(Some(&lsn(21)), SECOND * 4, SECOND * 5);
    assert!(!requirement.is_pending() && requirement.read().is_none());
}

#[test]
fn without_a_monitor_a_replica_is_queried_again_after_a_miss() {
    let cluster = Cluster::try_new(Settings { watched: false, ..cluster().settings().clone() }).unwrap();
    let mut requirement = Requirement::default();
    requirement.publish(Some(&lsn(20)), SECOND);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(SECOND));
    requirement.waited(SECOND / 10, false);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(Duration::ZERO));
}

#[test]
fn a_foreign_position_that_the_primary_lacks_is_left_to_time() {
    let mut requirement = Requirement::default();
    requirement.require_foreign(&lsn(20), SECOND, SECOND);
    assert!(requirement.is_to_be_confirmed());
    requirement.confirm(&lsn(19));
    assert_eq!(
        (requirement.is_to_be_confirmed(), requirement.position(), requirement.written()),
        (false, None, Some(SECOND))
    );
}

#[test]
fn a_primary_that_cannot_say_leaves_it_to_time() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish(None, SECOND);
    requirement.position_received(None, SECOND, SECOND);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Time);
    assert_eq!(admitted(&requirement, &cluster, 5), [0]);
    assert_eq!(admitted(&requirement, &cluster, 6), [0, 1, 2]);
}

#[test]
fn time_does_not_admit_a_replica_that_may_be_further_behind() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 1, [10, 10, 10]);
    look(&cluster, 9, [20, 20, 10]);
    requirement.publish_by_time(SECOND * 3);
    // The second lacked at 9 what the primary had at 9; by 12 it may be 3 seconds late, and the write is 9 old.
    assert_eq!(admitted(&requirement, &cluster, 7), [0]);
    assert_eq!(admitted(&requirement, &cluster, 12), [0, 1, 2]);
    look(&cluster, 20, [30, 30, 10]);
    requirement.publish_by_time(SECOND * 10);
    assert_eq!(admitted(&requirement, &cluster, 21), [0, 1]);
}

#[test]
fn time_does_not_admit_a_replica_of_unknown_lag() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.publish_by_time(SECOND * 3);
    // The first is on another timeline, and the second has not been asked yet.
    look(&cluster, 1, [10, 10, 10]);
    let parted = Position::parse(Kind::PostgreSql, "2:0/99").unwrap();
    cluster.observe(&[observation(1, Some(parted), 4)]);
    assert_eq!(admitted(&requirement, &cluster, 1000), [0]);
    look(&cluster, 1001, [20, 20, 20]);
    assert_eq!(admitted(&requirement, &cluster, 1002), [0, 1, 2]);
    // One that has told it and does not any more.
    cluster.observe(&[observation(2, None, 1003)]);
    assert_eq!(admitted(&requirement, &cluster, 2000), [0, 1]);
}

#[test]
fn time_alone_decides_where_lag_is_never_measured() {
    let mut requirement = Requirement::default();
    requirement.publish_by_time(SECOND * 3);
    let by_time = |cluster: &Cluster| {
        assert_eq!(admitted(&requirement, cluster, 7), [0]);
        assert_eq!(admitted(&requirement, cluster, 8), [0, 1, 2]);
    };
    // No server was probed.
    by_time(&cluster());
    // The engine has no positions.
    let without = cluster();
    without.observe(&[observation(0, None, 4), observation(1, None, 4), observation(2, None, 4)]);
    by_time(&without);
    // The replicas have none.
    let silent = cluster();
    silent.observe(&[observation(0, Some(lsn(10)), 4), observation(1, None, 4), observation(2, None, 4)]);
    by_time(&silent);
    // Without a monitor: the primary's position is known by chance.
    let unwatched = Cluster::try_new(Settings { watched: false, ..cluster().settings().clone() }).unwrap();
    unwatched.observe(&[observation(0, Some(lsn(10)), 4)]);
    by_time(&unwatched);
}

#[test]
fn what_a_writer_that_never_reads_must_see_stays_small() {
    let gtid = |number| {
        let text = format!("3e11fa47-71ca-11e1-9e33-c80aa9429562:{number}");
        Position::parse(Kind::MySql, &text).unwrap()
    };
    let mut requirement = Requirement::default();
    for write in 1..=10_000 {
        // Other clients write in between, once or a hundred times.
        let own = gtid(write * 100 + write % 7);
        requirement.publish(Some(&own), SECOND);
        let position = requirement.position().unwrap();
        assert!(position.contains(&own) && position.intervals() <= MOST_INTERVALS);
    }
    let position = requirement.position().unwrap();
    assert!((1..=10_000).all(|write| position.contains(&gtid(write * 100 + write % 7))));
    // The position exceeds nothing that the primary gave out until the last write.
    assert!(!position.contains(&gtid(10_000 * 100 + 10_000 % 7 + 1)) && requirement.written().is_none());
    // Should the primary never have had the transactions in the gaps, time decides.
    assert!(requirement.is_to_be_confirmed());
}

#[test]
fn what_was_read_is_seen_there_and_where_the_primarys_next_position_is() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 1, [10, 10, 10]);
    requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
    look(&cluster, 3, [20, 20, 19]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
    look(&cluster, 4, [30, 30, 20]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
}

#[test]
fn what_two_members_showed_is_seen_where_the_primarys_next_position_is() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 1, [20, 20, 10]);
    requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
    requirement.require_read(Some(Alias::from_number(2)), SECOND * 3);
    assert_eq!(admitted(&requirement, &cluster, 100), [0]);
    look(&cluster, 4, [20, 20, 10]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1]);
    // The first member has both by now, so that its reads stand for all.
    requirement.require_reads_of(&cluster, &cluster.view(), Alias::from_number(1), SECOND * 5);
    assert_eq!(requirement.read(), Some((Some(Alias::from_number(1)), SECOND * 5)));
}

#[test]
fn what_a_member_showed_until_it_served_no_more_is_had_where_the_primarys_next_position_is() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.require_read(Some(Alias::from_number(1)), SECOND);
    look(&cluster, 2, [10, 10, 10]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
    requirement.leave(Alias::from_number(2), SECOND * 3);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 1, 2]);
    requirement.leave(Alias::from_number(1), SECOND * 3);
    assert_eq!(admitted(&requirement, &cluster, 100), [0]);
    look(&cluster, 4, [20, 19, 20]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
    // It happens once: the required position does not move on with every read.
    requirement.leave(Alias::from_number(1), SECOND * 5);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
}

#[test]
fn what_two_members_have_shown_neither_surely_has() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 1, [10, 10, 10]);
    requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
    requirement.require_read(Some(Alias::from_number(2)), SECOND);
    assert_eq!(admitted(&requirement, &cluster, 100), [0]);
    look(&cluster, 3, [20, 19, 20]);
    assert_eq!(admitted(&requirement, &cluster, 100), [0, 2]);
}

#[test]
fn a_position_that_the_primary_itself_lacks_is_left_to_time() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.require(&lsn(99), SECOND * 2);
    look(&cluster, 2, [50, 50, 50]);
    requirement.settle(&cluster, &cluster.view());
    assert_eq!(requirement.position(), Some(&lsn(99)));
    look(&cluster, 3, [51, 51, 51]);
    requirement.settle(&cluster, &cluster.view());
    assert_eq!((requirement.position(), requirement.written()), (None, Some(SECOND * 2)));
    assert_eq!(admitted(&requirement, &cluster, 7), [0, 1, 2]);
}

#[test]
fn a_position_from_elsewhere_that_is_given_up_is_timed_from_its_receipt() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.require_foreign(&lsn(99), SECOND, SECOND * 10);
    look(&cluster, 11, [50, 50, 50]);
    requirement.settle(&cluster, &cluster.view());
    assert_eq!((requirement.position(), requirement.written()), (None, Some(SECOND * 10)));
}

#[test]
fn what_a_scope_owes_its_client_and_the_member_it_prefers_outlive_what_must_be_seen() {
    let mut requirement = Requirement::default();
    assert!(!requirement.owes_token());
    requirement.require_foreign(&lsn(20), SECOND, SECOND);
    requirement.present();
    requirement.prefer(Alias::from_number(2));
    requirement.end_writes();
    requirement.end();
    assert!(requirement.owes_token() && !requirement.wrote() && !requirement.is_empty());
    assert_eq!((requirement.preferred(), requirement.position()), (Some(Alias::from_number(2)), None));
}

#[test]
fn where_positions_no_longer_count_time_does() {
    let before = cluster();
    let after = Cluster::try_new(Settings { has_positions: false, ..before.settings().clone() }).unwrap();
    for position in [Some(lsn(20)), None] {
        let mut requirement = Requirement::default();
        requirement.publish(position.as_ref(), SECOND * 2);
        requirement.settle(&before, &before.view());
        assert_eq!(requirement.written(), None);
        requirement.settle(&after, &after.view());
        assert_eq!(
            (requirement.position(), requirement.is_pending(), requirement.written()),
            (None, false, Some(SECOND * 2))
        );
    }
}

#[test]
fn positions_of_parted_histories_are_left_to_time() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.require(&lsn(20), SECOND);
    requirement.require(&Position::parse(Kind::PostgreSql, "2:0/5").unwrap(), SECOND);
    assert_eq!(requirement.written(), Some(SECOND));
    look(&cluster, 1, [30, 30, 30]);
    assert_eq!(admitted(&requirement, &cluster, 1), [0]);
}

#[test]
fn waiting_ends_with_a_miss_or_when_its_time_is_over_until_the_next_write() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 0, [10, 10, 10]);
    let obstacle = |requirement: &Requirement| requirement.obstacle(&cluster, &cluster.view());
    requirement.publish(Some(&lsn(20)), SECOND);
    assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND));
    requirement.waited(SECOND / 4, true);
    assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND * 3 / 4));
    requirement.waited(SECOND, true);
    assert_eq!(obstacle(&requirement), Obstacle::Time);
    requirement.publish(Some(&lsn(21)), SECOND);
    assert_eq!(obstacle(&requirement), Obstacle::Position(SECOND));
    requirement.waited(SECOND / 10, false);
    assert_eq!(obstacle(&requirement), Obstacle::Time);
}

#[test]
fn without_a_monitor_the_position_of_reads_is_queried() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    requirement.require_read(Some(Alias::from_number(1)), SECOND);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::PositionUnknown);
    requirement.position_received(Some(&lsn(20)), SECOND, SECOND);
    assert_eq!(requirement.obstacle(&cluster, &cluster.view()), Obstacle::Position(SECOND));
}

#[test]
fn a_session_with_a_former_server_does_not_have_what_was_read_at_the_present_one() {
    let (cluster, mut requirement) = (cluster(), Requirement::default());
    look(&cluster, 1, [10, 10, 10]);
    requirement.require_read(Some(Alias::from_number(1)), SECOND * 2);
    look(&cluster, 3, [20, 20, 20]);
    let admits = |place, is_present| {
        requirement.admits_session(&cluster, &cluster.view(), 1, (Some(&lsn(place)), is_present), SECOND * 3)
    };
    assert!(admits(10, true) && !admits(10, false) && admits(20, false));
}
