//! Every order in which threads may interleave.

use loom::sync::Arc;
use loom::thread;

use super::*;
use crate::settings::tests::settings;
use crate::support::snapshot::Kept;

const SECOND: Duration = Duration::from_secs(1);

fn fail(cluster: &Cluster, member: Member, times: u32) -> Vec<Change> {
    (0..times).flat_map(|_| cluster.read(member, Outcome::Failed, None, SECOND, 1)).collect()
}

#[test]
fn two_threads_do_not_eject_one_replica_each() {
    loom::model(|| {
        let cluster = Arc::new(Cluster::try_new(settings(&[1.0, 1.0])).unwrap());
        fail(&cluster, 1, 4);
        fail(&cluster, 2, 4);
        let other = {
            let cluster = cluster.clone();
            thread::spawn(move || fail(&cluster, 2, 1))
        };
        let mut changes = fail(&cluster, 1, 1);
        changes.extend(other.join().unwrap());
        // Each change is reported once, to the thread that made it.
        assert_eq!(changes.len(), 1);
        assert_eq!(cluster.view().eligible().len(), 1);
    });
}

#[test]
fn one_read_is_the_trial() {
    loom::model(|| {
        let cluster = Cluster::try_new(Settings { watched: false, ..settings(&[1.0]) }).unwrap();
        cluster.read(1, Outcome::Gone, None, SECOND, 0);
        cluster.settle(SECOND * 10, 0);
        let cluster = Arc::new(cluster);
        let trial = |cluster: &Cluster| cluster.view().trial(true, |_| true).is_some();
        let other = {
            let cluster = cluster.clone();
            thread::spawn(move || trial(&cluster))
        };
        assert!(trial(&cluster) != other.join().unwrap());
    });
}

#[test]
fn a_probe_and_a_read_that_was_refused_leave_a_view_of_what_is_known() {
    loom::model(|| {
        let cluster = Arc::new(Cluster::try_new(settings(&[1.0, 1.0])).unwrap());
        let other = {
            let cluster = cluster.clone();
            thread::spawn(move || {
                cluster.read(1, Outcome::Gone, None, SECOND * 2, 0);
            })
        };
        cluster.report_probes(
            &[Probe { member: 1, outcome: Outcome::Ok, sent: SECOND, took: None }],
            &[],
            SECOND * 2,
            0,
        );
        other.join().unwrap();
        assert_eq!(cluster.view().state(1), State::Down);
    });
}

#[test]
fn a_copy_of_the_view_is_never_older_than_its_version_says() {
    loom::model(|| {
        let cluster = Arc::new(Cluster::try_new(settings(&[1.0])).unwrap());
        let other = {
            let cluster = cluster.clone();
            thread::spawn(move || {
                cluster.set_state(1, State::Down);
            })
        };
        let mut kept = Kept::new(cluster.shared_view());
        kept.refreshed(cluster.shared_view());
        other.join().unwrap();
        assert_eq!(kept.refreshed(cluster.shared_view()).state(1), State::Down);
    });
}
