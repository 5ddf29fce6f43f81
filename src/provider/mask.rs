//! A key that is quoted in a text that comes in pieces: it is taken out wherever the pieces are cut. Pure.

use super::live::Secret;
use crate::llm::{Answer, Stop};

/// A text without the key: providers like to quote it back.
pub(super) fn without(key: Option<&Secret>, text: &str) -> String {
    match key {
        Some(Secret(key)) => text.replace(key.as_str(), "***"),
        None => text.to_owned(),
    }
}

/// An answer with every text of it masked.
pub(super) fn answer(answer: Answer, masked: &dyn Fn(&str) -> String) -> Answer {
    let stop = match &answer.stop {
        Stop::Refused(what) => Stop::Refused(masked(what)),
        Stop::Garbled(what) => Stop::Garbled(masked(what)),
        Stop::Broken(what) => Stop::Broken(masked(what)),
        Stop::End | Stop::Length => answer.stop,
    };
    let request_id = answer.request_id.as_deref().map(masked);
    Answer { text: masked(&answer.text), stop, request_id, ..answer }
}

/// A text on its way, without the key.
pub(super) struct Mask {
    key: Option<Secret>,
    /// The end of what came, if the key may begin with it.
    held: String,
}

impl Mask {
    pub fn new(key: Option<&Secret>) -> Mask {
        Mask { key: key.map(|Secret(key)| Secret(key.clone())), held: String::new() }
    }

    /// What of the text can be shown by now.
    pub fn next(&mut self, piece: &str) -> String {
        let Some(Secret(key)) = &self.key else { return piece.to_owned() };
        self.held += piece;
        let clean = self.held.replace(key.as_str(), "***");
        let from = clean.len().saturating_sub(key.len() - 1);
        let begins = |at: &usize| clean.is_char_boundary(*at) && key.starts_with(&clean[*at..]);
        let at = (from..clean.len()).find(begins).unwrap_or(clean.len());
        self.held = clean[at..].to_owned();
        clean[..at].to_owned()
    }

    /// The rest of it.
    pub fn end(&mut self) -> String {
        std::mem::take(&mut self.held)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However it is cut into pieces, the text is the same as if it were masked whole, and nothing is lost.
        #[test]
        fn no_key_comes_through(text in "(abac|a|b|c|é|-){0,12}", size in 1usize..5) {
            let key = Secret("abac".to_owned());
            let mut mask = Mask::new(Some(&key));
            let letters: Vec<char> = text.chars().collect();
            let mut shown: String =
                letters.chunks(size).map(|piece| mask.next(&piece.iter().collect::<String>())).collect();
            shown += &mask.end();
            prop_assert_eq!(shown, text.replace("abac", "***"));
        }
    }
}
