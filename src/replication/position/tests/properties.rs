//! Properties of every position: they match a naive model and the laws of an order.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use proptest::prelude::*;

use super::*;

const HIGHEST: u64 = 9_223_372_036_854_775_806;

/// Every transaction of a set, one by one.
type Model = BTreeSet<(usize, usize, u64)>;

const UUIDS: [&str; 3] = [A, B, "11111111-1111-1111-1111-21111111111a"];
const TAGS: [&str; 4] = ["", "a", "_b0", "ab"];

/// A GTID set in an untidy notation, and its contents. Some lie at the upper end.
fn gtid_sets() -> impl Strategy<Value = (String, Model)> {
    let spaces = prop::sample::select(vec!["", "", "", " ", "\n", "\t "]);
    let interval = (0..UUIDS.len(), 0..TAGS.len(), 1_u64..40, 0_u64..6, any::<[bool; 3]>(), spaces);
    prop::collection::vec(interval, 0..30).prop_map(|intervals| {
        let (mut pieces, mut model, mut open) = (Vec::new(), Model::new(), None);
        for (uuid, tag, first, more, [upper, high, grouped], space) in intervals {
            let first = if high { HIGHEST - first - more } else { first };
            let last = first + more;
            model.extend((first..=last).map(|number| (uuid, tag, number)));
            let (name, label) = if upper {
                (UUIDS[uuid].to_uppercase(), TAGS[tag].to_uppercase())
            } else {
                (UUIDS[uuid].to_owned(), TAGS[tag].to_owned())
            };
            let label = if label.is_empty() { label } else { format!("{space}{label}:") };
            let separator = if pieces.is_empty() { "" } else { "," };
            // In the same item, where that says the same.
            pieces.push(match open {
                Some(before) if grouped && before == (uuid, tag) => ":".to_owned(),
                Some((before, _)) if grouped && before == uuid && tag != 0 => format!(":{label}"),
                _ => format!("{separator}{space}{name}{space}:{label}"),
            });
            open = Some((uuid, tag));
            let range = format!("{first}{space}-{space}{last}{space}");
            pieces.push(if more == 0 { format!("{space}{first}") } else { range });
        }
        (pieces.concat(), model)
    })
}

/// MariaDB: the number and the server of each domain.
fn mariadb_positions() -> impl Strategy<Value = (String, BTreeMap<u32, (u64, u32)>)> {
    prop::collection::btree_map(0_u32..4, (1_u64..5, 1_u32..3), 0..4).prop_map(|model| {
        let gtids = model.iter().rev().map(|(domain, (sequence, server))| format!("{domain}-{server}-{sequence}"));
        (gtids.collect::<Vec<_>>().join(" , "), model)
    })
}

fn positions() -> impl Strategy<Value = Position> {
    let lsn = (1_u32..3, prop_oneof![0_u64..6, u64::MAX - 5..=u64::MAX, (1_u64 << 32) - 3..(1 << 32) + 3]);
    prop_oneof![
        4 => gtid_sets().prop_map(|(text, _)| gtid_set(&text)),
        4 => mariadb_positions().prop_map(|(text, _)| mariadb(&text)),
        2 => lsn.prop_map(|(timeline, place)| postgresql(&format!("{timeline}:{:x}/{:x}", place >> 32, place & 0xffff_ffff))),
    ]
}

/// Positions that are often near each other: of one kind, one larger than the other.
fn near() -> impl Strategy<Value = [Position; 3]> {
    ([positions(), positions(), positions()], any::<[bool; 2]>()).prop_map(|([a, b, c], grow)| {
        let b = if grow[0] { a.union(&b).unwrap_or(b) } else { b };
        let c = if grow[1] { b.union(&c).unwrap_or(c) } else { c };
        [a, b, c]
    })
}

fn hashed(position: &Position) -> u64 {
    let mut hasher = DefaultHasher::new();
    position.hash(&mut hasher);
    hasher.finish()
}

/// A text with a few bytes put in, taken out, doubled or replaced.
fn mutated() -> impl Strategy<Value = (Kind, String)> {
    let change = (
        any::<prop::sample::Index>(),
        0..4,
        prop::sample::select(" ,:-/\n0159afgzAF_{}\u{e9}\u{0}+".chars().collect::<Vec<_>>()),
    );
    (positions(), prop::collection::vec(change, 1..5)).prop_map(|(position, changes)| {
        let mut text: Vec<char> = position.to_string().chars().collect();
        for (place, what, with) in changes {
            let place = place.index(text.len() + 1);
            match what {
                0 => text.insert(place, with),
                1 if place < text.len() => drop(text.remove(place)),
                2 => text.extend_from_within(..place),
                _ if place < text.len() => text[place] = with,
                _ => text.push(with),
            }
        }
        (position.kind(), text.into_iter().collect())
    })
}

