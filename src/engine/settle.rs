//! The end of a run: orphans, then lock, state and journal, in the order in which a crash loses nothing.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, PoisonError};

use super::{Run, edits};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::Event;
use crate::files::Files;
use crate::graph::{KeptTask, TaskId};
use crate::lock::{Entry, Lock, RowKey};
use crate::path::RelPath;
use crate::plan::{self, End, Making, Memory, Orphan, Remembered, bug};
use crate::store::{self, Basis, BasisTask, Glance, Journal, Observed, Origin, State};

/// How many of an output's former contents are remembered as genmake's own.
const REMEMBERED: usize = 4;

/// All tasks of a project, for a run that only some of them concern.
pub struct PartOf {
    /// Which these are, among all.
    pub tasks: Vec<usize>,
    /// What says that the others are up to date.
    pub glance: Glance,
}

impl PartOf {
    /// How many others there are, and known to be up to date.
    pub fn untouched(&self) -> usize {
        if self.glance.is_partial() { 0 } else { self.glance.tasks() - self.tasks.len() }
    }
}

/// What a task left, for lock and memory.
pub(super) struct Left {
    pub task: TaskId,
    pub key: Digest,
    pub content: Vec<Digest>,
    /// For each the generated content below it, where it is a person's.
    pub bases: Vec<Option<Digest>>,
    pub parts: Vec<plan::Part>,
    pub checked: Option<Digest>,
    pub model: Option<String>,
    /// Of a collection the keys of its rows.
    pub rows: Option<Arc<[RowKey]>>,
}

