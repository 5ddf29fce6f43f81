//! What is up to date, what is not and why, and what would be done about it. Pure: files, lock, memory and store are asked
//! through traits, so every command that judges reaches the same verdict.
//!
//! A plan looks through what can be known without asking a model: a stale template is rendered in memory, and what depends on
//! it is judged by those bytes. Only what waits for a model's answer stays open until the answer is there.

mod checks;
mod collection;
mod context;
mod embedding;
mod key;
mod making;
mod overlay;
mod stale;
mod windows;

// What is to be sent, and how a run goes.
#[cfg(feature = "run")]
mod embedded;
#[cfg(feature = "run")]
mod leaks;
#[cfg(feature = "run")]
mod models;
#[cfg(feature = "run")]
mod pieces;
#[cfg(feature = "run")]
mod requests;
#[cfg(feature = "run")]
mod results;
#[cfg(feature = "run")]
mod schedule;
#[cfg(feature = "run")]
mod travel;

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::files::Files;
use crate::graph::{Graph, Output, TaskId};
use crate::lock::Lock;
use crate::merge;
use crate::parallel;
use crate::path::RelPath;

use checks::Checked;
use overlay::Overlay;
use stale::{Means, OutputFacts};

pub use checks::{passed, tests};
pub use collection::{Collection, Piece};
pub use embedding::{Embedding, Row as EmbeddingRow};
pub use key::{Lists, Part, PartKind};
pub use making::{Making, Recipes, commands, defaults, make};
pub use stale::{Edit, Fate, Memory, Reason, Remembered, Verdict, Wish, no_base};

#[cfg(feature = "run")]
pub use {
    embedded::{Counts, halves, requests, rows_there, standing_vectors},
    leaks::{no_secret_in, stop as no_secret},
    models::Models,
    pieces::{Collected, Said},
    requests::{Experience, Plan, judge_to_send, making, plan},
    results::{Rows, results_in},
    schedule::{End, Schedule, Step},
    travel::{texts_batch, travel, window_shape},
};

/// What the store can say without being read through.
pub trait Stored: Sync {
    /// The outputs' digests that this action key gave, if all of them are still held.
    fn action(&self, key: &Digest) -> Option<Vec<Digest>>;

    /// Whether a blob is held.
    fn has(&self, blob: &Digest) -> bool;

    /// Whether a model's reply for this action key is held that nobody has found unfit.
    fn has_reply(&self, key: &Digest) -> bool;

    /// What vectors are held of.
    fn vector_keys(&self) -> HashSet<Digest>;

    /// Whether a round is under way that is to bring a result for this action key.
    fn is_submitted(&self, key: &Digest) -> bool;

    /// The content that was generated at a path once, wherever it can still be had.
    fn base(&self, path: &RelPath, content: &Digest) -> Option<Arc<[u8]>>;
}

/// Everything that verdicts and plans rest on.
pub struct Ground<'a> {
    /// The tasks.
    pub graph: &'a Graph,
    /// The tree.
    pub files: &'a dyn Files,
    /// The lock.
    pub lock: &'a Lock,
    /// What this machine remembers.
    pub memory: &'a Memory,
    /// The store.
    pub store: &'a dyn Stored,
    /// Compiled recipes.
    pub recipes: &'a Recipes,
    /// Digests of lists, good for a run; a plan has its own.
    pub lists: &'a Lists,
    /// What a person asked for.
    pub wish: Wish,
    /// Files that are taken as changed: `-W`.
    pub assumed: &'a BTreeSet<RelPath>,
}

impl Ground<'_> {
    /// Of the files that are taken as changed those that a task is made from.
    pub fn assumed(&self, id: TaskId) -> Vec<RelPath> {
        if self.assumed.is_empty() {
            return Vec::new();
        }
        let assumed: BTreeSet<&RelPath> =
            self.graph.tasks[id].sources().filter_map(|path| self.assumed.get(path)).collect();
        assumed.into_iter().cloned().collect()
    }
}

/// A task, judged.
#[derive(Debug, Clone)]
pub struct Judged {
    /// What it is.
    pub verdict: Verdict,
    /// Its action key; none while it waits.
    pub key: Option<Digest>,
    /// What it is made from; empty while it waits.
    pub parts: Vec<Part>,
    /// The rendered recipe, where it had to be rendered.
    pub making: Option<Making>,
    /// Which checks the result that is there passed, as a digest of both; none without checks.
    pub checked: Option<Digest>,
    /// Whether commands are still to judge the result that is there: deciding runs none.
    pub unchecked: bool,
    /// Edits by hand of its outputs.
    pub edits: Vec<Edit>,
    /// Whether a run that did not come to its end left a model's reply for it: that is used, if it passes the checks.
    pub is_replied: bool,
    /// Whether a round is under way that is to bring its result: it is not asked for again meanwhile.
    pub is_submitted: bool,
    /// Of a collection the pieces that a model would be asked for; filled in where they are to be sent.
    pub missing: Vec<usize>,
}

