"""Positions, judged by the servers that count them: what they print is read, and what they compare compares alike."""

from __future__ import annotations

import copy
import pickle
import string
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from replicant._core import Position
from tests.servers import Cluster, QueryError, start

HIGHEST = 2**63 - 2
UUIDS = [
    "00000000-0000-0000-0000-000000000001",
    "3e11fa47-71ca-11e1-9e33-c80aa9429562",
    "3e11fa47-71ca-11e1-9e33-d80aa9429562",
    "ffffffff-ffff-ffff-ffff-ffffffffffff",
]
TAGS = ["", "", "a", "a_", "a0", "_", "ab", "z" * 32]
KINDS = {"mysql": f"{UUIDS[1]}:1-5:7:tag:3", "mariadb": "0-1-5,2-3-7", "postgresql": "1:0/16B3748"}

#: Many cases go into one question: a case costs some ten microseconds then.
many = settings(max_examples=40, deadline=None)


# As Python values.


@pytest.mark.parametrize(("kind", "text"), KINDS.items())
def test_a_position_is_a_value(kind: str, text: str):
    position, same = Position(kind, text), Position(kind, f" {text}\n")
    assert position == same
    assert hash(position) == hash(same)
    assert (position.kind, str(position)) == (kind, text)
    assert repr(position) == f"Position('{kind}', '{text}')"
    assert eval(repr(position)) == position
    assert position != text
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(position, protocol)) == position
    assert copy.deepcopy(position) == position
    with pytest.raises(AttributeError):
        position.kind = "mysql"  # type: ignore[misc,assignment]


def test_bad_texts_are_value_errors_that_name_them():
    for kind, text in [("mysql", "3e11fa47:1"), ("mariadb", "0-1"), ("postgresql", "0/16B3748")]:
        with pytest.raises(ValueError, match=f'^not a {kind} position: "{text}": ".*" is not '):
            Position(kind, text)
    with pytest.raises(ValueError, match=r'^unknown kind of position "sqlite": expected mysql, mariadb, postgresql$'):
        Position("sqlite", "1")
    with pytest.raises(ValueError, match="surrogates"):
        Position("mysql", "\ud800")
    with pytest.raises(ValueError, match=r"^a mysql position of 2000000 bytes: 1048576 is the most that is read$"):
        Position("mysql", " " * 2_000_000)


def test_positions_of_two_kinds_do_not_mix():
    mysql, postgresql = Position("mysql", ""), Position("postgresql", "1:0/0")
    assert mysql != postgresql
    assert not mysql.comparable(postgresql)
    assert not mysql.contains(postgresql)
    with pytest.raises(ValueError, match=r'^"" \(mysql\) and "1:0/0" \(postgresql\) cannot be compared$'):
        mysql.union(postgresql)


def test_a_set_is_cut_to_a_kibibyte_by_asking_for_more():
    gappy = Position("mysql", f"{UUIDS[1]}:" + ":".join(str(number) for number in range(1, 2000, 3)))
    shortened = gappy.shortened(1024)
    assert shortened is not None
    assert len(str(shortened)) <= 1024
    assert shortened.contains(gappy)
    assert gappy.shortened(len(str(gappy))) == gappy
    assert gappy.shortened(40) is None


def damaged(texts: st.SearchStrategy[str], characters: str) -> st.SearchStrategy[str]:
    """Texts with a few characters put in, taken out or exchanged."""

    @st.composite
    def change(draw: st.DrawFn) -> str:
        text = draw(texts)
        for _ in range(draw(st.integers(1, 3))):
            place = draw(st.integers(0, len(text)))
            text = text[:place] + draw(st.text(characters, max_size=2)) + text[place + draw(st.integers(0, 1)) :]
        return text

    return change()


# MySQL.


@pytest.fixture(scope="module")
def mysql() -> Iterator[Cluster]:
    with start("mysql", replicas=1) as cluster:
        yield cluster


