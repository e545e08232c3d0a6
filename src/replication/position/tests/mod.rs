mod properties;

use super::*;

const A: &str = "11111111-1111-1111-1111-11111111111a";
const B: &str = "22222222-2222-2222-2222-22222222222b";
const HIGHEST: u64 = 9_223_372_036_854_775_806;

fn gtid_set(text: &str) -> Position {
    Position::parse(Kind::MySql, text).expect("a GTID set")
}

/// A GTID set in which A and B stand for UUIDs.
fn mysql(text: &str) -> Position {
    gtid_set(&text.replace('A', A).replace('B', B))
}

fn mariadb(text: &str) -> Position {
    Position::parse(Kind::MariaDb, text).expect("a MariaDB position")
}

fn postgresql(text: &str) -> Position {
    Position::parse(Kind::PostgreSql, text).expect("a PostgreSQL position")
}

/// The canonical text, with the UUIDs as A and B again.
fn canonical(text: &str) -> String {
    mysql(text).to_string().replace(A, "A").replace(B, "B")
}

fn complaint(kind: Kind, text: &str) -> String {
    let text = if kind == Kind::MySql { text.replace('A', A).replace('B', B) } else { text.to_owned() };
    Position::parse(kind, &text).expect_err("no position").to_string().replace(A, "A").replace(B, "B")
}

#[test]
fn a_gtid_set_is_printed_as_the_server_prints_it() {
    for (text, expected) in [
        ("", ""),
        (" \n", ""),
        ("A:1", "A:1"),
        ("A:1-5:7", "A:1-5:7"),
        ("A:7:1-3:2-5", "A:1-5:7"),
        ("A:1-3:4", "A:1-4"),
        ("A:01-003", "A:1-3"),
        ("A:1,A:3,A:2", "A:1-3"),
        (" A : 1 - 3 : 5 \r\n,\nB:1\t", "A:1-3:5,B:1"),
        ("B:3,A:b:1:a:2,A:1,B:2", "A:1:a:2:b:1,B:2-3"),
        ("A:1:tag:2:Foo:3:4-5:TaG:9", "A:1:foo:3-5:tag:2:9"),
        ("A:1:_a0:7", "A:1:_a0:7"),
        ("A:1-9223372036854775806", "A:1-9223372036854775806"),
        ("A:9223372036854775806:1:9223372036854775805", "A:1:9223372036854775805-9223372036854775806"),
    ] {
        assert_eq!(canonical(text), expected, "{text}");
    }
    assert_eq!(gtid_set(&format!("{}:TAG:1", A.to_uppercase())), mysql("A:tag:1"));
}

