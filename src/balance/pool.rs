//! Chooses a member by weight.
//!
//! A [`Pool`] is immutable: it is built when the eligible members or their weights change, and swapped whole. A choice
//! takes constant time whatever the size of the pool. The obvious alternative, cumulative weights and a binary search,
//! grows with the number of replicas and mispredicts a branch at each step.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::balance::costs::Costs;
use crate::member::Member;
use crate::settings::Balance;
use crate::support::random::{mixed, unit};

/// The longest cycle of a round robin, in turns.
///
/// Whole weights whose sum (divided by their greatest common divisor) stays below this are served exactly; others
/// are rounded to it, by which a member's share is off by less than 1/65536 of the reads.
const LONGEST_CYCLE: u32 = 1 << 16;

/// Members and their weights.
#[derive(Clone, Debug)]
pub struct Pool(Picker);

#[derive(Clone, Debug)]
enum Picker {
    Empty,
    One(Member),
    /// Members of equal weight: a table a third as large, which matters in a pool so large that the table leaves the
    /// cache.
    Even(Box<[Member]>),
    Random(AliasTable),
    RoundRobin(Box<[Member]>),
    LeastLatency(AliasTable, Arc<Costs>),
}

/// How often a second member is drawn until it differs from the first: with one member of very large weight there may
/// be no other, and then the first one is right.
const SECOND_DRAWS: u32 = 8;

impl Pool {
    /// A pool of `members`; those with weight 0 are left out. Only [`Balance::LeastLatency`] reads `costs`.
    ///
    /// Weights must be finite and not negative, which [`crate::settings::Settings::check`] has checked.
    #[must_use]
    pub fn new(members: &[(Member, f64)], balance: Balance, costs: &Arc<Costs>) -> Self {
        let chosen: Vec<(Member, f64)> = members.iter().copied().filter(|&(_, weight)| weight > 0.0).collect();
        Self(match (chosen.as_slice(), balance) {
            ([], _) => Picker::Empty,
            (&[(member, _)], _) => Picker::One(member),
            (members, Balance::Random) if members.windows(2).all(|pair| pair[0].1.to_bits() == pair[1].1.to_bits()) => {
                Picker::Even(members.iter().map(|&(member, _)| member).collect())
            }
            (members, Balance::Random) => Picker::Random(AliasTable::new(members)),
            (members, Balance::RoundRobin) => Picker::RoundRobin(smooth_cycle(members)),
            (members, Balance::LeastLatency) => Picker::LeastLatency(AliasTable::new(members), costs.clone()),
        })
    }

    /// Chooses a member. `turn` is the turn of the round robin, shared by every thread of the process, and `draw` 64
    /// random bits.
    #[inline]
    pub fn choose(&self, turn: &AtomicUsize, draw: u64) -> Option<Member> {
        match &self.0 {
            Picker::Empty => None,
            Picker::One(member) => Some(*member),
            Picker::Even(members) => Some(members[place(draw, members.len())]),
            Picker::Random(table) => Some(table.choose(draw)),
            Picker::RoundRobin(cycle) => Some(cycle[turn.fetch_add(1, Ordering::Relaxed) % cycle.len()]),
            Picker::LeastLatency(table, costs) => Some(of_two(table, costs, draw)),
        }
    }

    /// The member that [`Pool::choose`] would choose next, given the same `draw`; takes no turn.
    #[inline]
    pub fn preview(&self, turn: &AtomicUsize, draw: u64) -> Option<Member> {
        self.choose(&AtomicUsize::new(turn.load(Ordering::Relaxed)), draw)
    }
}

/// A place among `count`, from the upper half of `draw`: Lemire's multiply-shift instead of a division, whose bias is below
/// count / 2^32 (D. Lemire, "Fast random integer generation in an interval", ACM Transactions on Modeling and Computer
/// Simulation 29, 2019).
#[inline]
fn place(draw: u64, count: usize) -> usize {
    (((draw >> 32) * count as u64) >> 32) as usize
}