@st.composite
def gtid_sets(draw: st.DrawFn) -> str:
    """A GTID set as a person might write it, in any order."""
    text, space = "", st.sampled_from(["", "", "", " ", "\n"])
    for _ in range(draw(st.integers(0, 12))):
        separator = draw(st.sampled_from([",", ",", ":"])) if text else ""
        if separator != ":":
            tag = draw(st.sampled_from(TAGS))
            item = draw(space) + draw(st.sampled_from(UUIDS)) + draw(space) + ":" + (tag and f"{tag}{draw(space)}:")
            text += separator + (item.upper() if draw(st.booleans()) else item)
        else:
            tag = draw(st.sampled_from(TAGS))
            text += ":" + (tag and f"{tag}:")
        first = draw(st.integers(1, 30) | st.integers(HIGHEST - 30, HIGHEST))
        last = min(HIGHEST, first + draw(st.integers(0, 8)))
        text += draw(st.sampled_from([f"{first}", f"{first:03}"])) if first == last else f"{first}{draw(space)}-{last}"
    return text


pairs_of_gtid_sets = st.tuples(gtid_sets(), gtid_sets()) | st.builds(
    # Pairs of which one contains the other are rare among any two.
    lambda one, two: (f"{one},{two}" if one and two else one or two, one),
    gtid_sets(),
    gtid_sets(),
)


def print_gtid_set(text: str) -> str:
    """An expression whose value is the set as the server prints it."""
    return f"GTID_SUBTRACT('{text}', '')"


def one_line(text: str) -> str:
    return text.replace("\n", "")


@many
@given(pairs=st.lists(pairs_of_gtid_sets, min_size=20, max_size=20))
def test_mysql_compares_gtid_sets_alike(mysql: Cluster, pairs: list[tuple[str, str]]):
    columns = [
        f"GTID_SUBSET('{b}', '{a}'), GTID_SUBTRACT('{b}', '{a}'), {print_gtid_set(a)}, {print_gtid_set(f'{a},{b}')}"
        for a, b in pairs
    ]
    answers = iter(mysql.primary.query(f"SELECT {', '.join(columns)}")[0])
    for a, b in pairs:
        is_subset, difference, canonical, both = (next(answers) for _ in range(4))
        have, want = Position("mysql", a), Position("mysql", b)
        assert have.contains(want) is (is_subset == "1") is (difference == "")
        assert str(have) == one_line(canonical)
        assert Position("mysql", canonical) == have
        union = have.union(want)
        assert str(union) == one_line(both)
        # What the server says is missing is missing, and nothing else.
        assert have.union(Position("mysql", difference)) == union


@many
@given(texts=st.lists(gtid_sets(), min_size=10, max_size=10), limit=st.integers(0, 300))
def test_mysql_finds_a_shortened_set_not_smaller(mysql: Cluster, texts: list[str], limit: int):
    shortened = [(text, Position("mysql", text).shortened(limit)) for text in texts]
    columns = [f"GTID_SUBSET('{text}', '{larger}')" for text, larger in shortened if larger is not None]
    assert all(len(str(larger)) <= limit for _, larger in shortened if larger is not None)
    if columns:
        assert set(mysql.primary.query(f"SELECT {', '.join(columns)}")[0]) == {"1"}


@many
@given(texts=st.lists(damaged(gtid_sets(), " ,:-\n019afgz_{}+"), min_size=10, max_size=10))
def test_a_damaged_gtid_set_is_read_as_mysql_reads_it_or_not_at_all(mysql: Cluster, texts: list[str]):
    for text in texts:
        try:
            canonical = mysql.primary.value(f"SELECT {print_gtid_set(text)}")
        except QueryError:
            with pytest.raises(ValueError, match=r"^not a mysql position"):
                Position("mysql", text)
            continue
        try:
            position = Position("mysql", text)
        except ValueError:
            position = Position("mysql", canonical)
        assert str(position) == one_line(canonical)


