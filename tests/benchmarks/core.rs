//! One decision of the core alone, without Python: `cargo bench --bench core --no-default-features`.
//!
//! By the number of replicas; and on one and two threads, undisturbed and while a further thread swaps the snapshot of
//! who may serve a thousand times a second. And what it takes to compare positions.

use std::convert::Infallible;
use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};

use _core::alias::Alias;
use _core::cluster::Cluster;
use _core::cluster::view::View;
use _core::consistency::scope_state::ScopeState;
use _core::member::{Member, State};
use _core::replication::position::{Kind, Position};
use _core::routing::decide::decide;
use _core::routing::question::{Caller, Read, Step};
use _core::settings::{Balance, OnUnavailable, ReadTarget, Settings};
use _core::support::counters::Shard;
use _core::support::random::{Draws, Generation};
use _core::support::snapshot::Kept;
use rand::Rng;

/// The pool that the threads share.
const REPLICAS: u32 = 15;
/// Decisions in a window: some tenths of a millisecond.
const WINDOW: u64 = 20_000;
const SWAP_EVERY: Duration = Duration::from_millis(1);

/// A cluster whose replicas have unequal weights, so that a draw is not trivial.
fn cluster(replicas: u32, balance: Balance) -> Cluster {
    let settings = Settings {
        primary: Alias::from_number(0),
        replicas: (1..=replicas).map(|number| (Alias::from_number(number), f64::from(1 + number % 3))).collect(),
        reads: ReadTarget::Replica,
        primary_weight: 0.0,
        balance,
        outside_requests: ReadTarget::Replica,
        sticky: true,
        consistent: true,
        has_positions: true,
        lease: Duration::ZERO,
        watched: true,
        pin: Duration::from_secs(5),
        wait: Duration::ZERO,
        on_unavailable: OnUnavailable::Primary,
        primary_spill: 1.0,
        max_lag: Some(Duration::from_secs(10)),
        addresses: Vec::new(),
        forbidden: Vec::new(),
        are_mirrors: false,
    };
    Cluster::try_new(settings).expect("settings that can be used")
}

/// A thread with no scope open, no transaction and no state.
struct Outside;

impl Caller for Outside {
    type Error = Infallible;

    fn in_transaction(&self, _: Member) -> Result<bool, Infallible> {
        Ok(black_box(false))
    }

    fn is_changed(&self) -> Result<bool, Infallible> {
        Ok(false)
    }

    fn record(&self) -> Result<Option<Arc<ScopeState>>, Infallible> {
        Ok(None)
    }

    fn now(&self) -> Duration {
        Duration::ZERO
    }
}

/// A read outside of every scope: it passes the whole table, down to the pool.
#[inline]
fn read(cluster: &Cluster, kept: &mut Kept<View>, draws: &mut Draws, generation: &Generation, shard: &Shard) -> Member {
    let question =
        Read { exempt: black_box(false), scope: None, instance: None, before: None, may_wait: true, caller: &Outside };
    let draw = draws.get(generation).next_u64();
    let view = kept.refreshed(cluster.shared_view());
    let Ok(Step::Decided(member, reason)) = decide(cluster, view, &question, draw) else {
        unreachable!("some replica serves")
    };
    cluster.counters().count(shard, member, reason);
    member
}

fn by_replicas(criterion: &mut Criterion) {
    let orders =
        [("random", Balance::Random), ("round_robin", Balance::RoundRobin), ("least_latency", Balance::LeastLatency)];
    for (name, balance) in orders {
        let mut group = criterion.benchmark_group(name);
        for replicas in [1, 2, 15, 1000] {
            let (cluster, generation) = (cluster(replicas, balance), Generation::new());
            let (mut draws, mut kept) = (Draws::seeded(1, &generation), Kept::new(cluster.shared_view()));
            let shard = Shard::claim();
            group.bench_function(BenchmarkId::from_parameter(replicas), |bencher| {
                bencher.iter(|| read(&cluster, &mut kept, &mut draws, &generation, &shard));
            });
        }
    }
}

fn by_threads(criterion: &mut Criterion) {
    for (name, swapping) in [("threads", false), ("threads_swapping", true)] {
        let mut group = criterion.benchmark_group(name);
        for threads in [1, 2] {
            group.throughput(Throughput::Elements(threads));
            group.bench_function(BenchmarkId::from_parameter(threads), |bencher| {
                bencher.iter_custom(|each| together(threads, each, swapping));
            });
        }
    }
}

