//! What a person asks for by name, and the tasks that it takes.

use super::{Graph, Task, TaskId};
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

/// What a target names, in the order in which that is sought.
enum Meaning {
    Output(TaskId, RelPath),
    /// Of a rule or a group.
    Rule(Vec<TaskId>),
    Glob(Pattern),
    Nothing,
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

    /// The outputs that the targets name, each with its task, in order: of a task with several only those that are meant. All
    /// outputs if there are no targets.
    pub fn outputs(&self, targets: &[Target]) -> Vec<(TaskId, &RelPath)> {
        let meanings: Vec<Meaning> = targets.iter().map(|target| self.meaning(target)).collect();
        let is_meant = |id: TaskId, path: &RelPath| {
            meanings.is_empty()
                || meanings.iter().any(|meaning| match meaning {
                    Meaning::Output(_, named) => named == path,
                    Meaning::Rule(tasks) => tasks.contains(&id),
                    Meaning::Glob(pattern) => pattern.matches(path),
                    Meaning::Nothing => false,
                })
        };
        let tasks = self.tasks.iter().enumerate();
        let all = tasks.flat_map(|(id, task)| task.outputs.iter().map(move |output| (id, &output.path)));
        all.filter(|(id, path)| is_meant(*id, path)).collect()
    }

    /// `tasks` and everything they wait for, as a mark for each task.
    pub fn needed(&self, tasks: &[TaskId]) -> Vec<bool> {
        self.needed_but(tasks, |_, _| false)
    }

    /// The same, without what is taken as it is.
    pub fn needed_but(&self, tasks: &[TaskId], is_taken: impl Fn(TaskId, &Task) -> bool) -> Vec<bool> {
        let mut needed = vec![false; self.tasks.len()];
        let mut queue = tasks.to_vec();
        while let Some(id) = queue.pop() {
            if !std::mem::replace(&mut needed[id], true) {
                queue.extend(self.tasks[id].deps.iter().filter(|dep| !is_taken(**dep, &self.tasks[**dep])));
            }
        }
        needed
    }

    fn named(&self, target: &Target) -> Vec<TaskId> {
        match self.meaning(target) {
            Meaning::Output(id, _) => vec![id],
            Meaning::Rule(tasks) => tasks,
            Meaning::Glob(pattern) => {
                let matches = |id: &TaskId| self.tasks[*id].outputs.iter().any(|output| pattern.matches(&output.path));
                (0..self.tasks.len()).filter(matches).collect()
            }
            Meaning::Nothing => Vec::new(),
        }
    }

    fn meaning(&self, target: &Target) -> Meaning {
        let path = target.path.as_deref().and_then(|path| RelPath::new(path).ok());
        if let Some((id, path)) = path.and_then(|path| Some((*self.makers.get(&path)?, path))) {
            return Meaning::Output(id, path);
        }
        let of_rule: Vec<TaskId> = (0..self.tasks.len()).filter(|id| self.rule(*id).goes_by(&target.text)).collect();
        if !of_rule.is_empty() {
            return Meaning::Rule(of_rule);
        }
        let pattern = target.path.as_deref().filter(|path| Pattern::is_glob(path)).and_then(|p| Pattern::new(p).ok());
        pattern.map_or(Meaning::Nothing, Meaning::Glob)
    }

    /// Whether something is made below this path.
    fn is_folder(&self, path: &str) -> bool {
        let is_below = |output: &RelPath| output.as_str().strip_prefix(path).is_some_and(|rest| rest.starts_with('/'));
        self.makers.keys().any(is_below)
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
        let folder = target.path.as_deref().filter(|path| self.is_folder(path));
        if let Some(folder) = folder {
            return Some(error.hint(format!("that is a folder: `'{folder}/**'` is what is made in it")));
        }
        let near = did_you_mean(target.path.as_deref().unwrap_or(&target.text), outputs.chain(rules));
        Some(error.hint(near.unwrap_or_else(|| "`genmake plan -v` lists the targets".to_owned())))
    }
}
