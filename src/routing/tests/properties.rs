//! Sequences of events around a scope, drawn at random.

use proptest::prelude::*;

use super::*;

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
