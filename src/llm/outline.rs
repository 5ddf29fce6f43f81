//! What of a result is no word of its prompt. Where that is the same for all results of a rule, the model filled in a form, and a
//! template could do that for nothing.
//!
//! Words are told apart as identifiers are written: `orderItem`, `order_item` and `Order item` are the same two. Words of the prompt
//! that follow each other are one gap, and lines alike that follow each other one line, so that a longer list is the same form.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};

/// The fewest words of its own that make a result a form, and not a part of its prompt.
const LEAST: usize = 5;

/// What stands for words of the prompt.
const GAP: &str = " ";

/// The hash of a result's outline, by the texts of its prompt and its schema; none for one that says too little of its own. The same in each run of this version only.
pub fn outline<'a>(prompt: impl Iterator<Item = &'a str>, result: &str) -> Option<u64> {
    let known: HashSet<String> = prompt.flat_map(words).filter(|word| is_word(word)).collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    for line in result.lines() {
        let mut outline: Vec<String> = Vec::new();
        for word in words(line) {
            let word = if known.contains(&word) { GAP.to_owned() } else { word };
            if word != GAP || outline.last().is_none_or(|last| last != GAP) {
                outline.push(word);
            }
        }
        if lines.last() != Some(&outline) {
            lines.push(outline);
        }
    }
    let own = lines.iter().flatten().filter(|word| is_word(word)).count();
    if own < LEAST {
        return None;
    }
    let mut hasher = DefaultHasher::new();
    lines.hash(&mut hasher);
    Some(hasher.finish())
}

fn is_word(word: &str) -> bool {
    word.starts_with(char::is_alphanumeric)
}

/// The words of a text in lower case, and what stands between them but space, `_`, `-`, `/` and `.`, which join words in names.
fn words(text: &str) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let mut before = ' ';
    for c in text.chars() {
        let goes_on = before.is_alphanumeric() && (before.is_uppercase() || !c.is_uppercase());
        match c {
            c if c.is_alphanumeric() && goes_on => {
                if let Some(word) = words.last_mut() {
                    word.extend(c.to_lowercase());
                }
            }
            c if c.is_alphanumeric() => words.push(c.to_lowercase().collect()),
            c if c.is_whitespace() || matches!(c, '_' | '-' | '/' | '.') => {}
            c => words.push(c.to_string()),
        }
        before = c;
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(prompt: &str, result: &str) -> Option<u64> {
        outline([prompt].into_iter(), result)
    }

    #[test]
    fn results_that_differ_as_their_prompts_do_are_one_form() {
        let module = |name: &str, fields: &[&str]| {
            let prompt = format!("Entity {name} with {}", fields.join(", "));
            let fields: String = fields.iter().map(|field| format!("    pub {field}: String,\n")).collect();
            of(
                &prompt,
                &format!("/// Generated struct, derive debug.\n#[derive(Debug)]\npub struct {name} {{\n{fields}}}\n"),
            )
        };
        let user = module("User", &["name"]);
        assert!(user.is_some());
        assert_eq!(user, module("orderItem", &["sku", "net_price", "Count"]));
    }

    #[test]
    fn what_a_model_thought_of_is_no_form() {
        let note = |name: &str, said: &str| of(&format!("Describe {name}"), &format!("# {name}\n\n{said}\n"));
        let (first, second) = (
            note("User", "somebody who signs in and buys things here"),
            note("Order", "what was bought, by whom, when and at which price"),
        );
        assert!(first.is_some() && second.is_some());
        assert_ne!(first, second);
    }

    #[test]
    fn what_says_nothing_of_its_own_has_none() {
        assert_eq!(of("one two three four five six seven", "two, four, six"), None);
        assert_eq!(of("", ""), None);
    }
}