/// One of two members drawn by weight (M. Mitzenmacher, "The power of two choices in randomized load balancing", IEEE
/// Transactions on Parallel and Distributed Systems 12, 2001): the first, unless the second is faster, and then the second
/// with the probability 1 - its latency / that of the first.
///
/// Always taking the faster one would send everything to whichever of two equal replicas looks faster by chance, and
/// nothing at all to the slowest, whose share would then not follow its weight. Here equal members keep the shares of
/// their weights, and a member that takes ten times as long keeps about a tenth of its share.
fn of_two(table: &AliasTable, costs: &Costs, draw: u64) -> Member {
    let (first, mut bits) = (table.choose(draw), draw);
    for _ in 0..SECOND_DRAWS {
        bits = mixed(bits);
        let second = table.choose(bits);
        if second != first {
            let is_faster = unit(mixed(bits)) * costs.get(first) > costs.get(second);
            return if is_faster { second } else { first };
        }
    }
    first
}

/// Walker's alias method with Vose's initialisation: one random number, one comparison, whatever the size.
///
/// M. D. Vose, "A linear algorithm for generating random numbers with a given distribution", IEEE Transactions on
/// Software Engineering 17 (1991).
#[derive(Clone, Debug)]
struct AliasTable(Box<[Slot]>);

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Below this share of 2^32 the slot's own member is chosen, from it on the other one.
    threshold: u32,
    own: Member,
    other: Member,
}

impl AliasTable {
    /// `members` is not empty and every weight is above 0.
    fn new(members: &[(Member, f64)]) -> Self {
        let total: f64 = members.iter().map(|&(_, weight)| weight).sum();
        #[expect(clippy::cast_precision_loss, reason = "a pool has far fewer than 2^52 members")]
        let count = members.len() as f64;
        // The mean is 1: a slot below it is filled up from one above it.
        let mut share: Vec<f64> = members.iter().map(|&(_, weight)| weight / total * count).collect();
        let (mut small, mut large): (Vec<usize>, Vec<usize>) = (0..members.len()).partition(|&i| share[i] < 1.0);
        let mut slots: Vec<Slot> =
            members.iter().map(|&(own, _)| Slot { threshold: u32::MAX, own, other: own }).collect();
        while let (Some(&low), Some(&high)) = (small.last(), large.last()) {
            small.pop();
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share in [0, 1) of 2^32")]
            let threshold = (share[low] * 4_294_967_296.0) as u32;
            slots[low] = Slot { threshold, own: members[low].0, other: members[high].0 };
            share[high] -= 1.0 - share[low];
            if share[high] < 1.0 {
                large.pop();
                small.push(high);
            }
        }
        // The slots that are left are full but for rounding. They were initialised to choose their own member either
        // way.
        Self(slots.into())
    }

    #[inline]
    fn choose(&self, draw: u64) -> Member {
        let slot = self.0[place(draw, self.0.len())];
        let low = draw & u64::from(u32::MAX);
        if low < u64::from(slot.threshold) { slot.own } else { slot.other }
    }
}

/// One cycle of nginx's smooth weighted round robin: each turn every member gains its weight, the richest is
/// chosen and pays the total. Precomputed, because that state shared by threads would need a lock.
fn smooth_cycle(members: &[(Member, f64)]) -> Box<[Member]> {
    let weights = whole_weights(members);
    let total: i64 = weights.iter().sum();
    let mut credit = vec![0_i64; weights.len()];
    (0..total)
        .map(|_| {
            let mut richest = 0;
            for (index, weight) in weights.iter().enumerate() {
                credit[index] += weight;
                if credit[index] > credit[richest] {
                    richest = index;
                }
            }
            credit[richest] -= total;
            members[richest].0
        })
        .collect()
}

/// Whole numbers in the proportion of the weights, each at least 1.
fn whole_weights(members: &[(Member, f64)]) -> Vec<i64> {
    let longest = f64::from(LONGEST_CYCLE);
    // Powers of ten first, because settings contain weights such as 0.5, 1.25 and 2.
    for scale in [1.0, 10.0, 100.0, 1000.0] {
        let scaled: Vec<f64> = members.iter().map(|&(_, weight)| weight * scale).collect();
        // A decimal fraction times a power of ten is off by some units in the last place.
        if scaled.iter().all(|value| *value <= longest && (value - value.round()).abs() < 1e-9) {
            let whole: Vec<i64> = scaled.iter().map(|value| to_whole(*value)).collect();
            let divisor = whole.iter().copied().fold(0, greatest_common_divisor);
            let whole: Vec<i64> = whole.into_iter().map(|value| value / divisor).collect();
            if whole.iter().sum::<i64>() <= i64::from(LONGEST_CYCLE) {
                return whole;
            }
        }
    }
    let total: f64 = members.iter().map(|&(_, weight)| weight).sum();
    members.iter().map(|&(_, weight)| to_whole(weight / total * longest).max(1)).collect()
}

