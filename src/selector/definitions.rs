//! The definitions of a source file, by name.

use std::collections::HashMap;

use super::{About, Keys, Part, Passage, some};
use crate::error::did_you_mean;
use crate::syntax::{Definition, NoGrammar, definitions};

/// A source file, parsed.
pub(super) struct Definitions {
    text: String,
    /// With the key of each, which is its name made unique.
    list: Vec<(String, Definition)>,
    by_key: HashMap<String, usize>,
}

impl Definitions {
    pub fn new(ext: &str, text: String) -> Result<Definitions, NoGrammar> {
        let mut keys = Keys::default();
        let list: Vec<_> =
            definitions(ext, &text)?.into_iter().map(|found| (keys.unique(&found.name), found)).collect();
        let by_key = list.iter().enumerate().map(|(at, (key, _))| (key.clone(), at)).collect();
        Ok(Definitions { text, list, by_key })
    }

    /// Each definition, or the one of that name.
    ///
    /// # Errors
    /// A name that is not there: what, in words, and what may have been meant.
    pub fn select(&self, name: Option<&str>) -> Result<Vec<Part>, (String, Option<String>)> {
        let Some(name) = name else { return Ok((0..self.list.len()).map(|at| self.part(at)).collect()) };
        if let Some(at) = self.by_key.get(name) {
            return Ok(vec![self.part(*at)]);
        }
        let names = || self.list.iter().map(|(key, _)| key.as_str());
        let there =
            if self.list.is_empty() { "it defines nothing".to_owned() } else { format!("it has {}", some(names())) };
        Err((format!("no definition `{name}`; {there}"), did_you_mean(name, names())))
    }

    fn part(&self, at: usize) -> Part {
        let (key, found) = &self.list[at];
        let about = About { kind: found.kind, signature: found.signature.clone(), doc: found.doc.clone() };
        let passage = Passage { name: key.clone(), line: found.line, definition: Some(about) };
        Part { keys: vec![key.clone()], value: self.text[found.range.clone()].into(), passage: Some(passage) }
    }
}

#[cfg(all(test, feature = "syntax"))]
mod tests {
    use super::*;

    #[test]
    fn overloads_have_keys_of_their_own() {
        let text = "def f(a): pass\n\ndef g(): pass\n\ndef f(b): pass\n";
        let found = Definitions::new("py", text.to_owned()).unwrap();
        let keys: Vec<String> = found.select(None).unwrap().iter().map(|part| part.key().to_owned()).collect();
        assert_eq!(keys, ["f", "g", "f-2"]);
        assert_eq!(found.select(Some("f-2")).unwrap()[0].value, "def f(b): pass");
        let (what, hint) = found.select(Some("ff")).unwrap_err();
        assert_eq!(what, "no definition `ff`; it has `f`, `g`, `f-2`");
        assert_eq!(hint.unwrap(), "did you mean `f`?");
    }
}
