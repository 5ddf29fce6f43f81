//! Each output has one maker, and is no other file on any system: some know no case, and some write a letter in one way only.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::{Expander, Head};
use crate::error::{Code, Error};
use crate::graph::Task;
use crate::path::{RelPath, folded};

/// An output: its path, and the places of its rule and of itself in it.
type Declared = (RelPath, usize, usize);

/// The outputs by what their names have in common with others that some system takes for the same.
pub(super) struct ByName(HashMap<String, Declared>);

impl Expander<'_> {
    /// Reports each output that has two makers, or that lies in another as if that were a folder.
    pub(super) fn double_outputs(&mut self, heads: &[Vec<Head>]) -> ByName {
        let mut seen: HashMap<String, Declared> = HashMap::new();
        let mut found = Vec::new();
        let all = || {
            let heads = heads.iter().enumerate().flat_map(|(id, heads)| heads.iter().map(move |head| (id, head)));
            heads.flat_map(|(id, head)| head.outputs.iter().enumerate().map(move |(at, output)| (id, at, &output.path)))
        };
        for (id, at, path) in all() {
            let rule = &self.manifest.rules[id];
            let (other_path, other) = match seen.entry(folded(path.as_str())) {
                Entry::Vacant(free) => {
                    free.insert((path.clone(), id, at));
                    continue;
                }
                Entry::Occupied(taken) => (taken.get().0.clone(), taken.get().1),
            };
            let other = &self.manifest.rules[other].name;
            let (message, hint) = if other_path != *path {
                let message =
                    format!("`{path}` and `{other_path}`, which rule `{other}` makes, are one file on some systems");
                (message, "give one of them a name that differs in more than case")
            } else if *other == rule.name {
                let message = format!("rule `{other}` makes `{path}` more than once");
                (message, "use something of the item in the path, as in `{{item.key}}`")
            } else {
                let message = format!("`{path}` is made by rule `{other}` and by rule `{}`", rule.name);
                (message, "each output has one rule; give one of them another path")
            };
            found.push(Error::new(Code::DuplicateOutput, message).at(rule.outputs[at].1.place.clone()).hint(hint));
        }
        for (id, at, path) in all().filter(|(.., path)| !path.dir().is_empty()) {
            let name = folded(path.as_str());
            let folders = name.match_indices('/').map(|(end, _)| &name[..end]);
            if let Some((parent, other, _)) = folders.rev().find_map(|folder| seen.get(folder)) {
                let other = &self.manifest.rules[*other].name;
                let message = format!("`{path}` would lie in `{parent}`, which rule `{other}` makes as a file");
                let place = self.manifest.rules[id].outputs[at].1.place.clone();
                found.push(Error::new(Code::DuplicateOutput, message).at(place));
            }
        }
        found.into_iter().for_each(|error| self.note(error));
        ByName(seen)
    }

    /// Reports each output that is, on some systems, a file which a task is made from.
    pub(super) fn inputs_by_another_name(&mut self, tasks: &[Task], outputs: &ByName) {
        let mut seen: HashSet<&RelPath> = HashSet::new();
        let mut found = Vec::new();
        let included = &self.manifest.included;
        for path in tasks.iter().flat_map(Task::reads).chain(included).filter(|path| !self.declared.contains_key(*path))
        {
            if !seen.insert(path) {
                continue;
            }
            if let Some((output, id, at)) = outputs.0.get(&folded(path.as_str())).filter(|(output, ..)| output != path)
            {
                let message = format!("output `{output}` and `{path}`, which is read, are one file on some systems");
                let rule = &self.manifest.rules[*id];
                let error = Error::new(Code::BadPath, message).at(rule.outputs[*at].1.place.clone());
                found.push(error.hint("give it a name that differs in more than case").in_rule(&rule.name));
            }
        }
        found.into_iter().for_each(|error| self.note(error));
    }
}
