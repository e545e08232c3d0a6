"""What the thermometer of the language counts."""

from __future__ import annotations

from tests.language import Rates, measured, python_comments, rates_of, rust_comments

PYTHON = '''"""The router. Whoever reads this is a reader."""

#: Not a sentence,
#: but two lines of one.
LIMIT = 1  # nobody waits

def wait():
    """Wait.

    Of no use without a server.
    """
    return "nobody"
'''
RUST = """//! The core.
//!
//! Nor is this a sentence.

/// Waits for `nobody`.
pub fn wait() {
    // What somebody
    // has found.
}
"""


def test_comments_and_docstrings_of_python_are_counted_and_code_is_not():
    rates = rates_of(python_comments(PYTHON))
    assert (rates.person_words, rates.fragments) == (2, 2)
    assert rates.words == 25


def test_comments_of_rust_are_counted_and_code_is_not():
    assert rates_of(rust_comments(RUST)) == Rates(words=13, person_words=1, fragments=2)


def test_a_rate_is_for_a_thousand_words():
    assert Rates(2000, 3, 0).per_thousand(3) == 1.5
    assert Rates(0, 0, 0).per_thousand(0) == 0.0


def test_both_languages_are_measured():
    assert all(rates.words > 1000 for rates in measured().values())
    assert set(measured()) == {"Python", "Rust"}
