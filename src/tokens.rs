//! How many tokens a text has, roughly, before anybody has counted them.

/// An estimate: four characters of ASCII to a token, as OpenAI's help pages say of English text, and a token for any other
/// character. Good to a few tens of percent; what was used is taken from the provider's answer.
pub fn estimate(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count() as u64;
    let other = text.chars().filter(|c| !c.is_ascii()).count() as u64;
    ascii.div_ceil(4) + other
}

#[cfg(test)]
mod tests {
    #[test]
    fn four_letters_or_one_other_character() {
        assert_eq!(super::estimate(""), 0);
        assert_eq!(super::estimate("abcde"), 2);
        assert_eq!(super::estimate("日本"), 2);
    }
}
