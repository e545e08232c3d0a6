"""What a token holds, what it hides, and what it survives."""

from __future__ import annotations

import base64
import json
import re
import time

import pytest
from django.core import signing
from django.test import override_settings
from hypothesis import given
from hypothesis import strategies as st

import replicant
from replicant import tokens
from replicant._core import Cipher, Position
from replicant.connections.causality import Causality
from replicant.tokens import seal
from tests.tokens.items import CLUSTERS, POSITIONS, UUID, item
from tests.tokens.items import _clusters as _clusters
from tests.tokens.items import clock as clock
from tests.tokens.items import counted as counted
from tests.tokens.items import told as told

# What it holds.

ages = st.none() | st.floats(0, 1000)
positions = st.one_of(
    st.none(),
    st.sampled_from([Position(kind, text) for kind, text in POSITIONS.items()]),
    st.lists(st.integers(1, 10**12), min_size=1, max_size=300).map(
        lambda numbers: Position("mysql", f"{UUID}:" + ":".join(str(number) for number in sorted(set(numbers))))
    ),
    st.lists(st.uuids(), min_size=1, max_size=60).map(
        lambda servers: Position("mysql", ",".join(f"{server}:1-9" for server in set(servers)))
    ),
)
members = st.sampled_from([("default", None), ("default", "replica1"), ("default", "replica2"), ("other", None)])
causalities = st.builds(
    lambda where, *what: Causality(where[0], *what[:3], where[1], what[3]),
    members,
    positions,
    ages,
    st.booleans(),
    ages,
)


def asks_for_as_much(required: Causality, original: Causality) -> bool:
    """Whether who satisfies ``required`` satisfies ``original`` too."""
    if original.position is not None and required.position is not None:
        position = required.position.contains(original.position)
    else:
        position = original.position is None or required.written is not None
    written = original.written is None or (required.written is not None and required.written < original.written + 1)
    read = original.read is None or (
        required.member == original.member and required.read is not None and required.read <= original.read + 1
    )
    return (
        position
        and written
        and read
        and required.cluster == original.cluster
        and required.unpublished == original.unpublished
    )


@given(st.lists(causalities, min_size=1, max_size=2, unique_by=lambda item: item.cluster))
def test_a_token_asks_for_no_less_than_its_scope_had_and_fits_into_a_kibibyte(items):
    text = tokens.encode(items)
    assert len(text) <= tokens.MAX_BYTES
    decoded = tokens.decode(text)
    assert len(decoded) == len(items)
    assert all(asks_for_as_much(required, original) for required, original in zip(decoded, items, strict=True))


def test_positions_come_out_as_they_went_in(told):
    for kind, text in POSITIONS.items():
        position = Position(kind, text)
        assert told(item("default", position)) == (item("default", position),)


def test_ages_go_on(told):
    assert told(item(written=1.5, member="replica2", read=0.25), seconds=2) == (
        item(written=3.5, member="replica2", read=2.25),
    )


def test_nothing_is_an_empty_token():
    assert tokens.encode([]) == ""
    assert tokens.decode("") == ()


# How it is cut.


def gaps(count: int) -> Position:
    """A set with as many intervals, none next to another."""
    return Position("mysql", f"{UUID}:" + ":".join(str(3 * number) for number in range(1, count + 1)))


def test_a_position_too_long_is_replaced_by_a_larger_one(told):
    (required,) = told(item("default", gaps(1000)))
    assert required.written is None
    assert required.position.contains(gaps(1000))


def test_short_positions_leave_their_room_to_the_long_one(told):
    short = Position("postgresql", "3:A/16B3748")
    default, other = told(item("default", gaps(100)), item("other", short))
    assert other.position == short
    assert len(str(default.position)) > seal.ROOM / 2


def test_a_position_of_too_many_servers_becomes_a_write_now(told):
    servers = ",".join(f"{number:08x}{UUID[8:]}:1-9" for number in range(100))
    assert told(item("default", Position("mysql", servers), written=7)) == (item(written=0),)


def test_clusters_that_do_not_fit_become_a_write_to_each(told):
    clusters = [item(f"cluster{number}", written=9) for number in range(100)]
    required = told(item("default", written=9), *clusters, seconds=1)
    assert len(tokens.encode(clusters)) <= tokens.MAX_BYTES
    # Those that do fit are unknown here, too: time pins from now on.
    assert {cluster: max(item.written for item in required if item.cluster == cluster) for cluster in CLUSTERS} == {
        "default": 10,
        "other": 1,
    }


