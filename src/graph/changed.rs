//! Which tasks are concerned by files that a person names as changed.

use std::collections::{BTreeSet, HashMap, HashSet};

use super::{Graph, Task};
use crate::manifest::{Foreach, Over, Rule};
use crate::path::{Pattern, RelPath};
use crate::selector;

/// Files that changed, came or went, and folders with all that is in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changed {
    files: BTreeSet<RelPath>,
    /// With a slash behind each; the root is empty.
    folders: Vec<String>,
}

impl Changed {
    /// These files, and all in these folders, which are empty for the root.
    pub fn new(files: BTreeSet<RelPath>, folders: impl IntoIterator<Item = String>) -> Changed {
        let with_slash = |folder: String| if folder.is_empty() { folder } else { folder + "/" };
        Changed { files, folders: folders.into_iter().map(with_slash).collect() }
    }

    /// The files, if there are no folders.
    pub fn files(&self) -> Option<&BTreeSet<RelPath>> {
        self.folders.is_empty().then_some(&self.files)
    }

    fn has(&self, path: &str) -> bool {
        self.folders.iter().any(|folder| path.starts_with(folder.as_str()))
            || RelPath::new(path).is_ok_and(|path| self.files.contains(&path))
    }
}

/// What is concerned.
pub struct Concerned {
    /// A mark for each task.
    pub tasks: Vec<bool>,
    /// Rules that may have lost items.
    rules: HashSet<String>,
    lost: HashSet<RelPath>,
    is_all: bool,
}

impl Concerned {
    /// Whether an output that no rule makes any more is so by one of the changes.
    pub fn has_lost(&self, path: &RelPath, rule: &str) -> bool {
        self.is_all || self.lost.contains(path) || self.rules.contains(rule)
    }
}

impl Graph {
    /// What is made from these files, by way of other tasks too, and what makes them. A changed Genfile, an included one or the lock
    /// (`lock`) concerns everything. `orphans` are outputs that no rule makes any more, with their rules.
    pub fn concerned<'a>(
        &self,
        changed: &Changed,
        lock: &str,
        orphans: impl Iterator<Item = (&'a RelPath, &'a str)> + Clone,
    ) -> Concerned {
        let mut sources = self.manifest.rules.iter().map(|rule| rule.place.source.name.as_str());
        let is_all =
            changed.has(lock) || changed.has(&self.manifest.source.name) || sources.any(|name| changed.has(name));
        let is_direct = |task: &Task| {
            task.sources().any(|path| changed.has(path)) || task.outputs.iter().any(|o| changed.has(o.path.as_str()))
        };
        let mut tasks: Vec<bool> = self.tasks.iter().map(|task| is_all || is_direct(task)).collect();
        let mut concerned = Concerned { tasks: Vec::new(), rules: HashSet::new(), lost: HashSet::new(), is_all };
        if !is_all {
            // What nothing reads may have gone, and have been read.
            let read: HashSet<&str> = self.tasks.iter().flat_map(Task::sources).collect();
            let is_gone = |path: &&RelPath| !read.contains(path.as_str()) && !self.makers.contains_key(*path);
            let mut gone: Vec<RelPath> = changed.files.iter().filter(is_gone).cloned().collect();
            let lost = self.manifest.rules.iter().filter(|rule| has_lost(rule, changed, &gone));
            concerned.rules = lost.map(|rule| rule.name.clone()).collect();
            for (path, rule) in orphans {
                if changed.has(path.as_str()) || concerned.rules.contains(rule) {
                    concerned.lost.insert(path.clone());
                    gone.push(path.clone());
                }
            }
            if !gone.is_empty() {
                let mut known: HashMap<String, bool> = HashMap::new();
                for (task, mark) in self.tasks.iter().zip(&mut tasks) {
                    *mark = *mark || has_missed(task, &gone, &concerned.rules, &mut known);
                }
            }
        }
        for id in self.layers.iter().flatten() {
            tasks[*id] = tasks[*id] || self.tasks[*id].deps.iter().any(|dep| tasks[*dep]);
        }
        Concerned { tasks, ..concerned }
    }
}

/// Whether a rule may have lost items.
fn has_lost(rule: &Rule, changed: &Changed, gone: &[RelPath]) -> bool {
    let overs: Vec<&Over> = match &rule.foreach {
        None => return false,
        Some(Foreach::Over(over)) => vec![over],
        Some(Foreach::Axes(axes)) => axes.iter().map(|(_, over)| over).collect(),
    };
    let is_lost = |text: &str| match selector::split(text) {
        // Which items a file has is decided by what is in it.
        Some((file, _)) => changed.has(file) || changed.files.iter().any(|path| matches(file, path)),
        None => gone.iter().any(|path| matches(text, path)),
    };
    overs.into_iter().any(|over| match over {
        Over::Text(text) => is_lost(text.text()),
        Over::Globs(globs) => globs.iter().any(|glob| is_lost(glob.text())),
        _ => false,
    })
}

/// Whether a task would read one of these files if it were there, or reads what a rule makes that lost items.
fn has_missed(task: &Task, gone: &[RelPath], rules: &HashSet<String>, known: &mut HashMap<String, bool>) -> bool {
    let is_partial = |path: &RelPath| {
        let is_kind = path.ext() == "hbs" || (path.name().starts_with('_') && path.ext() == "prompt");
        is_kind && task.recipe.as_ref().is_some_and(|recipe| recipe.dir() == path.dir())
    };
    let mut is_missed = |label: &str| {
        if let Some(rule) = label.strip_prefix("rule:") {
            return rules.contains(rule);
        }
        *known.entry(label.to_owned()).or_insert_with(|| {
            let file = selector::split(label).map_or(label, |(file, _)| file);
            file.split(", ").any(|file| gone.iter().any(|path| matches(file, path)))
        })
    };
    let inputs = task.inputs.iter().map(|input| &input.label);
    let items = task.items.iter().flat_map(|items| items.axes.iter().map(|axis| &axis.label));
    let mut labels = inputs.chain(items).chain(task.context.iter().map(|context| &context.label));
    labels.any(|label| is_missed(label)) || gone.iter().any(is_partial)
}

/// Whether a glob or a path, as written, may mean a file. What it is with variables in it, nobody knows here.
fn matches(text: &str, path: &RelPath) -> bool {
    text.contains("{{") || Pattern::new(text).is_ok_and(|pattern| pattern.matches(path))
}