def test_positions_of_mysql_grow_with_writes_tags_and_failovers(mysql: Cluster):
    def position() -> Position:
        text = mysql.primary.value("SELECT @@GLOBAL.gtid_executed")
        assert str(Position("mysql", text)) == one_line(text)
        return Position("mysql", text)

    before = position()
    mysql.create_database("positions")
    mysql.primary.query("SET SESSION gtid_next = 'AUTOMATIC:blue'")
    mysql.primary.query("CREATE TABLE positions.tagged (id INT)")
    mysql.primary.query("SET SESSION gtid_next = 'AUTOMATIC'")
    tagged = position()
    assert ":blue:1" in str(tagged)
    assert tagged.contains(before)
    assert not before.contains(tagged)
    mysql.wait_until_caught_up()
    mysql.promote(mysql.replicas[0])
    assert position().contains(tagged)
    mysql.create_database("positions")
    after = position()
    assert after.contains(tagged)
    assert not tagged.contains(after)
    assert "," in str(after)


# MariaDB.


@pytest.fixture(scope="module")
def mariadb() -> Iterator[Cluster]:
    with start("mariadb", replicas=1) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def lone_mariadb() -> Iterator[Cluster]:
    """A server whose position as a replica can be set at will."""
    with start("mariadb", replicas=0) as cluster:
        yield cluster


numbers = st.integers(1, 5) | st.integers(2**64 - 3, 2**64 - 1)
mariadb_positions = st.dictionaries(
    st.sampled_from([0, 1, 7, 2**32 - 1]), st.tuples(st.sampled_from([1, 2, 2**32 - 1]), numbers), max_size=4
).map(lambda gtids: ",".join(f"{domain}-{server}-{number}" for domain, (server, number) in gtids.items()))


@many
@given(text=mariadb_positions, others=st.lists(mariadb_positions, min_size=20, max_size=20))
def test_mariadb_compares_positions_alike_where_histories_have_not_parted(
    lone_mariadb: Cluster, text: str, others: list[str]
):
    node = lone_mariadb.primary
    node.query(f"SET GLOBAL gtid_slave_pos = '{text}'")
    have = Position("mariadb", text)
    assert str(have) == node.value("SELECT @@GLOBAL.gtid_slave_pos")
    waits = ", ".join(f"MASTER_GTID_WAIT('{other}', 0)" for other in others)
    for other, answer in zip(others, node.query(f"SELECT {waits}")[0], strict=True):
        want = Position("mariadb", other)
        if have.comparable(want):
            assert have.contains(want) is (answer == "0")
        else:
            assert not have.contains(want)


@many
@given(a=mariadb_positions, b=mariadb_positions)
def test_mariadb_at_a_union_has_reached_both(lone_mariadb: Cluster, a: str, b: str):
    one, two = Position("mariadb", a), Position("mariadb", b)
    if not one.comparable(two):
        with pytest.raises(ValueError, match=r"cannot be compared$"):
            one.union(two)
        return
    node = lone_mariadb.primary
    node.query(f"SET GLOBAL gtid_slave_pos = '{one.union(two)}'")
    assert node.query(f"SELECT MASTER_GTID_WAIT('{a}', 0), MASTER_GTID_WAIT('{b}', 0)") == [("0", "0")]


@many
@given(texts=st.lists(damaged(mariadb_positions, " ,:-\n01456789x+"), min_size=5, max_size=5))
def test_a_damaged_position_is_read_as_mariadb_reads_it_or_not_at_all(lone_mariadb: Cluster, texts: list[str]):
    node = lone_mariadb.primary
    for text in texts:
        try:
            position = Position("mariadb", text)
        except ValueError:
            continue
        # The server minds spaces at an end, and keeps what has the number 0: nothing yet.
        node.query(f"SET GLOBAL gtid_slave_pos = '{','.join(item.strip() for item in text.split(','))}'")
        gtids = node.value("SELECT @@GLOBAL.gtid_slave_pos").split(",")
        assert str(position) == ",".join(gtid for gtid in gtids if not gtid.endswith("-0"))