/// A target in the lock that no rule makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Orphan {
    /// Where.
    pub path: RelPath,
    /// The rule that made it.
    pub rule: String,
    /// Whether a person changed it; `None` if it is not there any more, or a source by now.
    pub edited: Option<bool>,
    /// Whether its rule stands and lost all its items: a mistake in a glob, perhaps.
    pub rule_is_empty: bool,
}

/// All tasks of a graph, judged: `None` for those that were not asked for, an error for those that cannot be judged.
pub type Verdicts = Vec<Option<Result<Judged, Error>>>;

/// Judges the tasks that `needed` marks by `judge`, which is [`self::judge`] where nothing is to be sent, on so many threads; on as many
/// as there are cores for 0.
pub fn verdicts(
    ground: &Ground,
    needed: &[bool],
    threads: usize,
    judge: impl Fn(&Ground, TaskId, &dyn Files) -> Result<Judged, Error> + Sync,
) -> Verdicts {
    let mut tasks = Verdicts::new();
    tasks.resize_with(ground.graph.tasks.len(), || None);
    let mut overlay = Overlay::new(ground.files);
    // What a run will really find may be another thing than what is foreseen here.
    let ground = &Ground { lists: &Lists::default(), ..*ground };
    for layer in &ground.graph.layers {
        let wanted: Vec<TaskId> = layer.iter().copied().filter(|id| needed[*id]).collect();
        let judged = parallel::map(threads, wanted, |id| {
            let open = ground.graph.tasks[id].deps.iter().copied().filter(|dep| is_open(tasks[*dep].as_ref()));
            let open: Vec<TaskId> = open.collect();
            (id, if open.is_empty() { judge(ground, id, &overlay) } else { Ok(waiting(ground, id, open)) })
        });
        for (id, judged) in judged {
            if let Ok(judged) = &judged {
                overlay.add(ground, id, judged);
            }
            tasks[id] = Some(judged);
        }
    }
    tasks
}

/// Whether what a task leaves cannot be known yet.
fn is_open(judged: Option<&Result<Judged, Error>>) -> bool {
    match judged {
        // What a merge comes to is known when it is done.
        Some(Ok(judged)) if judged.edits.iter().any(|edit| edit.fate == Fate::Merged) => true,
        Some(Ok(judged)) => match (&judged.verdict, &judged.making) {
            (Verdict::Fresh | Verdict::Kept(_) | Verdict::Restorable(..), _) => false,
            // What is only taken as changed says nothing of what an edit would make of it.
            (Verdict::Stale(why), Some(Making::Bytes(_))) => why.iter().any(|why| matches!(why, Reason::Assumed(_))),
            (Verdict::Stale(_) | Verdict::Edited(..) | Verdict::Waiting(_), _) => true,
        },
        _ => true,
    }
}

/// A task that cannot be judged before others are made.
fn waiting(ground: &Ground, id: TaskId, on: Vec<TaskId>) -> Judged {
    // What cannot be read is said when the task is judged.
    let facts = facts(ground, id).unwrap_or_default();
    Judged {
        verdict: Verdict::Waiting(on),
        key: None,
        parts: Vec::new(),
        making: None,
        checked: None,
        unchecked: false,
        edits: facts.iter().filter_map(stale::edit_by_record).collect(),
        is_replied: false,
        is_submitted: false,
        missing: Vec::new(),
    }
}

