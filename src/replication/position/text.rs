//! Helpers that the parsers of all kinds share.

use std::fmt;
use std::str::FromStr;

/// How much of a bad text an error repeats, in characters.
const EXCERPT: usize = 100;

/// The part of a text that is wrong, and the expected text.
#[derive(Debug)]
pub struct Malformed<'text> {
    pub part: &'text str,
    pub expected: &'static str,
}

/// A decimal number in digits alone: [`str::parse`] would take a sign.
pub fn number<Number: FromStr>(text: &str) -> Option<Number> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) { text.parse().ok() } else { None }
}

/// The beginning of a text, for errors.
pub fn excerpt(text: impl fmt::Display) -> String {
    let mut text = text.to_string();
    if let Some((end, _)) = text.char_indices().nth(EXCERPT) {
        text.truncate(end);
        text.push_str("...");
    }
    text
}
