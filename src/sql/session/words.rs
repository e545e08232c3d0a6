//! Words and names among the tokens of a statement.

use crate::sql::lexer::Token;

/// Whether a word stands somewhere in a text, in any case.
pub(super) fn contains(text: &str, word: &str) -> bool {
    text.as_bytes().windows(word.len()).any(|found| found.eq_ignore_ascii_case(word.as_bytes()))
}

/// The name of a setting with all of its parts in lower case, and the value that follows it.
pub(super) fn setting_name<'a>(tokens: &[Token<'a>]) -> Option<(String, Option<Token<'a>>)> {
    let mut whole = name(tokens, 0)?;
    let mut at = 1;
    while tokens.get(at) == Some(&Token::Dot) {
        whole = format!("{whole}.{}", name(tokens, at + 1)?);
        at += 2;
    }
    // `=`, `:=` or TO.
    let signs = tokens[at.min(tokens.len())..]
        .iter()
        .take_while(|token| matches!(token, Token::Equals | Token::Other) || token.is_word_to())
        .count();
    Some((whole, tokens.get(at + signs).copied()))
}

impl Token<'_> {
    fn is_word_to(&self) -> bool {
        matches!(self, Self::Word(word) if is(word, "to"))
    }
}

pub(super) fn name(tokens: &[Token<'_>], at: usize) -> Option<String> {
    match tokens.get(at) {
        Some(Token::Word(name) | Token::Quoted(name) | Token::Text(name)) => Some(name.to_lowercase()),
        _ => None,
    }
}

pub(super) fn word<'a>(tokens: &[Token<'a>], at: usize) -> Option<&'a str> {
    match tokens.get(at) {
        Some(Token::Word(word)) => Some(word),
        _ => None,
    }
}

pub(super) fn has(tokens: &[Token<'_>], wanted: &str) -> bool {
    tokens.iter().any(|token| matches!(token, Token::Word(word) if is(word, wanted)))
}

pub(super) fn is(word: &str, wanted: &str) -> bool {
    word.eq_ignore_ascii_case(wanted)
}

pub(super) fn one_of(word: &str, wanted: &[&str]) -> bool {
    wanted.iter().any(|wanted| is(word, wanted))
}
