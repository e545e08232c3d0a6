//! Words of a statement, compared without regard to case.

use super::super::lexer::Token;

/// Whether a word stands somewhere in a text, in any case.
pub fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

pub fn word<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    match tokens.get(at) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

pub fn has(tokens: &[Token<'_>], wanted: &str) -> bool {
    tokens.iter().any(|token| matches!(token, Token::Word(word) if is(word, wanted)))
}

pub fn is(word: &str, wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted)
}

pub fn one_of(word: &str, wanted: &[&str]) -> bool {
    wanted.iter().any(|wanted| is(word, wanted))
}