/// Judges one task by the files as they are.
///
/// # Errors
/// What cannot be read or rendered.
pub fn judge(ground: &Ground, id: TaskId, files: &dyn Files) -> Result<Judged, Error> {
    let graph = ground.graph;
    let in_rule = |e: Error| {
        let rule = graph.rule(id);
        e.in_rule(&rule.name).at(rule.place.clone())
    };
    let mut making = None;
    let mut render = || -> Result<Making, Error> {
        match &making {
            Some(made) => Ok(Making::clone(made)),
            None => Ok(making.insert(making::make(graph, id, files, ground.recipes).map_err(in_rule)?).clone()),
        }
    };
    let remembered = ground.memory.tasks.get(graph.name(id));
    if remembered.is_none() && graph.rule(id).is_rendered() {
        // It will be rendered whatever its parts are: what that reads is not read once more for a digest.
        render()?;
    }
    let parts = key::parts(graph, id, files, ground.lists).map_err(in_rule)?;
    let key = match remembered {
        Some(task) if task.parts == parts => task.key,
        _ => {
            let filters = filters(graph, id, files).map_err(in_rule)?;
            key::action_key(graph, id, &render()?, &filters, files, ground.lists).map_err(in_rule)?
        }
    };
    let mut facts = facts(ground, id).map_err(in_rule)?;
    let is_rendered = graph.rule(id).is_rendered();
    // What is rendered is at hand without a store; what a person accepted in its place is not.
    let is_accepted = |fact: &OutputFacts| fact.locked.is_some_and(|entry| entry.base.is_some());
    let stored = if is_rendered && !facts.iter().any(is_accepted) { None } else { stored(ground, key, &facts) };
    let can_merge = |path: &RelPath, base: Digest| {
        let is_text = |bytes: Option<Arc<[u8]>>| bytes.is_some_and(|bytes| merge::is_text(&bytes));
        is_text(ground.files.read(path).unwrap_or_default()) && is_text(ground.store.base(path, &base))
    };
    let is_conflicted =
        |path: &RelPath| ground.files.read(path).unwrap_or_default().is_some_and(|bytes| merge::is_conflicted(&bytes));
    let on_edit = graph.rule(id).on_edit;
    let means = Means { on_edit, can_merge: &can_merge, is_conflicted: &is_conflicted };
    let locked_model = facts.iter().find_map(|fact| fact.locked.and_then(|entry| entry.model.clone()));
    let why = || why_key_moved(remembered, &parts, locked_model.clone());
    let assumed = ground.assumed(id);
    let wish = Wish { rebuild: ground.wish.rebuild || !assumed.is_empty(), ..ground.wish };
    let (mut verdict, mut edits) = stale::judge(key, &facts, stored.clone(), why, wish, &means);
    if is_rendered && !matches!(verdict, Verdict::Fresh) {
        // What stands there may be just what would be written.
        if let Making::Bytes(bytes) = render()? {
            for (fact, bytes) in facts.iter_mut().zip(&bytes) {
                fact.would_be = Some(Digest::of(bytes));
            }
        }
        (verdict, edits) = stale::judge(key, &facts, stored, why, wish, &means);
    }
    if let (Verdict::Stale(why), false) = (&mut verdict, assumed.is_empty()) {
        why.retain(|why| *why != Reason::Forced || ground.wish.rebuild);
        why.extend(assumed.into_iter().map(Reason::Assumed));
    }
    let mut of_checks = Checked::default();
    // Checks are for results: what a person accepted stands above them.
    if let Some(there) = result_there(&verdict, &facts).filter(|_| !facts.iter().any(|fact| accepts(fact, key))) {
        match checks::judge(ground, id, &verdict, &there, remembered, files).map_err(in_rule)? {
            Ok(checked) => of_checks = checked,
            Err(complaint) => {
                let mut why = match verdict {
                    Verdict::Stale(why) | Verdict::Restorable(why, _) => why,
                    _ => Vec::new(),
                };
                why.push(Reason::CheckFailed(complaint.message));
                verdict = Verdict::Stale(why);
            }
        }
    }
    let (mut is_replied, mut is_submitted) = (false, false);
    if let Verdict::Stale(why) = &verdict {
        render()?;
        // What is wanted anew is asked for anew.
        let is_anew = wish.rebuild || why.iter().any(|why| matches!(why, Reason::CheckFailed(_)));
        is_replied = !is_anew && graph.rule(id).is_prompt() && ground.store.has_reply(&key);
        is_submitted = !is_replied && graph.rule(id).is_prompt() && ground.store.is_submitted(&key);
        // A check that cannot be held against anything is found out before a result is paid for.
        tests(graph, id, files, ground.recipes).map_err(in_rule)?;
    }
    Ok(Judged {
        verdict,
        key: Some(key),
        parts,
        making,
        checked: of_checks.passed,
        unchecked: of_checks.unchecked,
        edits,
        is_replied,
        is_submitted,
        missing: Vec::new(),
    })
}

/// Whether the lock has a person's content for this key.
fn accepts(fact: &OutputFacts, key: Digest) -> bool {
    fact.locked.is_some_and(|entry| entry.base.is_some() && entry.key == key)
}