# What it hides.


def test_a_token_shows_no_server_no_host_and_no_alias():
    # Nothing shorter than four letters: chance writes those into any text.
    servers = [item("default", Position(kind, text), 1, False, "replica1", 2) for kind, text in POSITIONS.items()]
    for servers_item in servers:
        text = tokens.encode([servers_item])
        seen = text + base64.urlsafe_b64decode(text + "==").decode("latin-1")
        for secret in (UUID, UUID[:8], "4711", "16B3748", "replica1", "default", "mysql", tokens._host()):
            assert secret not in seen
            assert secret.encode().hex() not in seen
            assert base64.b64encode(secret.encode()).decode().rstrip("=") not in seen


def test_what_is_said_twice_looks_different_each_time(clock):
    first, second = (tokens.encode([item("default", gaps(9))]) for _ in range(2))
    raw = [base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)) for text in (first, second)]
    assert raw[0][:9] == raw[1][:9]  # version and time
    alike = sum(one == other for one, other in zip(raw[0][9:], raw[1][9:], strict=True))
    assert alike < 10  # of a hundred bytes, one in 256 by chance


def test_the_cipher_seals_as_libsodium_does():
    # Computed with libsodium (crypto_aead_xchacha20poly1305_ietf_encrypt), the key with Python's hmac by RFC 5869.
    sealed = bytes.fromhex("6eaae05fda321e9fdcf092b6239b3a825952bbc4abd2039a527e5cb1c58a79d90424e9d47a858e")
    cipher = Cipher(b"a secret key of a site", b"replicant.token")
    assert cipher.seal(bytes(range(24)), b"header", b"what the scope requires") == sealed
    assert cipher.open(bytes(range(24)), b"header", sealed) == b"what the scope requires"
    assert cipher.open(bytes(range(24)), b"another header", sealed) is None
    with pytest.raises(ValueError, match="24"):
        cipher.seal(b"too short", b"header", b"text")


def test_a_token_is_sealed_with_the_sites_secret_and_its_header(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("os.urandom", lambda length: bytes(range(length)))
    payload = base64.urlsafe_b64decode(seal.seal("a secret", 3, b"text") + "==")
    assert (payload[0], payload[9:33]) == (3, bytes(range(24)))
    assert Cipher(b"a secret", b"replicant.token").open(payload[9:33], payload[:33], payload[33:]) == b"text"


def test_a_token_has_one_text_only(counted):
    text = tokens.encode([item(written=1)])
    for other in (text + "=", text[:9] + "!" + text[9:], f" {text}", text + "\n"):
        assert tokens.decode(other) is None
    assert counted() == {"forged": 4}


def test_a_token_of_the_former_cipher_is_rejected(counted):
    assert tokens.decode(signing.Signer(key="for tests alone", salt="replicant.token").sign("AgAAAZ")) is None
    assert counted() == {"forged": 1}


def test_aliases_stand_as_hashes_even_inside():
    secret = "for tests alone"
    inside = json.loads(tokens._plain(secret, [item("default", None, 1, False, "replica1", 2)]))
    assert not re.search("default|replica1", json.dumps(inside))


# What it survives.


@given(st.data())
def test_a_token_with_any_byte_changed_is_rejected(data):
    text = tokens.encode([item("default", Position("mysql", f"{UUID}:1-5"), 1, False, "replica1", 2)])
    place = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters(max_codepoint=255).filter(lambda character: character != text[place]))
    assert tokens.decode(text[:place] + other + text[place + 1 :]) is None


def test_a_token_with_any_bit_of_it_changed_is_rejected(counted):
    text = tokens.encode([item("default", Position("postgresql", "1:0/16B3748"))])
    for place in range(len(text)):
        for bit in range(8):
            assert tokens.decode(text[:place] + chr(ord(text[place]) ^ 1 << bit) + text[place + 1 :]) is None
    assert counted() == {"forged": 8 * len(text)}


@given(st.text() | st.text(alphabet="abcdefgh-_:=", max_size=2000) | st.binary().map(lambda raw: raw.decode("latin-1")))
def test_any_text_is_ignored_and_counted_and_never_an_error(text):
    before = sum(tokens.rejected.values())
    assert tokens.decode(text) == (None if text else ())
    assert sum(tokens.rejected.values()) == before + bool(text)


