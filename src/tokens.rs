//! How many tokens a text has, before anybody has counted them.
//!
//! Two answers: a guess from its length, which never changes and so may decide what goes into a prompt; and a count, for what is said
//! and held against limits and budgets. Knows no model: every maker counts otherwise, and what a model's maker counted before is for
//! the ledger to know.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

/// An estimate: four characters of ASCII to a token, as OpenAI's help pages say of English text, and a token for any other
/// character. Good to a few tens of percent; what was used is taken from the provider's answer.
pub fn estimate(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + other
}

/// What tokens are counted by. Estimates by one are not to be corrected by what was learnt of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counter {
    /// By a text's length, as [`estimate`].
    Length,
    /// By words, as [`count`].
    Words,
}

impl Counter {
    /// The tokens of a text.
    pub fn count(self, text: &str) -> u64 {
        match self {
            Counter::Length => estimate(text),
            Counter::Words => count(text),
        }
    }

    /// The tokens of a text that many requests begin with. The last few of these are remembered, and not counted again.
    pub fn count_prefix(self, text: &str) -> u64 {
        const MOST: usize = 16;
        static KNOWN: Mutex<VecDeque<(Counter, String, u64)>> = Mutex::new(VecDeque::new());
        let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
        if self == Counter::Length {
            return self.count(text);
        }
        if let Some((.., tokens)) = known().iter().find(|(by, prefix, _)| *by == self && prefix == text) {
            return *tokens;
        }
        let tokens = self.count(text);
        let mut known = known();
        known.truncate(MOST - 1);
        known.push_front((self, text.to_owned(), tokens));
        tokens
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Counter::Words if cfg!(feature = "tokenizer") => "o200k_base",
            _ => "length",
        }
    }
}

/// The tokens of a text by the words of OpenAI's models since GPT-4o. Without the feature `tokenizer`, an estimate.
///
/// The first call of a process reads the words, which takes a tenth of a second: nothing that can do without may call it.
pub fn count(text: &str) -> u64 {
    #[cfg(feature = "tokenizer")]
    if let Some(words) = words() {
        return pieces(text).map(|piece| words.encode_ordinary(piece).len() as u64).sum();
    }
    estimate(text)
}

/// Reads the words that [`count`] counts by, so that the first count does not wait for them.
pub fn warm_up() {
    #[cfg(feature = "tokenizer")]
    let _ = words();
}

/// No text has more tokens than bytes, whoever counts them.
pub fn most(text: &str) -> u64 {
    text.len() as u64
}

#[cfg(feature = "tokenizer")]
fn words() -> Option<&'static tiktoken_rs::CoreBPE> {
    static WORDS: std::sync::OnceLock<Option<tiktoken_rs::CoreBPE>> = std::sync::OnceLock::new();
    WORDS.get_or_init(|| tiktoken_rs::o200k_base().ok()).as_ref()
}

/// A text in pieces of a size that the tokenizer is quick with, whatever they hold: its expression gives up on endless blanks. Cut
/// before a blank where there is one, as tokens are.
#[cfg(feature = "tokenizer")]
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    const LONGEST: usize = 8192;
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.floor_char_boundary(LONGEST);
        let end = match rest.len() <= LONGEST {
            true => rest.len(),
            false => rest[..end].rfind(' ').filter(|at| *at > 0).unwrap_or(end),
        };
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn four_letters_or_one_other_character() {
        assert_eq!(super::estimate(""), 0);
        assert_eq!(super::estimate("abcde"), 2);
        assert_eq!(super::estimate("日本"), 2);
    }

    #[test]
    #[cfg(feature = "tokenizer")]
    fn counts_are_those_of_the_makers() {
        // As OpenAI's own library counts them with `o200k_base`.
        for (text, tokens) in [("", 0), ("tiktoken is great!", 6), ("hello world", 2), ("お誕生日おめでとう", 8)]
        {
            assert_eq!(super::count(text), tokens, "{text}");
        }
    }

    #[test]
    fn prefixes_are_counted_as_any_text() {
        for round in 0..3 {
            for n in 0..40 {
                let text = "one two three ".repeat(n);
                assert_eq!(super::Counter::Words.count_prefix(&text), super::count(&text), "{n}, round {round}");
            }
        }
    }

    #[test]
    #[cfg(feature = "tokenizer")]
    fn long_texts_are_counted_in_pieces_and_no_otherwise() {
        let words = "The quick brown fox jumps over the lazy dog.\n".repeat(500);
        assert_eq!(super::pieces(&words).collect::<String>(), words);
        assert!(super::pieces(&words).all(|piece| piece.len() <= 8192));
        assert_eq!(super::count(&words), 500 * super::count("The quick brown fox jumps over the lazy dog.\n"));
        // No blank, no letter, and none of one byte: it ends, and counts no more than there can be.
        for text in ["a".repeat(300_000), " ".repeat(300_000), "日".repeat(100_000), "\u{1f600}".repeat(10_000)] {
            let count = super::count(&text);
            assert!(count > 0 && count <= super::most(&text));
        }
    }
}
