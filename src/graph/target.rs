//! What a person asks for by name, and the tasks that it takes.

use super::{Graph, TaskId};
use crate::error::{Code, Error, did_you_mean};
use crate::path::{Pattern, RelPath};

/// A TARGET as given on the command line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// As written: a rule's name, perhaps.
    pub text: String,
    /// As a path or glob relative to the root; `None` if it lies outside.
    pub path: Option<String>,
}

impl Graph {
    /// The tasks that the targets name, in order; all tasks if there are no targets.
    ///
    /// # Errors
    /// [`Code::UnknownTarget`] for each that names nothing.
    pub fn select(&self, targets: &[Target]) -> Result<Vec<TaskId>, Vec<Error>> {
        if targets.is_empty() {
            return Ok((0..self.tasks.len()).collect());
        }
        let mut wanted = vec![false; self.tasks.len()];
        let mut found = Vec::new();
        for target in targets {
            let named = self.named(target);
            if named.is_empty() {
                found.extend(self.unknown(target));
            }
            named.into_iter().for_each(|id| wanted[id] = true);
        }
        if found.is_empty() { Ok((0..self.tasks.len()).filter(|id| wanted[*id]).collect()) } else { Err(found) }
    }

    /// `tasks` and everything they wait for, as a mark for each task.
    pub fn needed(&self, tasks: &[TaskId]) -> Vec<bool> {
        let mut needed = vec![false; self.tasks.len()];
        let mut queue = tasks.to_vec();
        while let Some(id) = queue.pop() {
            if !std::mem::replace(&mut needed[id], true) {
                queue.extend(&self.tasks[id].deps);
            }
        }
        needed
    }

    fn named(&self, target: &Target) -> Vec<TaskId> {
        if let Some(id) =
            target.path.as_deref().and_then(|path| RelPath::new(path).ok()).and_then(|p| self.makers.get(&p))
        {
            return vec![*id];
        }
        let of_rule: Vec<TaskId> = (0..self.tasks.len()).filter(|id| self.rule(*id).goes_by(&target.text)).collect();
        if !of_rule.is_empty() {
            return of_rule;
        }
        let pattern = target.path.as_deref().filter(|path| Pattern::is_glob(path)).and_then(|p| Pattern::new(p).ok());
        let Some(pattern) = pattern else { return Vec::new() };
        let matches = |id: &TaskId| self.tasks[*id].outputs.iter().any(|output| pattern.matches(&output.path));
        (0..self.tasks.len()).filter(matches).collect()
    }

    /// The error for a target that names nothing; a rule without items names nothing and is no mistake, nor is an
    /// output whose `when` is false.
    fn unknown(&self, target: &Target) -> Option<Error> {
        let is_skipped = target.path.as_deref().is_some_and(|path| self.skipped.contains(path));
        let groups = || self.manifest.rules.iter().flat_map(|rule| &rule.groups);
        if self.manifest.names.contains(&target.text) || groups().any(|name| *name == target.text) || is_skipped {
            return None;
        }
        let outputs = self.makers.keys().map(RelPath::as_str);
        let rules = self.manifest.names.iter().chain(groups()).map(String::as_str);
        let error = Error::new(Code::UnknownTarget, format!("no rule makes `{}`", target.text));
        let near = did_you_mean(target.path.as_deref().unwrap_or(&target.text), outputs.chain(rules));
        Some(error.hint(near.unwrap_or_else(|| "`genmake plan` lists the targets".to_owned())))
    }
}
