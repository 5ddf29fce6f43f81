//! Local work, as jobs: render, restore, finish. What is paid for is stored first; then journal, outputs.

use std::sync::Arc;

use serde_json::Value;

use super::running::{Unfit, checked, checked_by_reading, conclude};
use super::{Report, Shared, edits};
use crate::digest::Digest;
use crate::error::{Code, Error};
use crate::event::Status;
use crate::files::Files;
use crate::graph::TaskId;
use crate::llm::{Ask, Usage};
use crate::lock::RowKey;
use crate::manifest::OnEdit;
use crate::path::RelPath;
use crate::plan::{self, Collected, Counts, Edit, Making, Verdict, bug};
use crate::store::{self, Action, Gave, Over, Record, Write};
use crate::tokens;

/// A task whose outputs are as they should be.
#[derive(Clone)]
pub(super) struct Made {
    pub content: Vec<Digest>,
    /// For each the generated content below it, where it is a person's.
    pub bases: Vec<Option<Digest>>,
    pub status: Status,
    /// The outputs that were written; those that held these bytes already were not.
    pub written: Vec<RelPath>,
    /// Tokens that were not spent.
    pub saved: u64,
    /// What they would have cost, in USD; `None` where that is not known.
    pub saved_usd: Option<f64>,
    /// What a person is to resolve before it is done.
    pub unresolved: Option<Error>,
    /// The model that it says it is of, where its task has no request of its own.
    pub model: Option<String>,
    /// What came of a collection's items.
    pub collected: Option<Collected>,
    /// What came of texts that were to become vectors.
    pub embedded: Option<Counts>,
    /// Of a collection the keys of its rows.
    pub rows: Option<Arc<[RowKey]>>,
}

impl Made {
    /// Nothing yet.
    pub fn new(status: Status) -> Made {
        let (content, bases, written) = (Vec::new(), Vec::new(), Vec::new());
        Made {
            content,
            bases,
            status,
            written,
            saved: 0,
            saved_usd: Some(0.0),
            unresolved: None,
            model: None,
            collected: None,
            embedded: None,
            rows: None,
        }
    }

    /// The same as what `status` says, unless it was merged.
    pub fn by(self, status: Status) -> Made {
        let status = if self.status == Status::Merged { Status::Merged } else { status };
        Made { status, ..self }
    }
}

/// A task's result on its way to its outputs.
pub(super) struct Ready {
    pub task: TaskId,
    pub key: Digest,
    pub contents: Vec<Arc<[u8]>>,
    /// What becomes of a person's edits of them.
    pub edits: Arc<[Edit]>,
}

/// A result that passed, on its way to the store and then to its outputs.
pub(super) struct Good {
    pub ready: Ready,
    /// The model that wrote it; none for a command's.
    pub model: Option<String>,
    /// What it took: its share of its request's.
    pub usage: Usage,
}

/// Writes what templates rendered. What filters made of it is kept in the store: no verdict runs a command. So is what edits may
/// have to be merged with later. `frozen` runs none either, and has come here only with what goes through no filter.
pub(super) fn render_all(shared: &Shared, group: Vec<Ready>, frozen: bool) -> Vec<Result<Made, Error>> {
    let concluded: Vec<Result<Ready, Error>> =
        group.into_iter().map(|ready| concluded(shared, ready, frozen)).collect();
    let ready: Vec<&Ready> = concluded.iter().flatten().collect();
    let mut written = write_all(shared, &ready).into_iter();
    let made = concluded.iter().map(|ready| {
        let contents = &ready.as_ref().map_err(Clone::clone)?.contents;
        let made = written.next().unwrap_or_else(|| Err(bug("a result is lost")))?;
        let saved = contents.iter().map(|bytes| tokens::estimate(&String::from_utf8_lossy(bytes))).sum();
        Ok(Made { saved, ..made.by(Status::Rendered) })
    });
    made.collect()
}

/// As [`render_all`], for one task.
pub(super) fn render(shared: &Shared, ready: Ready, frozen: bool) -> Result<Made, Error> {
    render_all(shared, vec![ready], frozen).pop().unwrap_or_else(|| Err(bug("a result is lost")))
}

