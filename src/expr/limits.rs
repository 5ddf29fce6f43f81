//! What no expression may be: so deep that it takes the stack, or so many that reading them takes the day.
//!
//! The library reads and renders by recursion, and finds the place of each expression from the start of the text. Looked at is
//! the text alone, before anything is parsed: what is counted here is at least as much as a parser would find.

/// The deepest that blocks may stand in each other.
const DEEPEST: usize = 100;
/// The deepest that expressions may: each `json` of a `json` doubles its backslashes.
const DEEPEST_INSIDE: usize = 20;
/// The most that the places of all expressions of a text may add up to, in bytes: some 3,000 expressions in 100 KB.
const FARTHEST: usize = 200_000_000;

/// Whether a text may be compiled.
///
/// # Errors
/// What there is too much of, in words, and the byte where it is.
pub(super) fn within(text: &str) -> Result<(), (String, usize)> {
    let mut blocks: Vec<usize> = Vec::new();
    let mut depth = 0;
    let mut far = 0;
    for (at, _) in text.match_indices("{{") {
        far += at;
        if far > FARTHEST {
            return Err(("too many expressions for so long a text; make partials of it".to_owned(), at));
        }
        let rest = &text[at + 2..];
        let next = rest.find("{{").unwrap_or(rest.len());
        let tag = rest[..next].split_once("}}").map_or(&rest[..next], |(tag, _)| tag);
        if nested(tag) > DEEPEST_INSIDE {
            return Err((format!("parentheses stand more than {DEEPEST_INSIDE} deep in each other"), at));
        }
        let tag = tag.trim_start_matches(['{', '~']).trim_start();
        let is_chained = tag.strip_prefix("else").is_some_and(|rest| !rest.trim_end_matches('~').trim().is_empty());
        if tag.starts_with('#') {
            blocks.push(1);
            depth += 1;
        } else if is_chained && let Some(block) = blocks.last_mut() {
            // `{{else if}}` is a block within the one before it.
            *block += 1;
            depth += 1;
        } else if tag.starts_with('/') {
            depth -= blocks.pop().unwrap_or(0);
        }
        if depth > DEEPEST {
            return Err((format!("blocks stand more than {DEEPEST} deep in each other"), at));
        }
    }
    Ok(())
}

/// How deep parentheses stand in each other.
fn nested(tag: &str) -> usize {
    let (mut depth, mut deepest) = (0_usize, 0);
    for c in tag.bytes() {
        match c {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        deepest = deepest.max(depth);
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn what_people_write_is_within() {
        let wide = "{{#if a}}{{else if b}}({{(len c)}}{{else}}{{/if}}".repeat(500);
        assert_eq!(within(&wide), Ok(()));
        assert_eq!(within(&format!("{}{}", "{{#each a}}".repeat(99), "{{/each}}".repeat(99))), Ok(()));
        assert_eq!(within(&"(".repeat(9_999)), Ok(()));
        assert_eq!(within("{{/if}}{{else if x}}{{"), Ok(()));
    }

    #[test]
    fn what_takes_the_stack_is_not() {
        let stops = |text: &str| within(text).unwrap_err();
        assert_eq!(stops(&"{{#if a}}".repeat(101)), ("blocks stand more than 100 deep in each other".into(), 900));
        assert_eq!(stops(&"{{~#if a}}".repeat(101)).1, 1_000);
        assert_eq!(stops(&format!("{{{{#if a}}}}{}", "{{else if b}}".repeat(100))).1, 9 + 99 * 13);
        assert_eq!(stops(&format!("x {{{{{}", "(len ".repeat(21))).1, 2);
        assert!(stops(&"{{x}}".repeat(20_000)).0.starts_with("too many expressions"));
        assert!(stops(&format!("{}{}", "x".repeat(1_000_000), "{{x}}".repeat(250))).0.starts_with("too many"));
    }
}
