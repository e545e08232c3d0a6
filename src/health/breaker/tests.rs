use proptest::prelude::*;

use super::*;
use crate::health::window;

const SECOND: Duration = Duration::from_secs(1);
const MS: Duration = Duration::from_millis(1);

fn fail(health: &mut Breaker, times: u32, now: Duration) {
    (0..times).for_each(|_| health.read(Outcome::Failed, true, 0.0, now));
}

/// Ejected at `now` as a ward would.
fn ejected(health: &mut Breaker, jitter: f64, now: Duration) -> Duration {
    fail(health, FAILURES_IN_A_ROW, now);
    assert!(health.is_to_be_ejected(now));
    health.eject(jitter, now);
    health.ejected.as_ref().unwrap().until
}

#[test]
fn five_failures_in_a_row_are_too_many_and_four_are_not() {
    let mut health = Breaker::default();
    fail(&mut health, 4, SECOND);
    assert!(!health.is_to_be_ejected(SECOND));
    health.read(Outcome::Ok, true, 0.0, SECOND);
    fail(&mut health, 4, SECOND);
    assert!(!health.is_to_be_ejected(SECOND));
    fail(&mut health, 1, SECOND);
    assert!(health.is_to_be_ejected(SECOND));
}

#[test]
fn more_than_half_of_twenty_reads_in_the_window_are_too_many() {
    let mut health = Breaker::default();
    let mut alternate = |failures: u32, now: Duration| {
        for number in 0..20 {
            health.read(if number < failures { Outcome::Failed } else { Outcome::Ok }, true, 0.0, now);
            if number % 3 == 2 {
                // Never five in a row.
                health.failures_in_a_row = 0;
            }
        }
        health.is_to_be_ejected(now)
    };
    assert!(!alternate(10, SECOND));
    assert!(!alternate(10, SECOND + window::LENGTH));
    assert!(alternate(11, SECOND + window::LENGTH * 2));
    assert!(!health.is_to_be_ejected(SECOND + window::LENGTH * 3));
}

#[test]
fn ejections_double_from_five_seconds_to_three_hundred_and_some_last_a_fifth_longer_than_others() {
    assert_eq!(eight_times(0.0), [5, 10, 20, 40, 80, 160, 250, 250]);
    assert_eq!(eight_times(1.0), [6, 12, 24, 48, 96, 192, 300, 300]);
}

fn eight_times(jitter: f64) -> Vec<u64> {
    let (mut health, mut now, mut times) = (Breaker::default(), SECOND, Vec::new());
    for _ in 0..8 {
        let until = ejected(&mut health, jitter, now);
        times.push(until.saturating_sub(now).as_secs());
        health.probe(Outcome::Ok, until, until);
        assert_eq!(health.state(until), State::Up);
        now = until;
    }
    times
}

#[test]
fn an_ejection_is_forgotten_for_each_minute_of_service() {
    let mut health = Breaker::default();
    for _ in 0..3 {
        let until = ejected(&mut health, 0.0, SECOND);
        health.probe(Outcome::Ok, until, until);
    }
    // The third took 20 seconds; two minutes later it is as if it had been ejected once.
    let later = SECOND * 21 + FORGOTTEN_AFTER * 2;
    assert_eq!(ejected(&mut health, 0.0, later), later + SECOND * 10);
}

#[test]
fn minutes_of_service_count_that_were_interrupted_by_a_moment_of_silence() {
    let mut health = Breaker::default();
    for _ in 0..3 {
        let until = ejected(&mut health, 0.0, SECOND);
        health.probe(Outcome::Ok, until, until);
    }
    let silent = SECOND * 21 + FORGOTTEN_AFTER * 3;
    health.probe(Outcome::Gone, silent, silent);
    health.probe(Outcome::Ok, silent + SECOND, silent + SECOND);
    let later = silent + SECOND * 2;
    assert_eq!(ejected(&mut health, 0.0, later), later + SECOND * 5);
}

#[test]
fn jitter_is_drawn_once_for_an_ejection() {
    let mut health = Breaker::default();
    let until = ejected(&mut health, 0.5, SECOND);
    assert_eq!(until, SECOND + MS * 5500);
    for jitter in [0.0, 0.9] {
        health.read(Outcome::Failed, true, jitter, SECOND * 2);
        health.tick(true, SECOND * 2);
        assert_eq!(health.ejected.as_ref().unwrap().until, until);
    }
}

#[test]
fn a_probe_readmits_after_the_ejection_and_no_read_does() {
    let mut health = Breaker::default();
    ejected(&mut health, 0.0, SECOND);
    health.probe(Outcome::Ok, SECOND * 2, SECOND * 2);
    assert_eq!(health.state(SECOND * 2), State::Ejected);
    health.tick(true, SECOND * 7);
    assert_eq!(health.state(SECOND * 7), State::Probing);
    health.read(Outcome::Ok, true, 0.0, SECOND * 7);
    assert_eq!(health.state(SECOND * 7), State::Probing);
    health.probe(Outcome::Failed, SECOND * 8, SECOND * 8);
    assert_eq!(health.state(SECOND * 8), State::Probing);
    health.probe(Outcome::Ok, SECOND * 9, SECOND * 9);
    assert_eq!(health.state(SECOND * 9), State::Up);
    assert!(!health.is_to_be_ejected(SECOND * 9));
}