/// What a template rendered, as it is to be written.
fn concluded(shared: &Shared, ready: Ready, frozen: bool) -> Result<Ready, Error> {
    let Ready { task, key, contents, edits } = ready;
    let rule = shared.graph.rule(task);
    let contents = match frozen {
        true => checked_by_reading(shared, task, &contents).map(|()| contents),
        false => conclude(shared, task, None, contents),
    };
    let contents = contents.map_err(|unfit| unfit.into_error(shared, task))?;
    if !rule.filters.is_empty() {
        store(shared, &[Gave { key, contents: &contents, model: None, usage: Usage::default() }])?;
    } else if rule.on_edit == OnEdit::Merge {
        contents.iter().try_for_each(|bytes| edits::keep(shared, bytes))?;
    }
    Ok(Ready { task, key, contents, edits })
}

/// Writes what the store holds for the task's key. What turns out to be damaged is a miss: a model is asked.
/// `unchecked` says that commands are still to judge it.
pub(super) fn restore(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    digests: &[Digest],
    unchecked: bool,
    edits: &[Edit],
) -> Report {
    let outputs = &shared.graph.tasks[task].outputs;
    let mut contents = Vec::with_capacity(digests.len());
    for (output, digest) in outputs.iter().zip(digests) {
        let on_disk = shared.files.digest(&output.path).ok().flatten() == Some(*digest);
        let bytes = if on_disk { shared.files.read(&output.path).ok().flatten() } else { shared.store.get(digest) };
        match bytes {
            Some(bytes) => contents.push(bytes),
            None => return Report::Lost(task),
        }
    }
    if unchecked {
        match checked(shared, task, &contents) {
            Ok(()) => {}
            Err(Unfit::Not(complaint)) => return Report::Unfit(task, Box::new(complaint)),
            Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
        }
    }
    let action = shared.store.get_action(&key);
    let saved = action.as_ref().map_or(0, |action| action.input_tokens + action.output_tokens);
    let saved_usd = action.as_ref().map_or(Some(0.0), |action| worth(shared, task, action));
    let made = write(shared, task, key, &contents, edits).map(|mut made| {
        // What the lock has as accepted is a person's also where it comes out of the store.
        for (base, known) in made.bases.iter_mut().zip(edits::bases(shared, task, key, &made.content)) {
            *base = base.or(known);
        }
        Made { saved, saved_usd, ..made.by(Status::Restored) }
    });
    Report::Made(task, made)
}

/// What a result in the store would cost if it were asked for now, at the prices of now; `None` where they are not known.
fn worth(shared: &Shared, task: TaskId, action: &Action) -> Option<f64> {
    let Some(model) = &action.model else { return Some(0.0) };
    let took = Usage { input: action.input_tokens, output: action.output_tokens, ..Usage::default() };
    Some(shared.model(task, model).ok()?.price?.cost(took))
}

/// Uses the reply that a killed run or a round left, if there is one and it passes the checks. `usage` is what it took.
pub(super) fn resume(shared: &Shared, task: TaskId, key: Digest, ask: &Ask, usage: Usage, edits: &[Edit]) -> Report {
    let outputs = shared.graph.tasks[task].outputs.len();
    let Some(texts) = shared.store.last_reply(&key).filter(|texts| texts.len() == outputs) else {
        return Report::NeedsModel(task, None);
    };
    let contents = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
    let contents = match conclude(shared, task, ask.schema.as_deref(), contents) {
        Ok(contents) => contents,
        Err(Unfit::Not(complaint)) => {
            shared.store.reject_replies(&key);
            return Report::NeedsModel(task, Some(Box::new(complaint)));
        }
        // Another reply would fare no better.
        Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
    };
    let ready = Ready { task, key, contents, edits: edits.into() };
    let made = finish(shared, Good { ready, model: Some(ask.model.clone()), usage });
    Report::Made(task, made.map(|made| made.by(Status::Restored)))
}

/// Stores good results under their keys, then writes them.
pub(super) fn finish_all(shared: &Shared, group: &[Good]) -> Vec<Result<Made, Error>> {
    let gave = group.iter().map(|Good { ready, model, usage }| Gave {
        key: ready.key,
        contents: &ready.contents,
        model: model.clone(),
        usage: *usage,
    });
    if let Err(error) = store(shared, &gave.collect::<Vec<_>>()) {
        return group.iter().map(|_| Err(error.clone())).collect();
    }
    let ready: Vec<&Ready> = group.iter().map(|good| &good.ready).collect();
    write_all(shared, &ready).into_iter().map(|made| Ok(made?.by(Status::Generated))).collect()
}

/// As [`finish_all`], for one task.
pub(super) fn finish(shared: &Shared, good: Good) -> Result<Made, Error> {
    finish_all(shared, &[good]).pop().unwrap_or_else(|| Err(bug("a result is lost")))
}

