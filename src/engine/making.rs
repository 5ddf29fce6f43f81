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
use crate::manifest::OnEdit;
use crate::path::RelPath;
use crate::plan::{self, Edit, Making, Verdict};
use crate::store::{self, Action, Record};
use crate::tokens;

/// A task whose outputs are as they should be.
pub(super) struct Made {
    pub content: Vec<Digest>,
    /// For each the generated content below it, where it is a person's.
    pub bases: Vec<Option<Digest>>,
    pub status: Status,
    /// The outputs that were written; those that held these bytes already were not.
    pub written: Vec<RelPath>,
    /// Tokens that were not spent.
    pub saved: u64,
    /// What a person is to resolve before it is done.
    pub unresolved: Option<Error>,
}

impl Made {
    /// Nothing yet.
    pub fn new(status: Status) -> Made {
        Made { content: Vec::new(), bases: Vec::new(), status, written: Vec::new(), saved: 0, unresolved: None }
    }

    /// The same as what `status` says, unless it was merged.
    fn by(self, status: Status) -> Made {
        let status = if self.status == Status::Merged { Status::Merged } else { status };
        Made { status, ..self }
    }
}

/// Writes what a template rendered. What filters made of it is kept in the store: no verdict runs a command. So is what edits may
/// have to be merged with later. `frozen` runs none either, and has come here only with what goes through no filter.
pub(super) fn render(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    contents: Vec<Arc<[u8]>>,
    edits: &[Edit],
    frozen: bool,
) -> Result<Made, Error> {
    let rule = shared.graph.rule(task);
    let contents = match frozen {
        true => checked_by_reading(shared, task, &contents).map(|()| contents),
        false => conclude(shared, task, None, contents),
    };
    let contents = contents.map_err(|unfit| unfit.into_error(shared, task))?;
    let saved = contents.iter().map(|bytes| tokens::estimate(&String::from_utf8_lossy(bytes))).sum();
    let made = if rule.filters.is_empty() {
        if rule.on_edit == OnEdit::Merge {
            contents.iter().try_for_each(|bytes| edits::keep(shared, bytes))?;
        }
        write(shared, task, key, &contents, edits)?
    } else {
        finish(shared, task, key, &contents, None, Usage::default(), edits)?
    };
    Ok(Made { saved, ..made.by(Status::Rendered) })
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
    let made = write(shared, task, key, &contents, edits).map(|mut made| {
        // What the lock has as accepted is a person's also where it comes out of the store.
        for (base, known) in made.bases.iter_mut().zip(edits::bases(shared, task, key, &made.content)) {
            *base = base.or(known);
        }
        Made { saved, ..made.by(Status::Restored) }
    });
    Report::Made(task, made)
}

/// Uses the reply that a killed run left, if there is one and it passes the checks.
pub(super) fn resume(shared: &Shared, task: TaskId, key: Digest, ask: &Ask, edits: &[Edit]) -> Report {
    let outputs = shared.graph.tasks[task].outputs.len();
    let Some(texts) = shared.store.last_reply(&key).filter(|texts| texts.len() == outputs) else {
        return Report::NeedsModel(task);
    };
    let contents = texts.iter().map(|text| Arc::from(text.as_bytes())).collect();
    let contents = match conclude(shared, task, ask.schema.as_deref(), contents) {
        Ok(contents) => contents,
        Err(Unfit::Not(_)) => return Report::NeedsModel(task),
        // Another reply would fare no better.
        Err(Unfit::Broken(error)) => return Report::Made(task, Err(error)),
    };
    let made = finish(shared, task, key, &contents, Some(ask.model.clone()), Usage::default(), edits);
    Report::Made(task, made.map(|made| made.by(Status::Restored)))
}

/// Stores a good result under its key, then writes it.
pub(super) fn finish(
    shared: &Shared,
    task: TaskId,
    key: Digest,
    contents: &[Arc<[u8]>],
    model: Option<String>,
    usage: Usage,
    edits: &[Edit],
) -> Result<Made, Error> {
    store::make_folder(&shared.root)?;
    let outputs = contents.iter().map(|bytes| shared.store.put(bytes)).collect::<Result<Vec<_>, _>>()?;
    let action = Action { outputs, model, input_tokens: usage.input, output_tokens: usage.output };
    shared.store.put_action(&key, &action)?;
    Ok(write(shared, task, key, contents, edits)?.by(Status::Generated))
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

/// Writes a task's outputs: journal first, then each whole; what holds these bytes already is left alone, and so is what a
/// person's bytes are to stay in.
fn write(shared: &Shared, task: TaskId, key: Digest, contents: &[Arc<[u8]>], edits: &[Edit]) -> Result<Made, Error> {
    let outputs = &shared.graph.tasks[task].outputs;
    let mode = shared.graph.rule(task).file_mode;
    let mut made = Made::new(Status::Fresh);
    let mut records = Vec::new();
    let mut writes = Vec::new();
    for (output, bytes) in outputs.iter().zip(contents) {
        let path = &output.path;
        let place = edits::place(shared, task, path, bytes, edits)?;
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
            return Err(edits::edited(shared, task, std::slice::from_ref(path)));
        }
        // Whatever made it be overwritten: bytes that genmake did not write are kept.
        if let (Some(bytes), Some(digest)) = (&now, now_digest)
            && !edits::is_ours(shared, path, digest)
        {
            edits::keep(shared, bytes)?;
        }
        records.push(Record { path: path.clone(), content: Some(digest), key, stood: place.stood });
        writes.push((path, bytes, now_digest));
    }
    shared.announce(&records)?;
    for (path, bytes, stood) in writes {
        // Somebody may save there this very moment.
        let stamp = store::replace_output(&shared.root, path, &bytes, mode, stood).map_err(|e| match e.code {
            Code::Edited => edits::edited(shared, task, std::slice::from_ref(path)),
            _ => e,
        })?;
        shared.files.wrote(path, Digest::of(&bytes), stamp);
        made.written.push(path.clone());
    }
    Ok(made)
}

/// What a task is made by: its recipe's file, or its rule's command.
pub(super) fn made_by(shared: &Shared, task: TaskId) -> String {
    match &shared.graph.tasks[task].recipe {
        Some(recipe) => format!("`{recipe}`"),
        None => format!("the command of rule `{}`", shared.graph.rule(task).name),
    }
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
        if entry.key != key && !matches!(verdict, Verdict::Edited(_)) {
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
            (Verdict::Edited(_), _) => {}
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