#[expect(clippy::cast_possible_truncation, reason = "the callers stay at or below LONGEST_CYCLE")]
fn to_whole(value: f64) -> i64 {
    value.round() as i64
}

fn greatest_common_divisor(a: i64, b: i64) -> i64 {
    if b == 0 { a } else { greatest_common_divisor(b, a % b) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng, rngs::SmallRng};

    use super::*;

    const DRAWS: usize = 100_000;

    fn even() -> Arc<Costs> {
        Arc::new(Costs::even(1001))
    }

    /// How often each of `members` was chosen in `draws` draws from a fixed seed.
    fn counts(members: &[(Member, f64)], balance: Balance, draws: usize, seed: u64) -> Vec<usize> {
        counts_of(&Pool::new(members, balance, &even()), members, draws, seed)
    }

    fn counts_of(pool: &Pool, members: &[(Member, f64)], draws: usize, seed: u64) -> Vec<usize> {
        let (turn, mut rng) = (AtomicUsize::new(0), SmallRng::seed_from_u64(seed));
        let mut counts = vec![0; members.len()];
        for _ in 0..draws {
            let chosen = pool.choose(&turn, rng.next_u64()).expect("the pool is not empty");
            counts[members.iter().position(|&(member, _)| member == chosen).expect("a member")] += 1;
        }
        counts
    }

    fn chi_square(counts: &[usize], weights: &[f64]) -> f64 {
        let (total, draws) = (weights.iter().sum::<f64>(), counts.iter().sum::<usize>());
        #[expect(clippy::cast_precision_loss, reason = "counts of a test")]
        counts
            .iter()
            .zip(weights)
            .map(|(&count, weight)| {
                let expected = weight / total * draws as f64;
                (count as f64 - expected).powi(2) / expected
            })
            .sum()
    }

    #[test]
    fn random_draws_follow_the_weights() {
        // chi-square with 2 degrees of freedom exceeds 13.816 with p = 0.001.
        for seed in 1..=20 {
            let counts = counts(&[(1, 1.0), (2, 2.0), (3, 7.0)], Balance::Random, DRAWS, seed);
            let statistic = chi_square(&counts, &[1.0, 2.0, 7.0]);
            assert!(statistic < 13.816, "seed {seed}: {counts:?} has chi-square {statistic}");
        }
    }

    #[test]
    fn a_thousand_members_share_evenly() {
        // 999 degrees of freedom: chi-square exceeds 1142.8 with p = 0.001.
        let members: Vec<(Member, f64)> = (1..=1000).map(|member| (member, 3.0)).collect();
        let statistic = chi_square(&counts(&members, Balance::Random, DRAWS, 1), &[3.0; 1000]);
        assert!(statistic < 1142.8, "chi-square {statistic}");
    }

    #[test]
    fn round_robin_is_exact_in_every_cycle() {
        let pool = Pool::new(&[(1, 1.0), (2, 2.0), (3, 7.0)], Balance::RoundRobin, &even());
        let (turn, mut rng) = (AtomicUsize::new(0), SmallRng::seed_from_u64(1));
        for _ in 0..DRAWS / 10 {
            let mut cycle: Vec<Member> = (0..10).filter_map(|_| pool.choose(&turn, rng.next_u64())).collect();
            cycle.sort_unstable();
            assert_eq!(cycle, [1, 2, 2, 3, 3, 3, 3, 3, 3, 3]);
        }
    }

    #[test]
    fn round_robin_spreads_a_heavy_member() {
        // nginx's own example: 5:1:1 gives a a b a c a a.
        assert_eq!(*smooth_cycle(&[(1, 5.0), (2, 1.0), (3, 1.0)]), [1, 1, 2, 1, 3, 1, 1]);
    }

    #[test]
    fn round_robin_takes_fractions() {
        assert_eq!(whole_weights(&[(1, 0.5), (2, 1.25)]), [2, 5]);
        assert_eq!(whole_weights(&[(1, 100_000.0), (2, 200_000.0)]), [21845, 43691]);
        assert_eq!(whole_weights(&[(1, 1e-9), (2, 1e9)]), [1, i64::from(LONGEST_CYCLE)]);
    }

    #[test]
    fn weight_zero_is_never_drawn() {
        for balance in [Balance::Random, Balance::RoundRobin, Balance::LeastLatency] {
            let counts = counts(&[(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)], balance, DRAWS, 3);
            assert_eq!((counts[0], counts[2]), (0, 0));
        }
    }

    /// How many of 100,000 reads go to each of members 1, 2, ... that take so many milliseconds.
    fn by_latency(members: &[(Member, f64)], milliseconds: &[f64]) -> Vec<usize> {
        let costs = even();
        let seconds: Vec<_> = [None].into_iter().chain(milliseconds.iter().map(|ms| Some(ms / 1e3))).collect();
        costs.publish(&seconds);
        counts_of(&Pool::new(members, Balance::LeastLatency, &costs), members, DRAWS, 1)
    }

    #[test]
    fn members_of_one_latency_keep_the_shares_of_their_weights() {
        let counts = by_latency(&[(1, 1.0), (2, 2.0), (3, 7.0)], &[4.0, 4.0, 4.0]);
        let statistic = chi_square(&counts, &[1.0, 2.0, 7.0]);
        assert!(statistic < 13.816, "{counts:?} has chi-square {statistic}");
    }

    #[test]
    fn a_slow_member_keeps_the_part_of_its_share_that_it_is_as_fast() {
        // Half of the draws begin at the slow one, and one in ten of them stays: 5 %, with a standard deviation of 0.07 %.
        let counts = by_latency(&[(1, 1.0), (2, 1.0)], &[1.0, 10.0]);
        assert!((4_700..=5_300).contains(&counts[1]), "{counts:?}");
    }

    #[test]
    fn what_is_faster_by_chance_does_not_draw_everything_to_itself() {
        let counts = by_latency(&[(1, 1.0), (2, 1.0), (3, 1.0)], &[1.00, 1.01, 1.02]);
        assert!(counts.iter().all(|count| (32_000..=35_000).contains(count)), "{counts:?}");
    }

    #[test]
    fn the_slowest_of_many_is_tried_now_and_then() {
        let counts = by_latency(&[(1, 1.0), (2, 1.0), (3, 1.0)], &[1.0, 1.0, 100.0]);
        // A third begins there, and one in a hundred of them stays: 333, with a standard deviation of 18.
        assert!((250..=420).contains(&counts[2]), "{counts:?}");
    }

    #[test]
    fn an_empty_pool_chooses_nothing() {
        let turn = AtomicUsize::new(0);
        assert_eq!(Pool::new(&[(1, 0.0)], Balance::Random, &even()).choose(&turn, 1), None);
    }

    #[test]
    fn a_preview_takes_no_turn() {
        let pool = Pool::new(&[(1, 1.0), (2, 1.0)], Balance::RoundRobin, &even());
        let turn = AtomicUsize::new(0);
        let shown = pool.preview(&turn, 1);
        assert_eq!(pool.preview(&turn, 1), shown);
        assert_eq!(pool.choose(&turn, 1), shown);
        assert_ne!(pool.preview(&turn, 1), shown);
    }

    proptest! {
        /// The table is an exact rearrangement of the weights: summing what each slot gives to a member gives its
        /// share back, to the 2^-32 a threshold is kept in.
        #[test]
        fn an_alias_table_keeps_every_share(weights in prop::collection::vec(1e-3..1e3, 2..200)) {
            let members: Vec<(Member, f64)> = (0..).zip(weights.iter().copied()).collect();
            let table = AliasTable::new(&members);
            let (total, slots) = (weights.iter().sum::<f64>(), f64::from(u32::try_from(weights.len()).unwrap()));
            let mut share = vec![0.0; weights.len()];
            for slot in &table.0 {
                let own = f64::from(slot.threshold) / 4_294_967_296.0;
                share[slot.own as usize] += own / slots;
                share[slot.other as usize] += (1.0 - own) / slots;
            }
            for (share, weight) in share.iter().zip(&weights) {
                prop_assert!((share - weight / total).abs() < 1e-8, "{share} for {weight} of {total}");
            }
        }

        #[test]
        fn a_cycle_is_as_long_as_its_weights(weights in prop::collection::vec(1_u16..50, 2..20)) {
            let members: Vec<(Member, f64)> = (0..).zip(weights.iter().map(|&weight| f64::from(weight))).collect();
            let cycle = smooth_cycle(&members);
            let whole = whole_weights(&members);
            for (index, expected) in (0..).zip(whole) {
                let count = cycle.iter().filter(|&&member| member == index).count();
                prop_assert_eq!(i64::try_from(count).unwrap(), expected);
            }
        }
    }
}