proptest! {
    #[test]
    fn a_gtid_set_agrees_with_the_set_of_its_transactions((text, model) in gtid_sets(), (other, theirs) in gtid_sets()) {
        let (have, want) = (gtid_set(&text), gtid_set(&other));
        prop_assert_eq!(have.contains(&want), model.is_superset(&theirs));
        prop_assert_eq!(have == want, model == theirs);
        let union = have.union(&want).expect("sets have a union");
        let both: Model = model.union(&theirs).copied().collect();
        for &(uuid, tag, number) in &both {
            let tag = if tag == 0 { String::new() } else { format!("{}:", TAGS[tag]) };
            let one = gtid_set(&format!("{}:{tag}{number}", UUIDS[uuid]));
            prop_assert!(union.contains(&one));
        }
        let Position::MySql(set) = &union else { unreachable!() };
        prop_assert_eq!(set.transactions(), both.len() as u64);
    }

    #[test]
    fn a_mariadb_position_agrees_with_the_numbers_of_its_domains(
        (text, model) in mariadb_positions(), (other, theirs) in mariadb_positions(),
    ) {
        let (have, want) = (mariadb(&text), mariadb(&other));
        let has = |(domain, gtid): (&u32, &(u64, u32))| model.get(domain).is_some_and(|own| own.0 > gtid.0 || own == gtid);
        prop_assert_eq!(have.contains(&want), theirs.iter().all(has));
        if let Ok(union) = have.union(&want) {
            let mut both = model.clone();
            for (domain, gtid) in theirs {
                let own = both.entry(domain).or_insert(gtid);
                *own = gtid.max(*own);
            }
            let gtids: Vec<_> = both.iter().map(|(domain, (sequence, server))| format!("{domain}-{server}-{sequence}")).collect();
            prop_assert_eq!(union.to_string(), gtids.join(","));
        }
    }

    #[test]
    fn what_is_printed_is_read_back(position in positions()) {
        let text = position.to_string();
        let again = Position::parse(position.kind(), &text);
        prop_assert_eq!(again.as_ref(), Ok(&position));
        prop_assert_eq!(hashed(&again.expect("read back")), hashed(&position));
        prop_assert!(!text.contains(char::is_whitespace));
    }

    #[test]
    fn containing_is_a_partial_order([a, b, c] in near()) {
        prop_assert!(a.contains(&a));
        prop_assert!(!(a.contains(&b) && b.contains(&a)) || a == b);
        prop_assert!(!(a.contains(&b) && b.contains(&c)) || a.contains(&c));
        prop_assert!(!(c.contains(&b) && b.contains(&a)) || c.contains(&a));
    }

    #[test]
    fn what_contains_or_is_contained_is_comparable([a, b, _] in near()) {
        prop_assert_eq!(a.comparable(&b), b.comparable(&a));
        prop_assert!(a.comparable(&b) || !a.contains(&b) && !b.contains(&a));
        prop_assert_eq!(a.comparable(&b), a.union(&b).is_ok());
    }

    #[test]
    fn a_union_is_the_least_that_contains_both([a, b, bound] in near()) {
        prop_assert_eq!(a.union(&b).ok(), b.union(&a).ok());
        if let Ok(union) = a.union(&b) {
            prop_assert!(union.contains(&a) && union.contains(&b));
            prop_assert_eq!(bound.contains(&union), bound.contains(&a) && bound.contains(&b));
        }
    }

    #[test]
    fn a_shortened_position_fits_and_is_not_smaller(position in positions(), limit in 0_usize..400) {
        match position.shortened(limit) {
            Some(shortened) => {
                prop_assert!(shortened.to_string().len() <= limit);
                prop_assert!(shortened.contains(&position));
                prop_assert!(shortened == position || position.to_string().len() > limit);
            }
            None => prop_assert!(position.to_string().len() > limit),
        }
    }

    #[test]
    fn no_text_makes_it_panic(text in any::<String>()) {
        for kind in Kind::ALL {
            if let Err(error) = Position::parse(kind, &text) {
                prop_assert!(error.to_string().contains(kind.name()));
            }
        }
    }

    #[test]
    fn a_damaged_text_is_an_error_or_another_position((kind, text) in mutated()) {
        match Position::parse(kind, &text) {
            Ok(position) => {
                let printed = position.to_string();
                prop_assert!(printed.len() <= text.len(), "{printed} is longer than {text}");
                prop_assert_eq!(Position::parse(kind, &printed), Ok(position));
            }
            Err(error) => {
                let begins = format!("not a {kind} position: ");
                prop_assert!(error.to_string().starts_with(&begins));
            }
        }
    }
}