/// Enters good results in the store under their keys.
pub(super) fn store(shared: &Shared, results: &[Gave]) -> Result<(), Error> {
    store::make_folder(&shared.root)?;
    shared.store.put_results(results)
}

/// Writes what the rule says that stands for a result where none could be had. It is not entered in the store: it is no
/// result of its key.
pub(super) fn default(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    value: &Value,
    edits: &[Edit],
) -> Result<Made, Error> {
    let contents = plan::defaults(&shared.graph, task, value);
    Ok(write(shared, task, key, &contents, edits)?.by(Status::Defaulted))
}

/// Writes one task's outputs, as [`write_all`].
fn write(shared: &Shared, task: TaskId, key: Digest, contents: &[Arc<[u8]>], edits: &[Edit]) -> Result<Made, Error> {
    let ready = Ready { task, key, contents: contents.to_vec(), edits: edits.into() };
    write_all(shared, &[&ready]).pop().unwrap_or_else(|| Err(bug("a result is lost")))
}

/// Writes the outputs of tasks: journal first, then each whole; what holds these bytes already is left alone, and so is what a
/// person's bytes are to stay in.
fn write_all(shared: &Shared, group: &[&Ready]) -> Vec<Result<Made, Error>> {
    let mut planned: Vec<Result<Planned, Error>> = group.iter().map(|ready| Planned::new(shared, ready)).collect();
    let records = planned.iter().flatten().flat_map(|planned| &planned.records).cloned().collect::<Vec<_>>();
    if let Err(error) = shared.announce(&records) {
        let is_to_write = |planned: &&mut Result<Planned, Error>| planned.as_ref().is_ok_and(|p| !p.records.is_empty());
        planned.iter_mut().filter(is_to_write).for_each(|planned| *planned = Err(error.clone()));
    }
    let to_write = planned.iter().flatten().flat_map(|planned| &planned.writes);
    let writes: Vec<Write> = to_write.map(ToWrite::write).collect();
    let mut stamps = store::write_outputs(&shared.root, &writes).into_iter();
    let made = planned.iter().map(|planned| {
        let Planned { task, made, writes, .. } = planned.as_ref().map_err(Clone::clone)?;
        let mut failed = None;
        let mut written = Vec::with_capacity(writes.len());
        for (ToWrite { path, bytes, .. }, stamp) in writes.iter().zip(stamps.by_ref()) {
            match stamp {
                Ok(stamp) => {
                    shared.files.wrote(path, Digest::of(bytes), stamp);
                    written.push((*path).clone());
                }
                // Somebody has saved there this very moment.
                Err(error) if error.code == Code::Edited => {
                    store::clear_temporary(&shared.root, &shared.store, path);
                    failed = failed.or_else(|| Some(edits::edited(shared, *task, &[], std::slice::from_ref(*path))));
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        failed.map_or(Ok(Made { written, ..made.clone() }), Err)
    });
    made.collect()
}

/// What a task's outputs are to hold, and which of them are to be written for that.
struct Planned<'a> {
    task: TaskId,
    made: Made,
    records: Vec<Record>,
    writes: Vec<ToWrite<'a>>,
}

struct ToWrite<'a> {
    path: &'a RelPath,
    bytes: Arc<[u8]>,
    mode: Option<u32>,
    /// What was seen there.
    stood: Option<Digest>,
}

impl ToWrite<'_> {
    fn write(&self) -> Write<'_> {
        Write { path: self.path, bytes: &self.bytes, mode: self.mode, over: Over::Only(self.stood) }
    }
}