/// The time in which each of `threads` decides `each` reads: that of the best window, scaled up. A shared machine takes a
/// processor away for milliseconds at a time, and would be what is measured otherwise.
fn together(threads: u64, each: u64, swapping: bool) -> Duration {
    let (cluster, generation) = (cluster(REPLICAS, Balance::Random), Generation::new());
    let (window, windows) = (each.min(WINDOW), each.div_ceil(WINDOW));
    let (arrived, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let decide_windows = |seed| {
        let (mut draws, mut kept) = (Draws::seeded(seed, &generation), Kept::new(cluster.shared_view()));
        let shard = Shard::claim();
        let mut times = Vec::new();
        for number in 1..=windows {
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < number * threads {
                std::hint::spin_loop();
            }
            let begun = now();
            for _ in 0..window {
                black_box(read(&cluster, &mut kept, &mut draws, &generation, &shard));
            }
            times.push((begun, now()));
        }
        times
    };
    std::thread::scope(|scope| {
        if swapping {
            scope.spawn(|| swap_until(&done, &cluster));
        }
        let decide_windows = &decide_windows;
        let deciding: Vec<_> = (0..threads).map(|seed| scope.spawn(move || decide_windows(seed))).collect();
        let times: Vec<_> = deciding.into_iter().map(|thread| thread.join().expect("no decision panics")).collect();
        done.store(true, Ordering::Relaxed);
        let taken = |number: usize| {
            let begun = times.iter().map(|own| own[number].0).min().expect("a thread");
            times.iter().map(|own| own[number].1).max().expect("a thread") - begun
        };
        let best = (0..times[0].len()).map(taken).min().expect("a window");
        best * u32::try_from(windows).expect("criterion asks for less")
    })
}

/// Takes a replica out and puts it back in, each of which swaps the snapshot.
fn swap_until(done: &AtomicBool, cluster: &Cluster) {
    for state in [State::Lagging, State::Up].into_iter().cycle() {
        if done.load(Ordering::Relaxed) {
            break;
        }
        cluster.set_state(1, state);
        std::thread::sleep(SWAP_EVERY);
    }
}

/// A transaction and the position of a replica, as they are most of the time; and GTID sets of a thousand intervals,
/// which are slow for their gaps.
fn by_position(criterion: &mut Criterion) {
    const UUID: &str = "3e11fa47-71ca-11e1-9e33-c80aa9429562";
    let parse = |text: &str| Position::parse(Kind::MySql, text).expect("a GTID set");
    let gappy = |offset: u64| {
        let interval = |number: u64| format!(":{}-{}", offset + 10 * number, offset + 10 * number + 5);
        format!("{UUID}{}", (0..1000).map(interval).collect::<String>())
    };
    let transaction = format!("{UUID}:7004");
    let (own, replica) = (parse(&transaction), parse(&format!("{UUID}:1-7005")));
    let (text, shifted) = (gappy(1), parse(&gappy(3)));
    let (thousand, same) = (parse(&text), parse(&text));

    let mut group = criterion.benchmark_group("position");
    for (name, one, other) in [
        ("contains", &replica, &own),
        ("contains/1000_intervals_1", &thousand, &own),
        ("contains/1000_intervals_1000", &thousand, &same),
    ] {
        assert!(one.contains(other));
        group.bench_function(name, |bencher| bencher.iter(|| black_box(one).contains(black_box(other))));
    }
    for (name, one, other) in [("union", &replica, &own), ("union/1000_intervals_1000", &thousand, &shifted)] {
        group.bench_function(name, |bencher| bencher.iter(|| black_box(one).union(black_box(other))));
    }
    for (name, text, position) in [("", &transaction, &own), ("/1000_intervals", &text, &thousand)] {
        group.bench_function(format!("parse{name}"), |bencher| bencher.iter(|| parse(black_box(text))));
        group.bench_function(format!("print{name}"), |bencher| bencher.iter(|| black_box(position).to_string()));
    }
    group.bench_function("shortened/1000_intervals", |bencher| bencher.iter(|| black_box(&thousand).shortened(1024)));
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock itself")]
fn now() -> Instant {
    Instant::now()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    by_replicas(&mut criterion);
    by_threads(&mut criterion);
    by_position(&mut criterion);
    criterion.final_summary();
}