impl Run<'_> {
    pub(super) fn settle(&mut self, whole: bool) -> Result<(), Error> {
        self.note_refused();
        let mut ends = (0..self.shared.graph.tasks.len()).map(|task| self.schedule.end_of(task));
        let is_all = ends.all(|end| end == Some(End::Done));
        // With another provider it may be up to date that is not with the Genfile's.
        let is_usual = self.shared.graph.manifest.instead.is_none();
        let is_settled =
            is_usual && whole && is_all && self.interrupted.is_none() && !self.orphans_left && !self.options.frozen;
        let mut lock = self.shared.lock.clone();
        let mut memory = self.shared.memory.clone();
        // A run of some targets leaves the lines of all others as they are.
        let makers = &self.shared.graph.makers;
        let is_meant =
            |path: &RelPath| self.narrowed.is_none_or(|needed| makers.get(path).is_some_and(|task| needed[*task]));
        lock.settle(|path| self.shared.files.digest(path).ok().flatten(), is_meant);
        // A task that failed may have written some of its outputs. What a command was to write was put back, or is a person's.
        let failed = |task| matches!(self.schedule.end_of(task), Some(End::Failed | End::Held));
        if (0..self.shared.graph.tasks.len()).any(failed) {
            let records = Journal::read(&self.shared.root.join(store::FOLDER));
            Journal::recall(
                records.into_iter().filter(|record| record.content.is_some() && record.stood.is_none()),
                &mut memory,
            );
        }
        for left in std::mem::take(&mut self.left) {
            let rule = self.shared.graph.rule(left.task);
            let outputs = &self.shared.graph.tasks[left.task].outputs;
            for ((output, content), base) in outputs.iter().zip(&left.content).zip(left.bases) {
                // Who wrote what is below an edit is known from before.
                let is_same = |entry: &&Entry| entry.key == left.key || base.is_some();
                let before = lock.get(&output.path, Some(*content)).filter(is_same);
                let stored = || self.shared.store.get_action(&left.key).and_then(|action| action.model);
                let known = || before.and_then(|entry| entry.model.clone()).or_else(stored);
                let rendered = || self.model_of(left.task);
                let model = || left.model.clone().or_else(known).or_else(rendered);
                let model = if rule.is_asked() { model() } else { None };
                // What is up to date has its rows from before.
                let known_rows = || before.filter(|entry| entry.content == *content)?.rows.clone();
                let rows = left.rows.clone().or_else(known_rows).filter(|_| base.is_none());
                let entry = Entry { content: *content, key: left.key, rule: rule.name.clone(), model, base, rows };
                lock.set(output.path.clone(), entry);
                // What a person wrote is not remembered as genmake's.
                if base.is_none() {
                    remember(&mut memory, &output.path, (*content, left.key));
                }
            }
            let remembered = Remembered { parts: left.parts, key: left.key, checked: left.checked };
            memory.tasks.insert(outputs[0].path.clone(), remembered);
        }
        // What is half-written is so until something whole takes its place.
        memory.half.retain(|path| {
            let now = self.shared.files.digest(path).ok().flatten();
            now.is_some() && lock.get(path, now).map(|entry| entry.content) != now
        });
        store::clear_stage(&self.shared.root, &self.shared.store);
        for output in self.unmade.iter().flat_map(|task| &self.shared.graph.tasks[*task].outputs) {
            if self.shared.files.digest_now(&output.path).is_none() {
                store::prune(&self.shared.root, &output.path);
            }
        }
        self.gone.iter().for_each(|path| lock.remove(path));
        let shared = &self.shared;
        store::sync_folders(&shared.root, self.written.iter().chain(&self.gone))?;
        let part_of = shared.part_of.lock().unwrap_or_else(PoisonError::into_inner).take();
        let text = match &part_of {
            Some(_) => lock.put_into(&shared.lock_text).ok_or_else(|| bug("a lock that was read in part"))?,
            None => lock.to_text(),
        };
        let is_new = shared.lock_text.is_empty() && lock == Lock::default();
        if !self.options.frozen && text != shared.lock_text && !is_new {
            let stamp = store::put_stamped(&shared.root.join(&shared.lock_name), text.as_bytes())?;
            store::sync_folder(&shared.root)?;
            if let Ok(path) = RelPath::new(&shared.lock_name) {
                shared.files.wrote(&path, Digest::of(&text), stamp);
            }
        }
        if let Some(ledger) = &self.ledger {
            // Without it estimates are rougher: no reason to fail.
            let _ = store::make_folder(&shared.root).and_then(|folder| store::write_ledger(&folder, ledger));
        }
        match part_of {
            Some(part_of) => self.remember_part(memory, part_of, is_settled)?,
            None => self.remember(memory, is_settled)?,
        }
        let journal = shared.journal.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match journal {
            Some(journal) => journal.finish(),
            // What a killed run left stands in lock and state by now.
            None if shared.journal_left => Journal::open(&shared.root.join(store::FOLDER))?.finish(),
            None => Ok(()),
        }
    }

    /// The model that a task would ask: it wrote what is up to date by this machine's memory alone, lock and store being lost.
    fn model_of(&self, task: TaskId) -> Option<String> {
        match plan::make(&self.shared.graph, task, &self.shared.files, &self.shared.recipes) {
            Ok(Making::Ask(ask)) => Some(ask.model),
            Ok(Making::Collection(made)) => Some(made.model().to_owned()),
            Ok(Making::Embedding(made)) => Some(made.model.clone()),
            _ => None,
        }
    }

    /// Deletes targets that no rule makes any more, unless a person changed them; what is deleted is kept in the store. Before
    /// anything is made: a command that looks around must not find what a fresh checkout does not have.
    pub(super) fn orphans(&mut self) -> Result<(), Error> {
        let orphans = std::mem::take(&mut self.plan.orphans);
        let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
        for (n, orphan) in orphans.iter().enumerate() {
            let Orphan { path, edited, rule_is_empty, rule } = orphan;
            if *rule_is_empty && edited.is_some() && !self.options.yes && !self.options.keep_orphans {
                *refused.entry(rule).or_default() += 1;
                self.orphans_left = true;
                continue;
            }
            match edited {
                Some(true) => self.orphans_left = true,
                Some(false) if self.options.keep_orphans => self.orphans_left = true,
                Some(false) => {
                    // It may have been edited since it was judged.
                    let bytes = self.shared.files.look(path)?;
                    let locked = |bytes: &Vec<u8>| self.shared.lock.get(path, Some(Digest::of(bytes)));
                    let entry = bytes.as_ref().and_then(locked);
                    if let Some(bytes) = &bytes {
                        if entry.is_none_or(|entry| !entry.is_generated(Digest::of(bytes))) {
                            let orphan = Orphan { edited: Some(true), ..orphan.clone() };
                            (self.emit)(Event::Orphaned { orphan, deleted: false });
                            self.orphans_left = true;
                            continue;
                        }
                        edits::keep(&self.shared, bytes)?;
                    }
                    // Somebody may save it this very moment: what comes out is looked at before it is gone.
                    let aside = RelPath::new(&format!("{}/orphans/{n}", store::STAGE));
                    let aside = aside.map_err(|why| bug(&format!("what is aside {why}")))?;
                    let stood = bytes.as_ref().map(Digest::of);
                    if !store::make_way(&self.shared.root, path, &aside, stood)? {
                        self.orphans_left = true;
                        let orphan = Orphan { edited: Some(true), ..orphan.clone() };
                        (self.emit)(Event::Orphaned { orphan, deleted: false });
                        continue;
                    }
                    store::remove(&self.shared.root, &aside)?;
                    store::prune(&self.shared.root, path);
                    self.shared.files.removed(path);
                    self.gone.push(path.clone());
                }
                None => {
                    // A killed run may have come no further than the file.
                    store::prune(&self.shared.root, path);
                    self.gone.push(path.clone());
                }
            }
            let deleted = *edited == Some(false) && !self.options.keep_orphans;
            if edited.is_some() {
                (self.emit)(Event::Orphaned { orphan: orphan.clone(), deleted });
            }
        }
        for (rule, count) in refused {
            let files = if count == 1 { "1 output".to_owned() } else { format!("{count} outputs") };
            let message = format!("rule `{rule}` has no items any more, and its {files} would be deleted");
            let error = Error::new(Code::NeedsYes, message)
                .hint("if that is meant, run with `--yes`; `--keep-orphans` keeps the files");
            (self.emit)(Event::Failed(error));
        }
        Ok(())
    }

    fn remember(&self, memory: Memory, is_settled: bool) -> Result<(), Error> {
        let shared = &self.shared;
        let basis = if is_settled && memory.half.is_empty() { self.basis() } else { None };
        let folder = store::make_folder(&shared.root)?;
        let state = State { taken: shared.files.begun(), stamps: shared.files.stamps(), memory };
        state.write(&folder, basis.as_ref(), &shared.origin)
    }

    /// What it rests on that everything is up to date; `None` where that is more than can be looked at.
    fn basis(&self) -> Option<Basis> {
        let shared = &self.shared;
        let graph = &shared.graph;
        let outputs: HashSet<&RelPath> = graph.makers.keys().collect();
        let observed = Observed::of(&shared.files, &outputs, &RelPath::new(&shared.lock_name).ok()?, &self.gone)?;
        let kept = graph.keep(&|path| observed.id(path))?;
        let task = |kept: KeptTask| BasisTask { bytes: kept.bytes, reads: kept.reads, outputs: kept.outputs };
        let mut names: Vec<&String> = graph.manifest.rules.iter().flat_map(|rule| &rule.env).collect();
        names.sort_unstable();
        names.dedup();
        let env = names.into_iter().map(|name| (name.clone(), graph.env.get(name).map(Digest::of)));
        Some(Basis {
            genfile: graph.manifest.source.name.clone(),
            env: env.collect(),
            observed,
            tasks: kept.tasks.into_iter().map(task).collect(),
            lists: kept.lists,
        })
    }

    /// As [`Run::remember`], for a run that concerned only some of the tasks.
    fn remember_part(&self, memory: Memory, part_of: PartOf, is_settled: bool) -> Result<(), Error> {
        let shared = &self.shared;
        let began = part_of.glance.began();
        if is_settled && memory.half.is_empty() {
            let files = shared.files.seen();
            if let Some(noted) = part_of.glance.note(&files, &part_of.tasks, &memory) {
                return noted;
            }
        }
        // What the others were is kept, and is for the next run to judge.
        let folder = store::make_folder(&shared.root)?;
        let (mut state, _) = State::read(&folder).unwrap_or_default();
        // What was too young to be trusted is no older for having been left alone.
        state.stamps.retain(|_, (stamp, _)| !stamp.is_racy(state.taken));
        state.taken = began;
        state.stamps.extend(shared.files.stamps());
        state.memory.outputs.extend(memory.outputs);
        state.memory.tasks.extend(memory.tasks);
        state.memory.half.extend(memory.half);
        state.write(&folder, None, &Origin::default())
    }
}

fn remember(memory: &mut Memory, path: &RelPath, record: (Digest, Digest)) {
    let written = memory.outputs.entry(path.clone()).or_default();
    if written.last() == Some(&record) {
        return;
    }
    written.retain(|old| *old != record);
    written.push(record);
    let surplus = written.len().saturating_sub(REMEMBERED);
    written.drain(..surplus);
}

/// Whether a failure is one that a rule can be prepared for: of its provider, its command, or of what they made.
pub(super) fn is_of_the_recipe(code: Code) -> bool {
    matches!(
        code,
        Code::Provider
            | Code::Truncated
            | Code::Malformed
            | Code::Refused
            | Code::CheckFailed
            | Code::CommandFailed
            | Code::NotMade
            | Code::StartFailed
            | Code::Key
            | Code::TooLong
            | Code::NoResult
    )
}
