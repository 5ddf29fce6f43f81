//! Each output has one maker.

use std::collections::HashMap;

use super::{Expander, Head};
use crate::error::{Code, Error};
use crate::path::RelPath;

impl Expander<'_> {
    /// Reports each output that has two makers, or that lies in another as if that were a folder.
    pub(super) fn double_outputs(&mut self, heads: &[Vec<Head>]) {
        let mut seen: HashMap<&RelPath, usize> = HashMap::new();
        let mut found = Vec::new();
        for (id, head) in heads.iter().enumerate().flat_map(|(id, heads)| heads.iter().map(move |head| (id, head))) {
            let rule = &self.manifest.rules[id];
            for (at, output) in head.outputs.iter().enumerate() {
                let place = rule.outputs[at].1.place.clone();
                let path = &output.path;
                if let Some(other) = seen.insert(path, id) {
                    let other = &self.manifest.rules[other].name;
                    let (message, hint) = if *other == rule.name {
                        let message = format!("rule `{other}` makes `{path}` more than once");
                        (message, "use something of the item in the path, as in `{{item.key}}`")
                    } else {
                        let message = format!("`{path}` is made by rule `{other}` and by rule `{}`", rule.name);
                        (message, "each output has one rule; give one of them another path")
                    };
                    found.push(Error::new(Code::DuplicateOutput, message).at(place.clone()).hint(hint));
                }
                if let Some((parent, other)) = path.parents().find_map(|parent| self.declared.get_key_value(parent)) {
                    let other = &self.manifest.rules[*other].name;
                    let message = format!("`{path}` would lie in `{parent}`, which rule `{other}` makes as a file");
                    found.push(Error::new(Code::DuplicateOutput, message).at(place));
                }
            }
        }
        found.into_iter().for_each(|error| self.note(error));
    }
}