def test_positions_of_mariadb_grow_with_writes_domains_and_failovers(mariadb: Cluster):
    def position(variable: str = "gtid_current_pos") -> Position:
        node = mariadb.replicas[0] if variable == "gtid_slave_pos" else mariadb.primary
        text = node.value(f"SELECT @@GLOBAL.{variable}")
        assert str(Position("mariadb", text)) == text
        return Position("mariadb", text)

    before = position()
    mariadb.create_database("positions")
    mariadb.primary.query("SET SESSION gtid_domain_id = 7")
    mariadb.primary.query("CREATE TABLE positions.other_domain (id INT)")
    mariadb.primary.query("SET SESSION gtid_domain_id = 0")
    written = position()
    assert "7-1-1" in str(written)
    assert written.contains(before)
    assert not before.contains(written)
    mariadb.wait_until_caught_up()
    assert position("gtid_slave_pos") == written
    mariadb.promote(mariadb.replicas[0])
    mariadb.create_database("positions")
    after = position()
    assert after.contains(written)
    assert not written.contains(after)


# PostgreSQL.


@pytest.fixture(scope="module")
def postgresql() -> Iterator[Cluster]:
    with start("postgresql", replicas=1) as cluster:
        yield cluster


halves = st.integers(0, 3) | st.integers(2**32 - 3, 2**32 - 1)
formats = st.sampled_from(["{:X}", "{:x}", "{:08X}"])
lsns = st.builds(lambda form, high, low: f"{form.format(high)}/{form.format(low)}", formats, halves, halves)


@many
@given(pairs=st.lists(st.tuples(lsns, lsns), min_size=30, max_size=30), timeline=st.integers(1, 2**32 - 1))
def test_postgresql_compares_lsns_alike(postgresql: Cluster, pairs: list[tuple[str, str]], timeline: int):
    columns = [
        f"pg_wal_lsn_diff('{a}', '{b}') >= 0, '{a}'::pg_lsn, greatest('{a}'::pg_lsn, '{b}'::pg_lsn)" for a, b in pairs
    ]
    answers = iter(postgresql.primary.query(f"SELECT {', '.join(columns)}")[0])
    for a, b in pairs:
        contains, canonical, greatest = (next(answers) for _ in range(3))
        have, want = Position("postgresql", f"{timeline}:{a}"), Position("postgresql", f"{timeline}:{b}")
        assert have.contains(want) is (contains == "t")
        assert str(have) == f"{timeline}:{canonical}"
        assert str(have.union(want)) == f"{timeline}:{greatest}"


@many
@given(texts=st.lists(damaged(lsns, string.hexdigits + "x/ +-"), min_size=10, max_size=10))
def test_a_damaged_lsn_is_read_as_postgresql_reads_it_or_not_at_all(postgresql: Cluster, texts: list[str]):
    for text in texts:
        try:
            canonical = postgresql.primary.value(f"SELECT '{text.rstrip()}'::pg_lsn")
        except QueryError:
            with pytest.raises(ValueError, match=r"is not an LSN$"):
                Position("postgresql", f"1:{text}")
        else:
            assert str(Position("postgresql", f"1:{text}")) == f"1:{canonical}"


def test_positions_of_postgresql_grow_with_writes_and_part_at_a_promotion(postgresql: Cluster):
    def position() -> Position:
        query = "SELECT left(pg_walfile_name(lsn), 8), lsn FROM pg_current_wal_insert_lsn() AS lsn"
        timeline, lsn = postgresql.primary.query(query)[0]
        assert str(Position("postgresql", f"1:{lsn}")) == f"1:{lsn}"
        return Position("postgresql", f"{int(str(timeline), 16)}:{lsn}")

    before = position()
    postgresql.create_database("positions")
    written = position()
    assert written.contains(before)
    assert not before.contains(written)
    postgresql.promote(postgresql.replicas[0])
    postgresql.create_database("positions")
    after = position()
    assert not after.comparable(written)
    assert not after.contains(written)
    assert not written.contains(after)