#[test]
fn who_does_not_answer_a_probe_is_down_until_it_answers_a_later_one() {
    let mut health = Breaker::default();
    health.probe(Outcome::Gone, SECOND * 2, SECOND * 3);
    assert_eq!(health.state(SECOND * 3), State::Down);
    // Sent before the one that failed, heard later.
    health.probe(Outcome::Ok, SECOND, SECOND * 3);
    health.probe(Outcome::Failed, SECOND * 3, SECOND * 3);
    assert_eq!(health.state(SECOND * 3), State::Down);
    health.probe(Outcome::Ok, SECOND * 4, SECOND * 4);
    assert_eq!(health.state(SECOND * 4), State::Up);
}

#[test]
fn a_probe_that_was_answered_before_a_read_was_refused_says_nothing() {
    let mut health = Breaker::default();
    health.read(Outcome::Gone, true, 0.0, SECOND * 3);
    assert_eq!(health.state(SECOND * 3), State::Down);
    health.probe(Outcome::Ok, SECOND * 2, SECOND * 4);
    assert_eq!(health.state(SECOND * 4), State::Down);
    health.probe(Outcome::Ok, SECOND * 4, SECOND * 4);
    assert_eq!(health.state(SECOND * 4), State::Up);
}

#[test]
fn who_is_down_while_ejected_serves_the_rest_of_the_ejection() {
    let mut health = Breaker::default();
    ejected(&mut health, 0.0, SECOND);
    health.probe(Outcome::Gone, SECOND * 2, SECOND * 2);
    assert_eq!(health.state(SECOND * 2), State::Down);
    health.probe(Outcome::Ok, SECOND * 3, SECOND * 3);
    assert_eq!(health.state(SECOND * 3), State::Ejected);
    health.probe(Outcome::Ok, SECOND * 7, SECOND * 7);
    assert_eq!(health.state(SECOND * 7), State::Up);
}

#[test]
fn without_a_monitor_one_read_is_the_trial() {
    let mut health = Breaker::default();
    health.read(Outcome::Gone, false, 0.0, SECOND);
    health.tick(false, SECOND * 5);
    assert_eq!((health.state(SECOND * 5), health.trial().is_some()), (State::Down, false));
    health.tick(false, SECOND * 6);
    assert_eq!(health.state(SECOND * 6), State::Probing);
    let trial = health.trial().unwrap();
    assert!(take(&trial) && !take(&trial));
    // It fails: out of service again, for twice as long.
    health.read(Outcome::Gone, false, 0.0, SECOND * 7);
    health.tick(false, SECOND * 16);
    assert!(health.trial().is_none());
    health.tick(false, SECOND * 17);
    assert!(take(&health.trial().unwrap()));
    health.read(Outcome::Ok, false, 0.0, SECOND * 18);
    assert_eq!((health.state(SECOND * 18), health.trial().is_some()), (State::Up, false));
}

#[test]
fn a_trial_without_a_report_is_followed_by_another() {
    let mut health = Breaker::default();
    health.read(Outcome::Gone, false, 0.0, SECOND);
    health.tick(false, SECOND * 6);
    assert!(take(&health.trial().unwrap()));
    health.tick(false, SECOND * 10);
    assert!(!take(&health.trial().unwrap()));
    health.tick(false, SECOND * 11);
    assert!(take(&health.trial().unwrap()));
}

#[test]
fn who_comes_back_is_given_more_from_second_to_second() {
    let mut health = Breaker::default();
    assert_eq!(health.ramp(Duration::ZERO), FULL);
    health.probe(Outcome::Gone, SECOND, SECOND);
    health.probe(Outcome::Ok, SECOND * 2, SECOND * 2);
    let ramps: Vec<u8> = [2000, 3000, 4000, 5000, 6000, 7000].map(|now| health.ramp(MS * now)).into();
    // A tenth, and nine tenths over five seconds: 1 + 1.8, 3.6, 5.4, 7.2 without the fraction.
    assert_eq!(ramps, [1, 2, 4, 6, 8, FULL]);
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Read(Outcome),
    Probe(Outcome),
}

fn event() -> impl Strategy<Value = (Event, u32)> {
    let outcome = || prop::sample::select(vec![Outcome::Ok, Outcome::Failed, Outcome::Gone]);
    (prop_oneof![outcome().prop_map(Event::Read), outcome().prop_map(Event::Probe)], 0..4_000_u32)
}

proptest! {
    /// Whatever happens to a member that is watched: nothing but a successful probe takes it back into service, and only
    /// after the time of its ejection.
    #[test]
    fn only_a_successful_probe_readmits(events in prop::collection::vec(event(), 1..200), jitter in 0.0..1.0_f64) {
        let (mut health, mut now) = (Breaker::default(), SECOND);
        for (event, pause) in events {
            now += MS * pause;
            health.tick(true, now);
            let before = health.state(now);
            let until = health.ejected.as_ref().map(|ejected| ejected.until);
            match event {
                Event::Read(outcome) => health.read(outcome, true, jitter, now),
                Event::Probe(outcome) => health.probe(outcome, now, now),
            }
            let after = health.state(now);
            if before != State::Up && after == State::Up {
                prop_assert!(matches!(event, Event::Probe(Outcome::Ok)));
                prop_assert!(until.is_none_or(|until| until <= now));
                prop_assert!(health.ramp(now) == 1);
            }
            if before == State::Down && matches!(event, Event::Probe(Outcome::Failed | Outcome::Gone)) {
                prop_assert_eq!(after, State::Down);
            }
            if health.is_to_be_ejected(now) {
                health.eject(jitter, now);
                let time = health.ejected.as_ref().unwrap().until.saturating_sub(now);
                prop_assert!(SHORTEST <= time && time <= LONGEST);
            }
        }
    }
}