/// What is known of each output of a task, by the files as they are.
fn facts<'a>(ground: &Ground<'a>, id: TaskId) -> Result<Vec<OutputFacts<'a>>, Error> {
    let fact = |output: &'a Output| {
        let on_disk = ground.files.digest(&output.path)?;
        Ok(OutputFacts {
            path: &output.path,
            on_disk,
            locked: ground.lock.get(&output.path, on_disk),
            written: ground.memory.outputs.get(&output.path).map_or(&[][..], Vec::as_slice),
            half: ground.memory.half.contains(&output.path),
            would_be: None,
        })
    };
    ground.graph.tasks[id].outputs.iter().map(fact).collect()
}

/// The digests of a result that is there already, on disk or in the store.
fn result_there(verdict: &Verdict, facts: &[OutputFacts]) -> Option<Vec<Digest>> {
    match verdict {
        Verdict::Fresh => facts.iter().map(|fact| fact.on_disk).collect(),
        Verdict::Restorable(_, digests) => Some(digests.clone()),
        _ => None,
    }
}

/// The commands that each output of a task goes through, with the values in them, one output after the other.
///
/// # Errors
/// A variable that is not there, or an input that cannot be read.
pub fn filters(graph: &Graph, id: TaskId, files: &dyn Files) -> Result<Vec<String>, Error> {
    let mut filters = Vec::new();
    for output in &graph.tasks[id].outputs {
        filters.extend(commands(graph, id, graph.rule(id).filters.iter(), output.path.as_str(), files)?);
    }
    Ok(filters)
}

/// The result that can be had without asking: the lock's content for this key before any other that the store has for it.
fn stored(ground: &Ground, key: Digest, facts: &[OutputFacts]) -> Option<Vec<Digest>> {
    // Where an accepted edit was taken back, what is generated for this key is wanted again.
    let of_key = |fact: &OutputFacts| {
        let entry = fact.locked.filter(|entry| entry.key == key)?;
        (entry.base.is_none() || entry.base != fact.on_disk).then_some(entry.content)
    };
    let locked: Option<Vec<Digest>> = facts.iter().map(of_key).collect();
    let held = |digests: &Vec<Digest>| {
        digests.iter().zip(facts).all(|(digest, fact)| fact.on_disk == Some(*digest) || ground.store.has(digest))
    };
    locked.filter(held).or_else(|| ground.store.action(&key))
}

fn why_key_moved(remembered: Option<&Remembered>, parts: &[Part], locked_model: Option<String>) -> Vec<Reason> {
    let reasons = remembered.map(|task| stale::changed(&task.parts, parts)).unwrap_or_default();
    if !reasons.is_empty() {
        return reasons;
    }
    // Without a record on this machine the lock still names the model.
    let to = parts.iter().find(|part| part.kind == PartKind::Model).map(|part| part.name.clone());
    match (locked_model, to) {
        (Some(from), Some(to)) if from != to && !to.is_empty() => vec![Reason::ModelChanged { from, to }],
        _ => vec![Reason::InputChanged(None)],
    }
}

/// The targets in the lock that no rule makes.
///
/// # Errors
/// A file that cannot be read.
pub fn orphans(graph: &Graph, files: &dyn Files, lock: &Lock) -> Result<Vec<Orphan>, Error> {
    let mut orphans = Vec::new();
    let is_made = |path: &RelPath| graph.makers.contains_key(path) || graph.skipped.contains(path);
    let without_rule: Vec<_> = lock.iter().filter(|(path, _)| !is_made(path)).collect();
    let read = if without_rule.is_empty() { HashSet::new() } else { graph.read_files() };
    for (path, first) in without_rule {
        // What a task reads has become a source: it stays, and is genmake's no more.
        let on_disk = if read.contains(path) { None } else { files.digest(path)? };
        let entry = lock.get(path, on_disk).unwrap_or(first);
        orphans.push(Orphan {
            path: path.clone(),
            rule: entry.rule.clone(),
            // What was accepted is a person's as well.
            edited: on_disk.map(|digest| !entry.is_generated(digest)),
            rule_is_empty: graph.empty_rules.contains(&entry.rule),
        });
    }
    Ok(orphans)
}

/// An error for a bug: something that the stages before should have made impossible.
pub fn bug(what: &str) -> Error {
    Error::new(Code::Bug, format!("a mistake in genmake itself: {what}")).hint("please report it")
}