def test_half_a_token_is_rejected(counted):
    text = tokens.encode([item(written=1)])
    for length in range(1, len(text)):
        assert tokens.decode(text[:length]) is None
    assert counted() == {"forged": len(text) - 1}


def test_what_is_too_long_is_not_even_looked_at(counted):
    class Long(str):
        __slots__ = ()

        def encode(self, *args) -> bytes:
            raise AssertionError("looked at")

    assert tokens.decode(Long("x" * (tokens.MAX_BYTES + 1))) is None
    assert counted() == {"too_long": 1}


def test_what_django_signed_for_others_is_rejected(counted):
    for text in (
        signing.dumps({"a": 1}),
        signing.Signer().sign("AQAAAAAAAAAAAAAAAAAAAAAA"),
        signing.Signer().sign("x"),
    ):
        assert tokens.decode(text) is None
    assert counted() == {"forged": 3}


def test_a_token_of_another_site_is_rejected(told, counted):
    assert told(item(written=1), SECRET_KEY="another site's") is None
    assert counted() == {"forged": 1}


def test_keys_rotate(told):
    position = Position("mysql", f"{UUID}:1-5")
    rotated = {"SECRET_KEY": "new", "SECRET_KEY_FALLBACKS": ["older", "for tests alone"]}
    assert told(item("default", position, member="replica1", read=0), **rotated) == (
        item("default", position, member="replica1", read=0),
    )
    assert told(item(written=1), SECRET_KEY="new", SECRET_KEY_FALLBACKS=[b"older"]) is None
    with override_settings(SECRET_KEY=b"as bytes"):
        assert tokens.decode(tokens.encode([item("default", position)])) == (item("default", position),)


def test_a_token_too_old_is_rejected_where_there_is_a_limit(told, counted):
    assert told(item(written=0), seconds=60, max_age=60) == (item(written=60),)
    assert told(item(written=0), seconds=61, max_age=60) is None
    assert counted() == {"expired": 1}
    assert told(item(written=0), seconds=1e6) == (item(written=1e6),)


def test_a_token_from_the_future_is_taken_for_one_of_now(told):
    assert told(item(written=1, member="replica1", read=2), seconds=-30, max_age=60) == (
        item(written=1, member="replica1", read=2),
    )


@pytest.mark.parametrize("step", [-3600, 3600])
def test_who_sets_the_clock_makes_no_token_of_this_host_older_or_younger(clock, monkeypatch, step: int):
    text = tokens.encode([item(written=0)])
    clock.now += 50
    monkeypatch.setattr(time, "time", lambda: clock.now + step)
    assert tokens.decode(text, max_age=60) == (item(written=50),)
    clock.now += 11
    assert tokens.decode(text, max_age=60) is None


def test_a_host_that_keeps_its_name_when_it_is_booted_has_the_wall_clock_alone(clock, monkeypatch):
    monkeypatch.setattr(tokens, "_ticks", lambda: None)
    text = tokens.encode([item(written=0)])
    clock.now += 5
    assert tokens.decode(text) == (item(written=5),)


def test_a_container_with_a_clock_of_its_own_is_another_host(tmp_path, monkeypatch):
    names = []
    for number in range(2):
        (tmp_path / f"{number}").symlink_to(f"time:[{number}]")
        monkeypatch.setattr(tokens, "_CLOCK", tmp_path / f"{number}")
        names.append(tokens._host.__wrapped__())
    assert len(set(names)) == 2


def test_another_hosts_clock_may_be_behind(told, monkeypatch: pytest.MonkeyPatch):
    text = tokens.encode([item(written=0)])
    monkeypatch.setattr(tokens, "_host", lambda: "another")
    assert tokens.decode(text) == (item(written=0),)
    text = tokens.encode([item(written=0)])
    monkeypatch.undo()
    # Made three seconds ago by a clock that may be a second behind.
    monkeypatch.setattr(time, "time", lambda: 1_800_000_003.0)
    assert tokens.decode(text) == (item(written=3 - tokens.CLOCK_SKEW),)


def test_status_shows_what_was_rejected(counted):
    before = replicant.status()["tokens"]["rejected"]["forged"]
    tokens.decode("nonsense")
    assert replicant.status()["tokens"]["rejected"]["forged"] == before + 1