impl<'a> Planned<'a> {
    fn new(shared: &'a Shared, ready: &Ready) -> Result<Planned<'a>, Error> {
        let Ready { task, key, contents, edits } = ready;
        let outputs = &shared.graph.tasks[*task].outputs;
        let mode = shared.graph.rule(*task).file_mode;
        let made = Made::new(Status::Fresh);
        let mut planned = Planned { task: *task, made, records: Vec::new(), writes: Vec::new() };
        let made = &mut planned.made;
        for (output, bytes) in outputs.iter().zip(contents) {
            let path = &output.path;
            let place = edits::place(shared, *task, path, bytes, edits)?;
            made.content.push(place.content);
            made.bases.push(place.base);
            if place.stood.is_some() {
                made.status = Status::Merged;
            }
            if place.is_conflicted && made.unresolved.is_none() {
                made.unresolved = Some(edits::unresolved(path, place.stood));
            }
            let Some(bytes) = place.bytes else { continue };
            let digest = Digest::of(&bytes);
            let now = shared.files.look(path)?;
            let now_digest = now.as_deref().map(Digest::of);
            if now_digest == Some(digest) {
                if let Some(mode) = mode
                    && store::set_mode(&shared.root, path, mode)?
                {
                    shared.files.wrote(path, digest, None);
                }
                continue;
            }
            // Somebody may have changed it since it was judged, for instance while a model was writing.
            if now_digest != shared.files.digest(path)? {
                return Err(edits::edited(shared, *task, &[], std::slice::from_ref(path)));
            }
            // Whatever made it be overwritten: bytes that genmake did not write are kept.
            if let (Some(bytes), Some(digest)) = (&now, now_digest)
                && !edits::is_ours(shared, path, digest)
            {
                edits::keep(shared, bytes)?;
            }
            planned.records.push(Record { path: path.clone(), content: Some(digest), key: *key, stood: place.stood });
            planned.writes.push(ToWrite { path, bytes, mode, stood: now_digest });
        }
        Ok(planned)
    }
}

/// What a task is made by: its recipe's file, or its rule's command.
pub(super) fn made_by(shared: &Shared, task: TaskId) -> String {
    match &shared.graph.tasks[task].recipe {
        Some(recipe) => format!("`{recipe}`"),
        None => format!("the command of rule `{}`", shared.graph.rule(task).name),
    }
}

/// That what stands there for a template is what it renders, whatever the lock says of it. What goes through filters is not
/// known without running them.
///
/// # Errors
/// [`Code::Frozen`], saying what differs; what cannot be read or rendered.
pub(super) fn as_rendered(shared: &Shared, task: TaskId, key: Digest) -> Result<Made, Error> {
    let made = plan::make(&shared.graph, task, &shared.files, &shared.recipes)?;
    let mut content = Vec::new();
    for (at, output) in shared.graph.tasks[task].outputs.iter().enumerate() {
        let there = shared.files.digest(&output.path)?;
        if let Making::Bytes(contents) = &made
            && contents.get(at).map(Digest::of) != there
        {
            let what = format!("`{}` is not what is rendered, though `{}` has it so", output.path, shared.lock_name);
            let error = Error::new(Code::Frozen, what).in_rule(&shared.graph.rule(task).name);
            return Err(error.hint(format!("`genmake -B {}` renders it anew", output.path)));
        }
        content.extend(there);
    }
    let bases = edits::bases(shared, task, key, &content);
    Ok(Made { content, bases, ..Made::new(Status::Fresh) })
}

/// That a task comes out as the lock says.
///
/// # Errors
/// [`Code::Frozen`], saying what differs.
pub(super) fn frozen(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    verdict: &Verdict,
    making: Option<&Making>,
) -> Result<(), Error> {
    let rule = &shared.graph.rule(task).name;
    let refuse = |what: String| {
        Err(Error::new(Code::Frozen, what).in_rule(rule).hint("run `genmake` without `--frozen` and commit the lock"))
    };
    let rendered = match making {
        Some(Making::Bytes(contents)) => Some(contents),
        _ => None,
    };
    for (at, output) in shared.graph.tasks[task].outputs.iter().enumerate() {
        let path = &output.path;
        let on_disk = shared.files.digest(path)?;
        let Some(entry) = shared.lock.get(path, on_disk) else {
            return refuse(format!("`{path}` is not in `{}`", shared.lock_name));
        };
        if entry.key != key && !matches!(verdict, Verdict::Edited(..)) {
            return refuse(format!(
                "`{path}` comes out otherwise than `{}` says: what it is made from has changed",
                shared.lock_name
            ));
        }
        let comes_out = match verdict {
            Verdict::Fresh | Verdict::Kept(_) => on_disk,
            Verdict::Restorable(_, digests) => digests.get(at).copied(),
            _ => rendered.and_then(|contents| contents.get(at)).map(Digest::of),
        };
        match (verdict, comes_out) {
            (Verdict::Edited(..), _) => {}
            (_, Some(digest)) if digest == entry.content => {}
            (_, Some(_)) => return refuse(format!("`{path}` comes out otherwise than `{}` says", shared.lock_name)),
            (_, None) => {
                return refuse(format!(
                    "`{path}` is neither on disk nor in the store as `{}` names it",
                    shared.lock_name
                ));
            }
        }
    }
    Ok(())
}