#[test]
fn what_is_wrong_with_a_gtid_set_is_named() {
    for (text, part, expected) in [
        ("A", "A", "followed by a transaction number"),
        ("A:", "", "a transaction number or a tag"),
        ("A:1:", "", "a transaction number or a tag"),
        ("A:tag", "tag", "followed by a transaction number"),
        ("A:1:tag", "tag", "followed by a transaction number"),
        ("A:tag:gat:1", "tag", "followed by a transaction number"),
        ("A:0", "0", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:5-3", "5-3", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:1-", "1-", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:1-+2", "1-+2", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:1-2-3", "1-2-3", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:1 2", "1 2", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:9223372036854775807", "9223372036854775807", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:18446744073709551617", "18446744073709551617", "a transaction number, 1 to 2^63 - 2, or a range of them"),
        ("A:-3", "-3", "a transaction number or a tag"),
        ("A:a-b:1", "a-b", "a transaction number or a tag"),
        ("A:\u{e9}:1", "\u{e9}", "a transaction number or a tag"),
        (",A:1", "", "a server's UUID"),
        ("A:1,", "", "a server's UUID"),
        ("A:1,,B:1", "", "a server's UUID"),
        ("{A}:1", "{A}", "a server's UUID"),
        ("1:1", "1", "a server's UUID"),
        ("1234567890123456789012345678901234-6:1", "1234567890123456789012345678901234-6", "a server's UUID"),
        ("1111111g-1111-1111-1111-111111111111:1", "1111111g-1111-1111-1111-111111111111", "a server's UUID"),
    ] {
        assert_eq!(
            complaint(Kind::MySql, text),
            format!("not a mysql position: {text:?}: {part:?} is not {expected}"),
            "{text}"
        );
    }
}

#[test]
fn a_tag_has_at_most_32_bytes() {
    mysql(&format!("A:{}:1", "a".repeat(32)));
    assert!(
        complaint(Kind::MySql, &format!("A:{}:1", "a".repeat(33))).ends_with("is not a transaction number or a tag")
    );
}

#[test]
fn a_mariadb_position_is_printed_as_the_server_prints_it() {
    for (text, expected) in [
        ("", ""),
        ("0-1-5", "0-1-5"),
        ("2-3-7, 0-1-5\n", "0-1-5,2-3-7"),
        ("00-01-005", "0-1-5"),
        ("0-1-5,3-1-0", "0-1-5"),
        ("4294967295-4294967295-18446744073709551615", "4294967295-4294967295-18446744073709551615"),
    ] {
        assert_eq!(mariadb(text).to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_mariadb_position_is_named() {
    for text in [
        "0",
        "0-1",
        "0-1-",
        "0-1-x",
        "0-1-+5",
        "-0-1-5",
        "0-1-2-3",
        "4294967296-1-1",
        "0-4294967296-1",
        "0-1-18446744073709551616",
    ] {
        let message = format!("not a mariadb position: {text:?}: {text:?} is not a GTID, domain-server-sequence");
        assert_eq!(complaint(Kind::MariaDb, text), message);
    }
    for text in [",0-1-5", "0-1-5,", "0-1-5,,1-1-1"] {
        assert!(complaint(Kind::MariaDb, text).ends_with(r#""" is not a GTID, domain-server-sequence"#), "{text}");
    }
    assert!(complaint(Kind::MariaDb, "0-1-5,1-1-1,0-2-7").ends_with(r#""0-2-7" is not the only GTID of its domain"#));
}

#[test]
fn a_postgresql_position_is_printed_as_the_server_prints_it() {
    for (text, expected) in [
        ("1:0/0", "1:0/0"),
        ("1:0/16b3748", "1:0/16B3748"),
        (" 01:01/00000002\n", "1:1/2"),
        ("4294967295:FFFFFFFF/FFFFFFFF", "4294967295:FFFFFFFF/FFFFFFFF"),
    ] {
        assert_eq!(postgresql(text).to_string(), expected, "{text}");
    }
}

#[test]
fn what_is_wrong_with_a_postgresql_position_is_named() {
    for text in ["", "0/16B3748", "0:0/1", "x:0/1", "+1:0/1", "4294967296:0/1"] {
        let message = complaint(Kind::PostgreSql, text);
        assert!(message.ends_with("is not the number of a timeline, before a colon"), "{message}");
    }
    for text in ["1:", "1:0", "1:/1", "1:A/", "1:0x1/2", "1:+1/2", "1:1/2/3", "1:000000001/1", "1:0/100000000"] {
        assert!(complaint(Kind::PostgreSql, text).ends_with(&format!("{:?} is not an LSN", &text[2..])), "{text}");
    }
}

#[test]
fn input_is_bounded_and_all_within_the_bound_can_be_read_back() {
    let spaces = " ".repeat(MAX_TEXT);
    assert_eq!(mysql(&spaces), mysql(""));
    for kind in Kind::ALL {
        let too_long = Position::parse(kind, &format!("{spaces} "));
        assert_eq!(too_long, Err(PositionError::TooLong { kind, length: MAX_TEXT + 1 }));
    }
    // As long as intervals can be: each with a UUID of its own, the longest tag and 19 digits twice.
    let tag = "t".repeat(32);
    let longest = |number: usize| format!("{:08x}{}:{tag}:{}-{HIGHEST}", number, &A[8..], HIGHEST - 1);
    let text: Vec<String> = (0..MAX_PARTS).map(longest).collect();
    let position = mysql(&text.join(","));
    assert_eq!(mysql(&position.to_string()), position);
    let more = mysql(&longest(MAX_PARTS));
    let too_many = Err(PositionError::TooManyParts { kind: Kind::MySql, parts: MAX_PARTS + 1 });
    assert_eq!(position.union(&more), too_many);
    let domains: Vec<String> = (0..=MAX_PARTS).map(|domain| format!("{domain}-1-1")).collect();
    let too_many = Err(PositionError::TooManyParts { kind: Kind::MariaDb, parts: MAX_PARTS + 1 });
    assert_eq!(Position::parse(Kind::MariaDb, &domains.join(",")), too_many);
}

#[test]
fn an_error_repeats_only_the_beginning_of_a_text() {
    for text in ["\u{e9}".repeat(100_000), format!("A:{}", "9".repeat(100_000))] {
        assert!(complaint(Kind::MySql, &text).len() < 1000);
    }
}

#[test]
fn a_set_contains_what_lies_in_its_intervals() {
    let have = mysql("A:1-5:7:tag:3,B:9223372036854775806");
    for text in ["", "A:1", "A:5", "A:7", "A:1-5:7", "A:2-3:5:7", "A:tag:3", "B:9223372036854775806"] {
        assert!(have.contains(&mysql(text)), "{text}");
    }
    for text in ["A:6", "A:5-6", "A:5-7", "A:8", "A:7-8", "A:1:6", "A:tag:1", "A:gat:3", "B:1", "B:tag:1"] {
        assert!(!have.contains(&mysql(text)), "{text}");
    }
}

#[test]
fn within_a_mariadb_domain_the_number_alone_is_the_order() {
    let have = mariadb("0-1-5,2-3-7");
    for text in ["", "0-1-5", "0-1-4", "0-9-4", "2-1-6", "0-1-5,2-3-7", "3-1-0"] {
        assert!(have.contains(&mariadb(text)), "{text}");
    }
    for text in ["0-1-6", "0-9-6", "3-1-1", "0-1-5,2-3-8", "0-1-1,1-1-1"] {
        assert!(!have.contains(&mariadb(text)), "{text}");
        assert!(have.comparable(&mariadb(text)), "{text}");
    }
}

#[test]
fn the_same_number_of_two_mariadb_servers_is_a_history_that_parted() {
    let (lost, successor) = (mariadb("0-1-5"), mariadb("0-2-5,1-2-1"));
    assert!(!lost.comparable(&successor) && !successor.comparable(&lost));
    assert!(!lost.contains(&successor) && !successor.contains(&lost));
    let error = lost.union(&successor).expect_err("no union").to_string();
    assert_eq!(error, r#""0-1-5" (mariadb) and "0-2-5,1-2-1" (mariadb) cannot be compared"#);
    assert!(mariadb("0-2-6").contains(&lost));
}

#[test]
fn an_lsn_says_nothing_about_another_timeline() {
    let here = postgresql("2:1/0");
    assert!(here.contains(&postgresql("2:0/FFFFFFFF")));
    assert!(!here.contains(&postgresql("2:1/1")));
    assert!(!here.contains(&postgresql("1:0/1")));
    assert!(!here.comparable(&postgresql("1:0/1")));
    assert!(here.union(&postgresql("3:0/1")).is_err());
    assert_eq!(here.union(&postgresql("2:1/1")), Ok(postgresql("2:1/1")));
}

#[test]
fn positions_of_two_kinds_cannot_be_compared() {
    let positions = [mysql(""), mariadb(""), postgresql("1:0/0")];
    for (place, one) in positions.iter().enumerate() {
        for (other_place, other) in positions.iter().enumerate() {
            assert_eq!(one.comparable(other), place == other_place);
            assert_eq!(one.contains(other), place == other_place);
            assert_eq!(one.union(other).is_ok(), place == other_place);
        }
    }
}

#[test]
fn a_set_is_shortened_by_closing_its_narrowest_gaps() {
    let shortened = |text: &str, limit: usize| {
        // Each UUID is 35 bytes longer than the letter that stands for it here.
        let uuids = text.matches(['A', 'B']).count();
        let text = mysql(text).shortened(limit + 35 * uuids)?.to_string();
        Some(text.replace(A, "A").replace(B, "B"))
    };
    // Gaps of 2, 999,990 and 1 numbers.
    let text = "A:1-5:8-10:1000001-1000020:1000022-1000030";
    assert_eq!(shortened(text, 42).as_deref(), Some(text));
    assert_eq!(shortened(text, 41).as_deref(), Some("A:1-5:8-10:1000001-1000030"));
    assert_eq!(shortened(text, 26).as_deref(), Some("A:1-5:8-10:1000001-1000030"));
    assert_eq!(shortened(text, 25).as_deref(), Some("A:1-10:1000001-1000030"));
    assert_eq!(shortened(text, 21).as_deref(), Some("A:1-1000030"));
    assert_eq!(shortened(text, 11).as_deref(), Some("A:1-1000030"));
    assert_eq!(shortened(text, 10), None);
    // No gap is closed between tags or UUIDs.
    assert_eq!(shortened("A:1-3:5-7:x:9-11:13-15,B:8", 20).as_deref(), Some("A:1-7:x:9-15,B:8"));
    assert_eq!(shortened("A:1:x:9,B:8", 10), None);
    assert_eq!(
        shortened("A:1:9223372036854775804-9223372036854775806", 30).as_deref(),
        Some("A:1-9223372036854775806")
    );
}

#[test]
fn a_set_of_many_intervals_becomes_one_of_few_that_contains_it() {
    let few = |text: &str, most| mysql(text).of_few_intervals(most).to_string().replace(A, "A").replace(B, "B");
    let text = "A:1-5:8-10:1000001-1000020:1000022-1000030,B:8";
    assert_eq!(few(text, 5), text);
    assert_eq!(few(text, 4), "A:1-5:8-10:1000001-1000030,B:8");
    assert_eq!(few(text, 3), "A:1-10:1000001-1000030,B:8");
    // One for each UUID is the least there is.
    assert_eq!(few(text, 2), "A:1-1000030,B:8");
    assert_eq!(few(text, 1), text);
    assert_eq!(mariadb("0-1-5,2-3-7").of_few_intervals(1), mariadb("0-1-5,2-3-7"));
}

#[test]
fn what_has_no_gaps_is_shortened_to_nothing_else() {
    assert_eq!(mariadb("0-1-5,2-3-7").shortened(11), Some(mariadb("0-1-5,2-3-7")));
    assert_eq!(mariadb("0-1-5,2-3-7").shortened(10), None);
    assert_eq!(postgresql("1:0/16B3748").shortened(11), Some(postgresql("1:0/16B3748")));
    assert_eq!(postgresql("1:0/16B3748").shortened(10), None);
    assert_eq!(mysql("").shortened(0), Some(mysql("")));
}
