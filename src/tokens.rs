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

/// The longest start of a text that has at most `limit` tokens; `None` where that is all of it.
///
/// By words it ends where one of the text's own tokens does, and before a character that this token splits. It never has more tokens
/// than `limit` when it is counted by itself. As much is read of the text as is kept, and little more.
pub fn cut(text: &str, limit: u64, counter: Counter) -> Option<&str> {
    if most(text) <= limit {
        return None;
    }
    #[cfg(feature = "tokenizer")]
    if counter == Counter::Words
        && let Some(words) = words()
    {
        return cut_by_words(text, limit, words);
    }
    let _ = counter;
    cut_by_length(text, limit)
}

/// A longer text never has a lower estimate.
fn cut_by_length(text: &str, limit: u64) -> Option<&str> {
    let (mut ascii, mut other) = (0_u64, 0);
    for (at, c) in text.char_indices() {
        *(if c.is_ascii() { &mut ascii } else { &mut other }) += 1;
        if ascii.div_ceil(4) + other > limit {
            return Some(&text[..at]);
        }
    }
    None
}

#[cfg(feature = "tokenizer")]
fn cut_by_words<'a>(text: &'a str, limit: u64, words: &tiktoken_rs::CoreBPE) -> Option<&'a str> {
    let (mut start, mut left) = (0, usize::try_from(limit).unwrap_or(usize::MAX));
    for piece in pieces(text) {
        let tokens = words.encode_ordinary(piece);
        if tokens.len() > left {
            // Without what stands behind them the last few may be more: tokens look ahead.
            for kept in (0..=left).rev() {
                let len = words.decode_bytes(&tokens[..kept]).map_or(0, |bytes| bytes.len());
                let cut = &text[..text.floor_char_boundary(start + len)];
                if count(cut) <= limit {
                    return Some(cut);
                }
            }
            return Some(&text[..start]).map(|cut| cut_by_words(cut, limit, words).unwrap_or(cut));
        }
        left -= tokens.len();
        start += piece.len();
    }
    None
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
    use super::Counter;
    use proptest::prelude::*;

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

    #[test]
    fn cuts_by_length() {
        let cut = |text, limit| super::cut(text, limit, Counter::Length);
        assert_eq!(cut("abcdefghij", 2), Some("abcdefgh"));
        assert_eq!(cut("abcdefgh", 2), None);
        assert_eq!(cut("a日b本c", 2), Some("a日b"));
        assert_eq!(cut("a", 0), Some(""));
        assert_eq!(cut("", 0), None);
    }

    #[test]
    #[cfg(feature = "tokenizer")]
    fn cuts_by_words() {
        let cut = |text, limit| super::cut(text, limit, Counter::Words);
        assert_eq!(cut("hello world and all", 2), Some("hello world"));
        assert_eq!(cut("hello world", 2), None);
        assert_eq!(cut("hello", 0), Some(""));
        assert_eq!(cut("", 0), None);
        // A character of three tokens is there or it is not.
        let text = "a\u{1d11e}\u{1d11e}";
        let each = (super::count(text) - 1) / 2;
        assert!(each > 1);
        for limit in 1..=2 * each {
            let want = if limit <= each { "a" } else { "a\u{1d11e}" };
            assert_eq!(cut(text, limit), Some(want), "{limit}");
        }
    }

    /// Where the text's own tokens end, those within a character left out, with how many there are until there.
    #[cfg(feature = "tokenizer")]
    fn ends(text: &str) -> Vec<(usize, u64)> {
        let words = super::words().unwrap();
        let (mut ends, mut at, mut count) = (vec![(0, 0)], 0, 0);
        for token in super::pieces(text).flat_map(|piece| words.encode_ordinary(piece)) {
            at += words.decode_bytes(&[token]).unwrap().len();
            count += 1;
            ends.push((at, count));
        }
        ends.retain(|(at, _)| text.is_char_boundary(*at));
        ends
    }

    #[track_caller]
    fn is_cut_well(text: &str, limit: u64, counter: Counter) {
        let Some(cut) = super::cut(text, limit, counter) else {
            assert!(counter.count(text) <= limit, "{counter:?}, {limit}: {text:?}");
            return;
        };
        assert!(text.starts_with(cut) && cut.len() < text.len());
        assert!(counter.count(cut) <= limit, "{counter:?}, {limit}: {cut:?} of {text:?}");
        #[cfg(feature = "tokenizer")]
        if counter == Counter::Words {
            let (end, own) = *ends(text).iter().find(|(end, _)| *end > cut.len()).unwrap();
            assert!(own > limit || super::count(&text[..end]) > limit, "{limit}: {cut:?} of {text:?}");
            return;
        }
        let next = text[cut.len()..].chars().next().unwrap();
        assert!(counter.count(&text[..cut.len() + next.len_utf8()]) > limit, "{limit}: {cut:?} of {text:?}");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn a_cut_is_the_longest_start_that_fits(
            pieces in prop::collection::vec(prop_oneof![
                "[a-zA-Z]{1,9}", "[ \n\r\t]{1,5}", "\\PC{0,4}", "[0-9.,;'/]{1,6}",
                prop::sample::select(&["don't", " I'LL", "日本語", "\u{1f469}\u{200d}\u{1f467}", "naïve", "\u{301}", "  \n"][..])
                    .prop_map(str::to_owned),
            ], 0..40),
            limit in 0_u64..60,
        ) {
            let text = pieces.concat();
            is_cut_well(&text, limit, Counter::Length);
            is_cut_well(&text, limit, Counter::Words);
        }
    }

    #[test]
    fn huge_texts_are_cut() {
        let words = "The quick brown fox — jumps over the lazy dog.\n";
        let long = "x".repeat(9000);
        let texts = [
            words.repeat(20_000),
            "a".repeat(300_000),
            " ".repeat(300_000),
            "日".repeat(100_000),
            "\u{1d11e}".repeat(30_000),
            // Pieces that another start of the text would be cut into otherwise.
            format!("a b{long} {long} c{}", words.repeat(400)),
            format!("{}{long}  \n {long}", "word ".repeat(1700)),
        ];
        for text in &texts {
            for limit in [0, 1, 2, 1000, 1024, 1025, 1701, 2830, 4000, 8191, 8192, 20_000] {
                is_cut_well(text, limit, Counter::Length);
                is_cut_well(text, limit, Counter::Words);
            }
        }
    }
}
